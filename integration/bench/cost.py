"""What does watching cost? The kernel's CPU by targets, regions and sampling, and ours per snapshot.

::

    python -m integration.bench.cost --kernel 7.3 --json cost-7.3.json

An emulated host is many times slower than a real one, and not evenly so: compare rows with each other, and
the time of a loop there with that of the same loop on a machine you know.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from integration.bench import watching
from integration.lab.lab import Lab

TARGETS, REGIONS, SAMPLING_MS = (1, 4, 16), (64, 256, 1000), (50, 100, 200)
SECONDS = 20
FULL = 0.05
"""With less idle time than this a host cannot sample as often as it was asked to: such a row is a bound."""


def measure(lab: Lab) -> list[dict[str, Any]]:
    """The lines of `integration.bench.watching`, in the host VM."""
    lists = (",".join(map(str, numbers)) for numbers in (TARGETS, REGIONS, SAMPLING_MS))
    command = ["/opt/overcommit/bin/python", "/var/tmp/watching.py", str(SECONDS), *lists]
    lines = []
    with subprocess.Popen(lab.vm.ssh.command(command), text=True, stdout=subprocess.PIPE) as inside:
        assert inside.stdout is not None
        for text in inside.stdout:
            click.echo(text, nl=False, err=True)
            lines.append(json.loads(text))
    assert inside.returncode == 0, inside.returncode
    return lines


def table(kernel: str, rows: list[dict[str, Any]]) -> list[str]:
    """For a document."""
    head = ["kernel", "targets", "regions each", "sampling, ms", "kdamond's CPU per target"]
    head += ["per region and sample, µs", "host idle"]
    for source in watching.SOURCES:
        head += [f"{source}: program + worker + kdamond, ms", "wall, ms"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        full = row["host_idle"] < FULL
        each = 1000 * row["kdamond_share"] * row["sampling_ms"] / _regions(row)
        line = [kernel, str(row["targets"]), f"{_regions(row):.0f}", str(row["sampling_ms"])]
        line += [f"{'≥ ' * full}{row['kdamond_share']:.2%}", "-" if full else f"{each:.1f}"]
        line.append(f"{row['host_idle']:.0%}")
        for source in watching.SOURCES:
            cost = row["snapshots"][source]
            parts = (cost["program_ms"], cost["worker_ms"], cost["kdamond_ms"])
            line += [" + ".join(f"{part:.0f}" for part in parts), f"{cost['wall_ms']:.0f}"]
        lines.append(line)
    return [f"| {' | '.join(line)} |" for line in lines]


def _regions(row: dict[str, Any]) -> float:
    return float(statistics.mean(cost["regions"] for cost in row["snapshots"].values()))


def per_thousand(rows: list[dict[str, Any]], source: str) -> dict[str, float]:
    """CPU of the snapshots with the most regions, in ms for a thousand of them: the median of all rows."""
    most = [row["snapshots"][source] for row in rows if row["regions"] == max(REGIONS)]
    return {
        part: statistics.median(1000 * cost[f"{part}_ms"] / cost["regions"] for cost in most)
        for part in ("program", "worker", "kdamond")
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", type=click.Choice(["6.12", "7.3"]), default="7.3", show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures there.")
def main(kernel: str, output: Path | None) -> None:
    """Measure what it costs to watch processes in a host VM."""
    name = f"cost-{kernel.replace('.', '-')}"
    lab = Lab.up(name, kernel=kernel, memory="6G", append="transparent_hugepage=never")
    try:
        lab.push()
        lab.put(Path(watching.__file__), "/var/tmp/watching.py")
        release = lab.vm.state.kernel.partition("+")[0]
        speed, *rows = measure(lab)
    finally:
        lab.down()
    native = {"loop_ms": watching.loop_ms(), "python": sys.version.split()[0]}
    if output is not None:
        result = {"kernel": release, "there": speed, "here": native, "rows": rows}
        output.write_text(json.dumps(result, indent=1) + "\n")
    click.echo("\n".join(table(release, rows)))
    for source in watching.SOURCES:
        cost = per_thousand(rows, source)
        click.echo(
            f"{release}: a snapshot of 1,000 regions ({source}) costs "
            f"{cost['program'] + cost['worker']:.0f} ms of our CPU (program {cost['program']:.0f}, "
            f"worker {cost['worker']:.0f}), and the kdamond {cost['kdamond']:.0f} ms"
        )
    click.echo(
        f"A loop: {speed['loop_ms']:.0f} ms there (Python {speed['python']}), {native['loop_ms']:.1f} ms "
        f"here ({native['python']}): {speed['loop_ms'] / native['loop_ms']:.0f} times as long"
    )


if __name__ == "__main__":
    main()
