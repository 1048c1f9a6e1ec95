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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from integration.bench import watching
from integration.lab.lab import Lab

TARGETS, REGIONS, SAMPLING_MS = (1, 4, 16), (64, 256, 1000), (50, 100, 200)
SECONDS = 20


def measure(lab: Lab, sampling_ms: Sequence[int]) -> list[dict[str, Any]]:
    """The lines of `integration.bench.watching`, in the host VM."""
    lists = (",".join(map(str, numbers)) for numbers in (TARGETS, REGIONS, sampling_ms))
    command = ["python3", "/var/tmp/watching.py", str(SECONDS), *lists]
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
    head = ["kernel", "targets", "regions each", "sampling, ms", "in fact, ms", "kdamond's CPU per target"]
    head += ["per region and sample, µs", "loop, ms"]
    for source in watching.SOURCES:
        head += [f"{source}: program + worker + kdamond, ms", "wall, ms"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        regions = statistics.mean(cost["regions"] for cost in row["snapshots"].values())
        # a kdamond sleeps for the sampling interval after its work, however long that took (kdamond_fn)
        interval = row["sampling_ms"] / (1 - row["kdamond_share"] - row["queued_share"])
        line = [kernel, str(row["targets"]), f"{regions:.0f}", str(row["sampling_ms"]), f"{interval:.0f}"]
        line += [f"{row['kdamond_share']:.2%}", f"{1000 * row['kdamond_share'] * interval / regions:.1f}"]
        line.append(f"{row['loop_ms']:.0f}")
        for source in watching.SOURCES:
            cost = row["snapshots"][source]
            parts = (cost["program_ms"], cost["worker_ms"], cost["kdamond_ms"])
            line += [" + ".join(f"{part:.0f}" for part in parts), f"{cost['wall_ms']:.0f}"]
        lines.append(line)
    return [f"| {' | '.join(line)} |" for line in lines]


def per_thousand(rows: list[dict[str, Any]], source: str) -> dict[str, float]:
    """CPU of the snapshots with the most regions, in ms for a thousand of them: the median of all rows."""
    most = [row["snapshots"][source] for row in rows if row["regions"] == max(REGIONS)]
    return {
        part: statistics.median(1000 * cost[f"{part}_ms"] / cost["regions"] for cost in most)
        for part in ("program", "worker", "kdamond")
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", type=click.Choice(["6.12", "7.3"]), default="7.3", show_default=True)
@click.option(
    "--sampling", "sampling_ms", multiple=True, type=int, default=SAMPLING_MS, show_default=True, help="ms."
)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures there.")
def main(kernel: str, sampling_ms: tuple[int, ...], output: Path | None) -> None:
    """Measure what it costs to watch processes in a host VM."""
    name = f"cost-{kernel.replace('.', '-')}"
    lab = Lab.up(name, kernel=kernel, memory="6G", append="transparent_hugepage=never")
    try:
        lab.push()
        lab.put(Path(watching.__file__), "/var/tmp/watching.py")
        release = lab.vm.kernel.partition("+")[0]
        rows = measure(lab, sampling_ms)
    finally:
        lab.down()
    there, here = statistics.median(row["loop_ms"] for row in rows), watching.loop_ms()
    if output is not None:
        result = {"kernel": release, "native_loop_ms": here, "rows": rows}
        output.write_text(json.dumps(result, indent=1) + "\n")
    click.echo("\n".join(table(release, rows)))
    for source in watching.SOURCES:
        cost = per_thousand(rows, source)
        click.echo(
            f"{release}: a snapshot of 1,000 regions ({source}) costs "
            f"{cost['program'] + cost['worker']:.0f} ms of our CPU (program {cost['program']:.0f}, "
            f"worker {cost['worker']:.0f}), and the kdamond {cost['kdamond']:.0f} ms"
        )
    click.echo(f"The loop: {there:.0f} ms there, {here:.1f} ms on this machine itself")


if __name__ == "__main__":
    main()
