"""What a domain's bounds do to a page-out: tight and loose ones, for each way of keeping to them.

::

    python -m integration.bench.pace --kernel 7.3 --json pace-7.3.json

The guest touches each hot page every two seconds; what an actor takes of that comes back and hurts.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from integration.bench.actors import GUEST
from integration.lab.guests import GuestSpec
from integration.lab.lab import Lab
from integration.suite.host import MIB, Host, json_lines

ACTORS = ("damos-fvaddr", "memcg-reclaim")
BOUNDS = {
    "tight": "{promotions: 0.05%/min, psi_some: 0.5%}",
    "loose": "{promotions: 100%/min, psi_some: 90%}",
}
POLICY = """\
version: 1
host: {{reserve: 8%, swap: {{max_used: 80%, max_write: 50MiB/s}}, pageout_actor: {actor}}}
classes:
  lab: {{floor: 20%, cold_after: 30s, slo: {bounds}, actuators: [pageout]}}
default_class: lab
"""
REMOTE_POLICY, REMOTE_PLAN = "/var/tmp/pace.yaml", "/var/tmp/pace.plan"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One page-out. ``read_back`` counts pages, ``stalled_seconds`` is PSI some of the domain's cgroup."""

    kernel: str
    actor: str
    controller: str
    bounds: str
    planned_mib: float
    freed_mib: float
    seconds: float
    read_back: int
    stalled_seconds: float
    rests: int
    status: str
    detail: str


def stalled_seconds(host: Host, domain: str) -> float:
    """PSI some of the domain's cgroup so far."""
    some = host.shell(f"head -n 1 {host.cgroup(domain)}/memory.pressure")
    return int(some.rpartition("=")[2]) / 1e6


def measure(host: Host, actor: str, bounds: str) -> Row:
    """One actor within some bounds, from a fresh guest to none."""
    host.lab.guest_add(GuestSpec("hot", workload="hotset", settings=GUEST))
    try:
        host.await_workload("hot", "touch")
        policy = POLICY.format(actor=actor, bounds=BOUNDS[bounds])
        host.lab.run(f"cat > {REMOTE_POLICY}", stdin=policy)
        planned = host.plan("--json", "-o", REMOTE_PLAN, policy=REMOTE_POLICY)
        (action,) = json.loads(planned.stdout)["actions"]
        before = stalled_seconds(host, "hot")
        applied = host.ctl("apply", "-q", "--json", "--take-over", "--policy", REMOTE_POLICY, REMOTE_PLAN)
        lines = json_lines(applied.stdout)
        end = next(line for line in lines if line["type"] in {"done", "failed"})
        return Row(
            kernel=host.lab.vm.kernel,
            actor=actor,
            controller=end["controller"],
            bounds=bounds,
            planned_mib=action["expected_bytes"] / MIB,
            freed_mib=end["freed_bytes"] / MIB,
            seconds=end["seconds"],
            read_back=end["promoted_pages"],
            stalled_seconds=stalled_seconds(host, "hot") - before,
            rests=sum(line.get("detail", "").startswith("resting") for line in lines),
            status=end["status"],
            detail=end["detail"],
        )
    finally:
        host.lab.guest_remove("hot")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", type=click.Choice(["6.12", "7.3"]), default="7.3", show_default=True)
@click.option("--actor", "actors", multiple=True, type=click.Choice(ACTORS), help="Only these.")
@click.option("--bounds", "bounds", multiple=True, type=click.Choice(list(BOUNDS)), help="Only these.")
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the figures there.")
def main(kernel: str, actors: tuple[str, ...], bounds: tuple[str, ...], output: Path | None) -> None:
    """Compare bounds on real guests; about three minutes each."""
    lab = Lab.up(f"pace-{kernel.replace('.', '-')}", kernel=kernel, append="transparent_hugepage=never")
    rows = []
    try:
        host = Host(lab)
        for actor in actors or ACTORS:
            for each in bounds or BOUNDS:
                rows.append(measure(host, actor, each))
                print(rows[-1], file=sys.stderr)
    finally:
        lab.down()
        if output is not None:
            output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
