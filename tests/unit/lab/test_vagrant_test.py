"""What `make vagrant-test` does with its machines, with a Vagrant and a pytest that only take notes."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "vagrant/test.sh"
NOTES = 'echo "$(basename "$0") $*" >>"$NOTES"\n'
VAGRANT = f"#!/bin/bash\n{NOTES}" + 'case $1 in status) echo "1,$3,state,${STATE:-not_created}" ;; esac\n'
PYTEST = (
    "#!/bin/bash\n"
    'trap \'sleep 0.3; echo "put in order" >>"$NOTES"; exit 2\' INT\n'
    f"{NOTES}"
    '[ -z "${HANGS:-}" ] || while :; do sleep 0.1; done\n'
    'exit "${ENDS:-0}"\n'
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "vagrant").mkdir()
    shutil.copy(SCRIPT, tmp_path / "vagrant/test.sh")
    for path, text in ((tmp_path / "bin/vagrant", VAGRANT), (tmp_path / ".venv/bin/pytest", PYTEST)):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def begin(checkout: Path, *machines: str, **settings: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ, "PATH": f"{checkout / 'bin'}:{os.environ['PATH']}", "NOTES": str(checkout / "notes"),
        **settings,
    }  # fmt: skip
    command = [str(checkout / "vagrant/test.sh"), *machines]
    return subprocess.Popen(command, env=environment, text=True, stderr=subprocess.PIPE)


def notes(checkout: Path) -> list[str]:
    return (checkout / "notes").read_text().splitlines()


def test_both_kernels_by_default_and_nothing_is_left(checkout: Path) -> None:
    running = begin(checkout, SUITE="--all --kills 5")
    _, said = running.communicate()
    assert running.returncode == 0, said
    ran = [line for line in notes(checkout) if line.startswith("pytest")]
    assert sorted(ran) == [
        f"pytest integration/suite --host vagrant --kernel {kernel} -v --all --kills 5"
        for kernel in ("6.12", "7.3")
    ]
    assert notes(checkout)[-1] == "vagrant destroy --force host-7-3 host-6-12"
    assert not (checkout / "artifacts").exists()


def test_one_that_exists_is_left_alone(checkout: Path) -> None:
    running = begin(checkout, "host1", STATE="running")
    assert "host1 exists" in running.communicate()[1]
    assert running.returncode == 1
    assert notes(checkout) == ["vagrant status --machine-readable host1"]


def test_a_failure_leaves_the_journals(checkout: Path) -> None:
    running = begin(checkout, "host-7-3", ENDS="1")
    assert "failed: artifacts/vagrant/ has the journals" in running.communicate()[1]
    assert running.returncode == 1
    assert (checkout / "artifacts/vagrant/host-7-3.journal").exists()
    assert [line.split()[1] for line in notes(checkout)[-2:]] == ["ssh", "destroy"]


def test_machines_stay_until_interrupted_suites_have_put_them_in_order(checkout: Path) -> None:
    running = begin(checkout, HANGS="1")
    while not (checkout / "notes").exists() or sum(n.startswith("pytest") for n in notes(checkout)) < 2:
        time.sleep(0.05)
        assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 143
    told = notes(checkout)
    assert told.count("put in order") == 2
    assert told[-1] == "vagrant destroy --force host-7-3 host-6-12"
