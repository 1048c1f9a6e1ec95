"""``python -m integration.bench.compare``: see docs/benchmarks/README.md."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from integration.bench.compare import plots, report, results
from integration.bench.compare.controllers import CONTROLLERS, QUICK_LEVELS
from integration.bench.compare.results import Task
from integration.bench.compare.runner import BASELINE_SECONDS, Stage, attempt, say
from integration.bench.compare.scenarios import QUICK, SCENARIOS, Scenario
from integration.lab.errors import HostVmDiedError, LabError

_OVERHEAD_SECONDS = 15.0
"""Of each run: loading the state, and what a controller needs to end."""
_TIMES = 2
"""So often a host VM is brought up anew for a scenario, when one died."""


def settings(names: Sequence[str], *, quick: bool) -> list[tuple[str, str]]:
    """Controllers with their levels, in order; a quick run has one level of each."""
    if quick:
        chosen = names or list(QUICK_LEVELS)
        return [(name, QUICK_LEVELS.get(name, list(CONTROLLERS[name].levels)[-2:][0])) for name in chosen]
    return [(name, level) for name in names or CONTROLLERS for level in CONTROLLERS[name].levels]


def seconds_of(scenario: Scenario) -> float:
    """What one run takes."""
    return BASELINE_SECONDS + scenario.control_seconds + scenario.after_seconds + _OVERHEAD_SECONDS


def about(kernels: set[str]) -> dict[str, Any]:
    """What was run, by which versions, where."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False
    )
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "overcommit"], capture_output=True, text=True, check=False
    )
    return {
        "command": f"`{shlex.join(['python', '-m', 'integration.bench.compare', *sys.argv[1:]])}`",
        "commit": commit.stdout.strip() + (" with changes" if dirty.stdout.strip() else ""),
        "host VM": f"{', '.join(sorted(kernels))}; one emulated CPU, swap on zram",
        "machine": f"{os.cpu_count()} CPUs, Linux {platform.release()}, load average "
        f"{os.getloadavg()[2]:.1f} at the end",
        "date": time.strftime("%Y-%m-%d"),
    }


def write(directory: Path) -> None:
    """Report, JSON and plots of all rows that there are."""
    rows = results.read(directory / "rows.jsonl")
    if not rows:
        return
    known = directory / "about.json"
    facts = (
        json.loads(known.read_text())
        if known.exists()
        else about({r["kernel"] for r in rows if "kernel" in r})
    )
    (directory / "results.json").write_text(
        json.dumps({"about": facts, "medians": results.merged(rows)}, indent=1) + "\n"
    )
    drawn = plots.draw(rows, directory)
    (directory / "README.md").write_text(report.report(rows, facts, drawn))


def work(
    scenario: Scenario, wanted: list[Task], directory: Path, *, name: str, nice: int, end: float
) -> float:
    """Do a scenario's runs that are left; returns the seconds that one took, 0 where none was done."""
    path, took = directory / "rows.jsonl", 0.0
    for _ in range(_TIMES):
        left = results.pending(wanted, results.read(path))
        if not left:
            return took
        stage = Stage(scenario, name, nice=nice)
        try:
            for number, task in enumerate(left):
                each = took or seconds_of(scenario)
                if time.monotonic() + each > end:
                    say(f"no time for the {len(left) - number} runs that are left: run the command again")
                    return took
                say(f"{scenario.name}: {task.controller} at {task.level}, run {task.repeat}; "
                    f"{(len(left) - number) * each / 60:.0f} minutes left in this scenario")  # fmt: skip
                began = time.monotonic()
                row = attempt(stage, task)
                took = time.monotonic() - began
                results.append(path, row)
                say(
                    str(
                        {
                            k: row[k]
                            for k in ("saved", "back", "rate", "worst_ms", "cpu", "status", "error")
                            if k in row
                        }
                    )
                )
            return took
        except HostVmDiedError as error:
            say(f"the host VM has died; what was measured is kept: {error}")
        finally:
            stage.down()
    return took


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--scenario", "chosen", multiple=True, type=click.Choice([*SCENARIOS, QUICK.name]), help="Only these."
)
@click.option(
    "--controller", "names", multiple=True, type=click.Choice(list(CONTROLLERS)), help="Only these."
)
@click.option("--repeats", default=5, show_default=True, help="Of each controller and level.")
@click.option("--quick", is_flag=True, help="One scenario, one level each, once.")
@click.option("--minutes", type=float, help="Begin no run that would end later.")
@click.option("--name", default="bench", show_default=True, help="The host VM's.")
@click.option("--nice", default=-5, show_default=True, help="Of the host VM's QEMU; below 0 needs root.")
@click.option("--report-only", is_flag=True, help="Write the report anew from the rows that there are.")
@click.option("--out", type=click.Path(path_type=Path), default="artifacts/bench", show_default=True)
def main(
    chosen: tuple[str, ...], names: tuple[str, ...], repeats: int, quick: bool, minutes: float | None,
    name: str, nice: int, report_only: bool, out: Path,
) -> None:  # fmt: skip
    """Compare this product with its peers, all from one saved state; resumes what OUT has already."""
    known = SCENARIOS | {QUICK.name: QUICK}
    wanted = chosen or ((QUICK.name,) if quick else tuple(SCENARIOS))
    end = time.monotonic() + (minutes * 60 if minutes is not None else float("inf"))
    out.mkdir(parents=True, exist_ok=True)
    try:
        for each in () if report_only else wanted:
            planned = results.tasks(each, settings(names, quick=quick), 1 if quick else repeats)
            work(known[each], planned, out, name=name, nice=nice, end=end)
            rows = results.read(out / "rows.jsonl")
            facts = about({row["kernel"] for row in rows if "kernel" in row})
            (out / "about.json").write_text(json.dumps(facts, indent=1) + "\n")
    except LabError as error:
        raise click.ClickException(str(error)) from error
    finally:
        write(out)
    say(f"report: {out / 'README.md'}")


if __name__ == "__main__":
    main()
