"""Who pages out best? The actors side by side, each on a fresh guest whose hot memory is known.

::

    python -m integration.bench.actors --kernel 7.3 --json actors-7.3.json

The guest touches each hot page every two seconds, so what comes back at once was taken wrongly; what comes
back later was idle in the watch and is the price of the policy's ``cold_after``.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from integration.lab.guests import GuestSpec
from integration.lab.lab import Lab
from integration.suite.host import MIB, Host, json_lines

ACTORS = ("damos-fvaddr", "damos-paddr", "memcg-reclaim", "cold-hint+reclaim")
POLICY = """\
version: 1
host: {{reserve: 8%, swap: {{max_used: 80%, max_write: {rate}}}, pageout_actor: {actor}}}
classes:
  lab: {{floor: 20%, cold_after: 30s, slo: {{promotions: 1%/min, psi_some: 50%}}, actuators: [pageout]}}
default_class: lab
"""
GUEST = {"total": "300M", "hot": "64M", "hz": "0.5"}
"""Touching a page costs an emulated host 15 to 40 µs: a hot set as large as this must not be hurried."""
COLUMNS = (
    *("kernel", "pages", "actor", "freed of planned, MiB", "s"),
    *("read back: meanwhile / at once / in 2 min", "rate", "worst, ms", "host CPU, s"),
)
AT_ONCE_SECONDS, LATER_SECONDS = 3, 120


@dataclass(frozen=True, kw_only=True)
class Row:
    """One actor on one guest. Pages are 4 KiB, read back from swap by the domain's cgroup."""

    kernel: str
    pages: str
    actor: str
    planned_mib: float
    freed_mib: float
    seconds: float
    read_back_meanwhile: int
    read_back_at_once: int
    read_back_later: int
    rate_share: float
    worst_ms: float
    host_cpu_seconds: float
    detail: str


class _Counters:
    """What the host VM's kernel has counted so far."""

    def __init__(self, host: Host, domain: str) -> None:
        statistics = dict(
            line.split() for line in host.shell(f"cat {host.cgroup(domain)}/memory.stat").splitlines()
        )
        # pswpin counts pages of the group since Linux 6.13 only
        self.read_back = int(statistics.get("pswpin", statistics["pgmajfault"]))
        # user, nice, system, idle, iowait, irq, softirq, steal, guest: a guest's own time is in user too
        cpu = [int(word) for word in host.shell("head -n 1 /proc/stat").split()[1:]]
        self.busy_seconds = (cpu[0] + cpu[1] + cpu[2] + cpu[5] + cpu[6] - cpu[8]) / 100


def measure(host: Host, actor: str, rate: str, settings: dict[str, str]) -> Row:
    """One actor, from a fresh guest to none."""
    host.lab.guest_add(GuestSpec("hot", workload="hotset", settings=settings))
    try:
        host.await_workload("hot", "touch")
        host.lab.run("cat > /var/tmp/bench.yaml", stdin=POLICY.format(actor=actor, rate=rate))
        pace = host.rate("hot")
        idle = _Counters(host, "hot")
        time.sleep(10)
        after_idle = _Counters(host, "hot")
        usual = (after_idle.busy_seconds - idle.busy_seconds) / 10
        planned = host.ctl(
            "plan",
            "-q",
            "--json",
            "--take-over",
            "--policy",
            "/var/tmp/bench.yaml",
            "-o",
            "/var/tmp/bench.plan",
        )
        (action,) = json.loads(planned.stdout)["actions"]
        host.lab.guest_send("hot", "stat")  # the worst latency counts from here
        before, began = _Counters(host, "hot"), time.monotonic()
        applied = host.ctl(
            "apply", "-q", "--json", "--take-over", "--policy", "/var/tmp/bench.yaml", "/var/tmp/bench.plan"
        )
        took = time.monotonic() - began
        after = _Counters(host, "hot")
        time.sleep(AT_ONCE_SECONDS)
        at_once = _Counters(host, "hot")
        worst = host.lab.guest_send("hot", "stat")["max_us"] / 1000
        rate_after = host.rate("hot")
        time.sleep(max(0.0, LATER_SECONDS - (time.monotonic() - began - took)))
        later = _Counters(host, "hot")
        end = next(line for line in json_lines(applied.stdout) if line["type"] in {"done", "failed"})
        return Row(
            kernel=host.lab.vm.kernel,
            pages=host.shell("grep -o '\\[.*\\]' /sys/kernel/mm/transparent_hugepage/enabled").strip("[]"),
            actor=actor,
            planned_mib=action["expected_bytes"] / MIB,
            freed_mib=end["freed_bytes"] / MIB,
            seconds=end["seconds"],
            read_back_meanwhile=after.read_back - before.read_back,
            read_back_at_once=at_once.read_back - after.read_back,
            read_back_later=later.read_back - at_once.read_back,
            rate_share=rate_after / pace,
            worst_ms=worst,
            host_cpu_seconds=after.busy_seconds - before.busy_seconds - usual * took,
            detail=end["detail"],
        )
    finally:
        host.lab.guest_remove("hot")


def table(rows: list[Row]) -> list[str]:
    """For a document."""
    lines: list[tuple[str, ...]] = [COLUMNS, ("---",) * len(COLUMNS)]
    lines += [
        (
            row.kernel.partition("+")[0],
            row.pages,
            row.actor,
            f"{row.freed_mib:.0f} of {row.planned_mib:.0f}",
            f"{row.seconds:.0f}",
            f"{row.read_back_meanwhile} / {row.read_back_at_once} / {row.read_back_later}",
            f"{row.rate_share:.2f}",
            f"{row.worst_ms:.0f}",
            f"{row.host_cpu_seconds:.1f}",
        )
        for row in rows
    ]
    return [f"| {' | '.join(line)} |" for line in lines]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", type=click.Choice(["6.12", "7.3"]), default="7.3", show_default=True)
@click.option("--actor", "actors", multiple=True, type=click.Choice(ACTORS), help="Only these.")
@click.option("--rounds", default=1, show_default=True)
@click.option("--rate", default="50MiB/s", show_default=True, help="Page-out rate of the policy.")
@click.option("--thp", default="never", show_default=True, help="transparent_hugepage of the host VM.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures there.")
def main(kernel: str, actors: tuple[str, ...], rounds: int, rate: str, thp: str, output: Path | None) -> None:
    """Compare the actors on real guests; about four minutes each."""
    name = f"bench-{kernel.replace('.', '-')}-{thp}"
    lab = Lab.up(name, kernel=kernel, append=f"transparent_hugepage={thp}")
    rows = []
    try:
        host = Host(lab)
        for _ in range(rounds):
            for actor in actors or ACTORS:
                rows.append(measure(host, actor, rate, GUEST))
                print(rows[-1], file=sys.stderr)
    finally:
        lab.down()
        if output is not None:
            output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    click.echo("\n".join(table(rows)))


if __name__ == "__main__":
    main()
