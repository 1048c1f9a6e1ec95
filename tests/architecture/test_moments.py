"""Wall and monotonic time do not mix: the type checker refuses it. Only the clock asks for the time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BEGINNING = """\
from overcommit.clock import Clock
from overcommit.hypervisor.port import Hypervisor

def f(clock: Clock, hypervisor: Hypervisor) -> None:
    wall, monotonic = clock.now(), clock.monotonic()
"""
REFUSED = (
    "wall - monotonic",
    "wall < monotonic",
    "monotonic >= wall",
    "wall + monotonic",
    "wall - (monotonic + 5.0)",
    "wall == monotonic",
    "max(wall, 0.0) - 1.0",
    'hypervisor.balloon("uuid", now=monotonic)',
    'hypervisor.balloon("uuid", now=5.0)',
)
TAKEN = (
    "wall - (wall - 5.0) < 5.0",
    "monotonic - monotonic + 5.0 < 6.0",
    "min(monotonic, monotonic + 1.0) < monotonic",
    'hypervisor.balloon("uuid", now=wall + 1.0)',
)


def test_the_type_checker_refuses_to_mix_clocks(tmp_path: Path) -> None:
    lines = [*REFUSED, *TAKEN]
    module = tmp_path / "mixed.py"
    module.write_text(BEGINNING + "".join(f"    _ = {line}\n" for line in lines))
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", module],
        cwd=ROOT,
        text=True,
        capture_output=True,
        check=False,
    )
    first = BEGINNING.count("\n") + 1
    found = {int(number) - first for number in re.findall(r"mixed\.py:(\d+): error", checked.stdout)}
    assert [lines[number] for number in sorted(found)] == list(REFUSED), checked.stdout + checked.stderr


@pytest.mark.parametrize(
    "path", sorted((ROOT / "overcommit").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_only_the_clock_asks_for_the_time(path: Path) -> None:
    """It gives each moment its type."""
    asked = re.findall(r"\btime\.(?:time|monotonic)\w*\b", path.read_text())
    assert not asked or path == ROOT / "overcommit" / "clock.py"
