"""What the program does where DAMON is known to hang: no command that can meet a kdamond's end.

Between Linux 6.14 and 7.1 a command that meets it hangs for ever. Turning a kdamond on or off is none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.damon.faults import FAULTS, known_faults
from overcommit.damon.sysfs import ROOT
from tests.faults.conftest import install


@pytest.mark.parametrize("version", [(6, 14), (6, 17), (7, 0)])
@pytest.mark.parametrize("actor", ["damos-fvaddr", "damos-paddr"])
def test_kdamonds_get_no_command_but_on_and_off(tmp_path: Path, actor: str, version: tuple[int, int]) -> None:
    assert known_faults(f"{version[0]}.{version[1]}.0-generic") == FAULTS
    installation = install(tmp_path / "state", actor)
    installation.kernel.damon.version = version
    commands: list[str] = []

    def wrote(path: str, value: str) -> None:
        if path.startswith(ROOT) and path.endswith("/state"):
            commands.append(value)

    installation.host.on_write = wrote
    plan = installation.plan()
    assert plan.runnable
    installation.apply(plan)
    installation.host.guests[0].pid += 1000  # its process ended, and the kdamond may as well
    installation.restore()
    assert set(commands) == {"on", "off"}


@pytest.mark.parametrize("version", [(6, 14), (7, 0)])
def test_a_monitor_does_not_end_with_its_guest(tmp_path: Path, version: tuple[int, int]) -> None:
    """It watches a page of ours too, and ours is there as long as somebody gives commands."""
    installation = install(tmp_path / "state", "damos-fvaddr")
    installation.kernel.damon.version = version
    targets: list[str] = []

    def wrote(path: str, value: str) -> None:
        if path.endswith("/contexts/0/targets/nr_targets"):
            targets.append(value)

    installation.host.on_write = wrote
    installation.plan()
    assert "2" in targets
