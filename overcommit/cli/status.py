"""``overcommitctl status``: the host and its domains now, and what of ours is still in force. Read-only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import click

from overcommit.cli import render
from overcommit.cli.planning import select
from overcommit.cli.remembered import (
    quarantine_json,
    quarantine_text,
    reservation_json,
    reservation_text,
)
from overcommit.cli.session import Session, require_root, with_session
from overcommit.model.facts import DomainFacts, Snapshot
from overcommit.model.policy import Policy
from overcommit.observe.facts import observe
from overcommit.plan.budget import shared_limit
from overcommit.units import format_size


@click.command()
@click.argument("names", nargs=-1, metavar="[DOMAIN]...")
@with_session
def status(session: Session, names: tuple[str, ...]) -> None:
    """Show what the host holds for each domain, and what overcommit has changed and not yet put back."""
    policy = session.policy()
    require_root()
    hypervisor = session.hypervisor(read_only=True)
    snapshot = select(observe(session.kernel, hypervisor, session.clock), names)
    past = session.past(snapshot.taken_at)
    alive = {domain.incarnation for domain in snapshot.domains}
    quarantines = [q for q in past.quarantines if q.domain in alive]
    outstanding = [g for g in session.journal.generations() if g.outstanding]
    sentence = _sentence(snapshot, len(outstanding))
    if session.json:
        click.echo(
            json.dumps(
                {
                    "kind": "status",
                    "mode": "manual",
                    "sentence": sentence,
                    "host": _host(snapshot),
                    "domains": [_domain(d, policy) for d in snapshot.domains],
                    "reservations": [reservation_json(r) for r in past.reservations],
                    "quarantines": [quarantine_json(q) for q in quarantines],
                    "outstanding_generations": [g.number for g in outstanding],
                },
                indent=1,
            )
        )
        return
    for line in _text(snapshot, policy, sentence):
        click.echo(line)
    for reservation in past.reservations:
        click.echo(f"  {reservation_text(reservation, snapshot.taken_at)}")
    for quarantine in quarantines:
        click.echo(f"  {quarantine_text(quarantine)}")
    for generation in outstanding:
        click.echo(
            f"  generation {generation.number} ({generation.command}): "
            f"{generation.outstanding} change(s) in force; overcommitctl restore undoes them"
        )


def _sentence(snapshot: Snapshot, outstanding: int) -> str:
    host = snapshot.host
    promised = sum(d.definition.maximum_bytes for d in snapshot.domains)
    return (
        f"{host.name}: {len(snapshot.domains)} domain(s), {format_size(promised)} promised of "
        f"{format_size(host.total_bytes)}, {format_size(host.available_bytes)} available, swap "
        f"{format_size(host.swap_used_bytes)} of {format_size(host.swap_total_bytes)}, "
        f"{outstanding} generation(s) in force"
    )


def _host(snapshot: Snapshot) -> dict[str, Any]:
    host, limit = snapshot.host, shared_limit(snapshot.domains)
    return {
        "name": host.name,
        "kernel": host.kernel,
        "total_bytes": host.total_bytes,
        "available_bytes": host.available_bytes,
        "swap_total_bytes": host.swap_total_bytes,
        "swap_used_bytes": host.swap_used_bytes,
        "zram_used_bytes": host.zram_used_bytes,
        "huge_pages_bytes": host.huge_pages.total_bytes if host.huge_pages else None,
        "slice_limit": dataclasses.asdict(limit) if limit else None,
        "psi_some_avg60": host.pressure.some_avg60 if host.pressure else None,
    }


def _domain(domain: DomainFacts, policy: Policy) -> dict[str, Any]:
    cgroup, residency = domain.cgroup, domain.residency
    pressure = cgroup.pressure if cgroup else None
    return {
        "name": domain.name,
        "uuid": domain.incarnation.uuid,
        "pid": domain.incarnation.pid,
        "class": policy.class_of(domain).name,
        "state": domain.state.value,
        "maximum_bytes": domain.definition.maximum_bytes,
        "actual_bytes": domain.balloon.actual_bytes if domain.balloon else None,
        "plugged_bytes": domain.definition.plugged_bytes,
        "usable_bytes": domain.balloon.usable_bytes if domain.balloon else None,
        "resident_bytes": residency.resident_bytes if residency else None,
        "swapped_bytes": residency.swapped_bytes if residency else None,
        "placement_bytes": dict(domain.placement) if domain.placement is not None else None,
        "cgroup_bytes": cgroup.current_bytes if cgroup else None,
        "overhead_bytes": domain.overhead_bytes,
        "cgroup_swap_bytes": cgroup.swap_bytes if cgroup else None,
        "major_faults": cgroup.major_faults if cgroup else None,
        "psi_some_avg60": pressure.some_avg60 if pressure else None,
        "gaps": [{"what": g.what, "why": g.why} for g in domain.gaps],
    }


def _text(snapshot: Snapshot, policy: Policy, sentence: str) -> Iterator[str]:
    yield sentence
    if snapshot.domains:
        yield from render.table(
            ("domain", "class", "state", "memory", "resident", "swapped", "balloon", "PSI some"),
            (_row(domain, policy) for domain in snapshot.domains),
        )
    for domain in snapshot.domains:
        for gap in domain.gaps:
            yield f"  {domain.name}: cannot read its {gap.what}: {gap.why}"
    for gap in snapshot.gaps:
        yield f"  left out: {gap.what}: {gap.why}"


def _row(domain: DomainFacts, policy: Policy) -> tuple[str, ...]:
    pressure = domain.cgroup.pressure if domain.cgroup else None
    return (
        domain.name,
        policy.class_of(domain).name,
        domain.state.value,
        format_size(domain.definition.maximum_bytes),
        render.size(domain.residency.resident_bytes if domain.residency else None),
        render.size(domain.residency.swapped_bytes if domain.residency else None),
        render.size(domain.balloon.actual_bytes if domain.balloon else None),
        f"{pressure.some_avg60:.1%}" if pressure else render.UNKNOWN,
    )
