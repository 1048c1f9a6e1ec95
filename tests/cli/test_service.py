"""overcommitd as a unit of systemd: what is written, and what is left alone."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from overcommit.apply.returning import LONGEST_SECONDS
from overcommit.cli import service
from tests.cli.conftest import Ended, Run

REFUSED, UNSUPPORTED, USAGE = 4, 5, 64


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the programs are, and units go to."""
    directory = tmp_path / "opt" / "bin"
    directory.mkdir(parents=True)
    for name in ("overcommitd", "overcommitctl"):
        (directory / name).write_text("#!/bin/sh\n")
        (directory / name).chmod(0o755)
    link = tmp_path / "overcommitctl"
    link.symlink_to(directory / "overcommitctl")
    monkeypatch.setattr(service, "DIRECTORY", tmp_path / "etc" / "units")
    # `run` names the program as a shell would find it; a script is told its whole path.
    monkeypatch.setattr("overcommit.cli.service.Path", lambda _argument: Path(link))
    return directory


def written(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "units" / "overcommitd.service"


def value(unit: str, key: str) -> str:
    (found,) = re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)
    return str(found)


def test_the_unit_runs_the_programs_that_belong_together(run: Run, programs: Path) -> None:
    unit = run("service", "--print", "--", "--policy", "/etc/a b.yaml", "--group", "50%$x").out
    assert value(unit, "ExecStart") == f'{programs}/overcommitd --policy "/etc/a b.yaml" --group "50%%$$x"'
    assert value(unit, "ExecStopPost") == f"{programs}/overcommitctl restore -q"
    assert "@" not in re.sub(r"@(system-service|privileged|resources)", "", unit)


def test_systemd_waits_for_longer_than_restore_does(run: Run, programs: Path) -> None:
    assert programs.name == "bin"
    assert value(run("service", "--print").out, "TimeoutStopSec") == "5min"
    assert LONGEST_SECONDS + 30.0 < 300.0


def test_what_the_unit_promises(run: Run, programs: Path) -> None:
    unit = run("service", "--print").out
    assert programs.name == "bin"
    expected = {
        "Type": "notify",
        "NotifyAccess": "main",
        "WatchdogSec": "60",
        "Restart": "on-failure",
        "StateDirectory": "overcommit",
        "RuntimeDirectory": "overcommit",
        "MemoryMin": "64M",
        "OOMScoreAdjust": "-900",
        "RestrictAddressFamilies": "AF_UNIX",
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
    }
    assert {key: value(unit, key) for key in expected} == expected
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.read_string(unit)
    assert parsed.sections() == ["Unit", "Service", "Install"]


def test_systemd_understands_the_unit(run: Run, programs: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    assert programs.is_dir()
    run("service", "--install")
    checked = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", written(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in checked.stderr.splitlines() if "overcommitd.service" in line]
    assert complaints == []


def test_install_again_and_remove(run: Run, programs: Path, tmp_path: Path) -> None:
    assert programs.is_dir()
    for options in ((), ("--", "--take-over")):
        ended = run("service", "--install", *options)
        assert (ended.status, ended.out) == (0, f"wrote {written(tmp_path)}\n")
        assert ended.err == "then: systemctl daemon-reload && systemctl enable --now overcommitd\n"
    assert value(written(tmp_path).read_text(), "ExecStart").endswith("overcommitd --take-over")
    assert written(tmp_path).stat().st_mode & 0o777 == 0o644
    ended = run("service", "--remove", "--json")
    assert json.loads(ended.out) == {"kind": "service", "path": str(written(tmp_path)), "installed": False}
    assert not written(tmp_path).exists()
    assert run("service", "--remove").status == REFUSED


@pytest.mark.parametrize("option", ["--install", "--remove"])
def test_a_unit_of_somebody_else_is_left_alone(run: Run, programs: Path, tmp_path: Path, option: str) -> None:
    assert programs.is_dir()
    written(tmp_path).parent.mkdir(parents=True)
    written(tmp_path).write_text("[Unit]\n")
    ended = run("service", option)
    assert ended.status == REFUSED
    assert f"error: {written(tmp_path)} was not written by overcommitctl service" in ended.err
    assert written(tmp_path).read_text() == "[Unit]\n"


def test_where_the_daemon_is_not_installed(run: Run, programs: Path) -> None:
    (programs / "overcommitd").unlink()
    assert run("service", "--install") == Ended(
        UNSUPPORTED, "", f"error: no overcommitd in {programs}\nhint:  install the package: pip install\n"
    )


@pytest.mark.parametrize("options", [(), ("--print", "--install")])
def test_one_thing_at_a_time(run: Run, options: tuple[str, ...]) -> None:
    assert run("service", *options).status == USAGE
