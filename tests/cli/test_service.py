"""overcommitd as a unit of systemd: what is written, and what is left alone."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from overcommit.apply.returning import LONGEST_SECONDS
from overcommit.cli import service
from overcommit.damon.owners import ModuleOwner, Owner
from overcommit.errors import Conflict, PolicyError, Refused, Unsupported, UsageError
from tests.cli.conftest import Ended, Run

WITH_OPTIONS = """echo 'OVERCOMMITD_OPTIONS=--policy '"'"'/etc/a b.yaml'"'"'' >/etc/sysconfig/overcommitd"""
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
    monkeypatch.setattr(service, "PACKAGED", tmp_path / "lib" / "overcommitd.service")
    monkeypatch.setattr(service, "find_owners", lambda _kernel, _sysfs: ())
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
        "RestartPreventExitStatus": "4 5 64",
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
    told = {"kind": "service", "path": str(written(tmp_path)), "installed": False, "conflicts": []}
    assert json.loads(ended.out) == told
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


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ((), "systemctl enable --now overcommitd"),
        (
            ("--", "--policy", "/etc/a b.yaml"),
            f"{WITH_OPTIONS} && systemctl enable overcommitd && systemctl restart overcommitd",
        ),
    ],
)
def test_a_package_has_the_one_unit_that_there_is(
    run: Run, programs: Path, tmp_path: Path, options: tuple[str, ...], hint: str
) -> None:
    assert programs.is_dir()
    packaged = tmp_path / "lib" / "overcommitd.service"
    packaged.parent.mkdir()
    packaged.write_text("[Service]\nEnvironmentFile=-/etc/sysconfig/overcommitd\n")
    ended = run("service", "--install", *options)
    assert ended.status == REFUSED
    assert (
        ended.err
        == f"error: a package has installed {packaged}: a second unit would hide it\nhint:  {hint}\n"
    )
    assert not written(tmp_path).exists()


def test_where_the_daemon_is_not_installed(run: Run, programs: Path) -> None:
    (programs / "overcommitd").unlink()
    assert run("service", "--install") == Ended(
        UNSUPPORTED,
        "",
        f"error: no overcommitd in {programs}\nhint:  install the whole package: "
        f"overcommitd belongs beside overcommitctl\n",
    )


@pytest.mark.parametrize("options", [(), ("--print", "--install")])
def test_one_thing_at_a_time(run: Run, options: tuple[str, ...]) -> None:
    assert run("service", *options).status == USAGE


def test_what_is_no_better_in_five_seconds_is_not_tried_again(run: Run, programs: Path) -> None:
    """systemd.service(5): these statuses of the main process prevent a restart, whatever Restart= says."""
    assert programs.is_dir()
    prevented = set(map(int, value(run("service", "--print").out, "RestartPreventExitStatus").split()))
    lasting = {kind.exit_code for kind in (Refused, Conflict, Unsupported, UsageError, PolicyError)}
    assert prevented == lasting
    assert 1 not in prevented, "a host that said no may say yes"


STAT = ModuleOwner(
    module="damon_stat",
    what="the kernel module damon_stat runs DAMON",
    hint="x",
    can_take_over=True,
)
DAMO = Owner(what="kdamond 0 is another tool's", hint="stop it with damo stop", can_take_over=False)


def test_a_kernel_that_uses_damon_itself_is_told_of_and_the_command_for_it_works(
    run: Run, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert programs.is_dir()
    monkeypatch.setattr(service, "find_owners", lambda _kernel, _sysfs: (STAT,))
    ended = run("service", "--install", "--", "--policy", "/etc/a b.yaml")
    assert (ended.status, ended.out) == (0, f"wrote {written(tmp_path)}\n")
    refused, why, again, then = ended.err.splitlines()
    assert refused == "overcommitd will not start: the kernel module damon_stat runs DAMON"
    assert why.startswith("To let overcommitd turn it off")
    assert then.startswith("then: systemctl ")
    program, *arguments = shlex.split(again)
    assert program == "overcommitctl"
    ended = run(*arguments)
    assert (ended.status, ended.err) == (0, f"{then}\n")
    assert value(written(tmp_path).read_text(), "ExecStart").endswith('--policy "/etc/a b.yaml" --take-over')
    told = json.loads(run("service", "--install", "--json").out)
    assert (told["installed"], told["conflicts"]) == (True, [STAT.what])


@pytest.mark.parametrize("agrees", [True, False])
def test_who_is_at_a_terminal_is_asked(
    run: Run, programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    assert programs.is_dir()
    monkeypatch.setattr(service, "find_owners", lambda _kernel, _sysfs: (STAT,))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr(service, "agreed", lambda _question: agrees)
    ended = run("service", "--install")
    assert value(written(tmp_path).read_text(), "ExecStart").endswith("--take-over") is agrees
    assert ("will not start" in ended.err) is not agrees


def test_another_tool_is_not_moved_aside(run: Run, programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert programs.is_dir()
    monkeypatch.setattr(service, "find_owners", lambda _kernel, _sysfs: (DAMO, STAT))
    ended = run("service", "--install", "--", "--take-over")
    assert f"overcommitd will not start: {DAMO.what}\nfirst: {DAMO.hint}\n" in ended.err
