"""``overcommitctl status``: the host and its domains now, and what of ours is still in force. Read-only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from overcommit.cli import render
from overcommit.cli.beside_daemon import refuse_options
from overcommit.cli.remembered import local_time, quarantine_text, reservation_of, reservation_text
from overcommit.cli.session import Session, require_root, with_session
from overcommit.cli.talk import tell
from overcommit.control.naming import names_of
from overcommit.control.status import Mode, status_document
from overcommit.observe.facts import observe
from overcommit.units import format_duration, format_ratio
from overcommit.wire.client import Daemon, find_daemon
from overcommit.wire.protocol import Verb

_OLD_SECONDS = 60.0
"""A daemon looks more often than that, unless it hangs."""


@click.command()
@click.argument("names", nargs=-1, metavar="[DOMAIN]...")
@with_session
def status(session: Session, names: tuple[str, ...]) -> None:
    """Show what the host holds for each domain, and what overcommit has changed and not yet put back.

    Where overcommitd is at work, this is what it saw and did last, for everybody.
    """
    daemon = find_daemon()
    seen = _look(session) if daemon is None else _ask(session, daemon)
    meant = names_of(names, {domain["uuid"]: domain["name"] for domain in seen["domains"]})
    if names:
        seen["domains"] = [domain for domain in seen["domains"] if domain["name"] in meant]
    if session.json:
        click.echo(json.dumps(seen, indent=1))
        return
    for line in _text(seen, session.clock.now()):
        tell(line)


def _look(session: Session) -> dict[str, Any]:
    policy = session.policy()
    require_root()
    hypervisor = session.hypervisor(read_only=True)
    snapshot = observe(session.kernel, hypervisor, session.clock)
    past = session.past(snapshot.taken_at)
    session.tell_damage()
    return status_document(snapshot, policy, past, session.journal.generations())


def _ask(session: Session, daemon: Daemon) -> dict[str, Any]:
    refuse_options(daemon, {"--policy": session.policy_path is not None}, "overcommitctl status without it")
    seen = daemon.ask(Verb.STATUS)
    # It looks at all of each domain once a minute only, and at what can hurt in every tick.
    age = session.clock.now() - (seen.get("ticked_at") or seen["taken_at"])
    if age > _OLD_SECONDS:
        session.talk.say(
            f"overcommitd (pid {daemon.pid}) last looked {format_duration(age)} ago: something holds it up"
        )
    return seen


def _text(seen: Mapping[str, Any], now: float) -> Iterator[str]:
    manual = seen["mode"] == Mode.MANUAL.value
    if seen.get("stopped"):
        yield seen["stopped"]
    if not manual:
        yield _mode(seen)
    yield seen["sentence"]
    if not manual:
        yield seen["host"]["text"]
    if seen["domains"]:
        more = () if manual else ("target", "reclaimed", "read back", "cold after")
        yield from render.table(
            ("domain", "class", "state", "memory", "resident", "swapped", "balloon", "PSI some", *more),
            (_row(domain) + (() if manual else _standing(domain)) for domain in seen["domains"]),
        )
    for domain in seen["domains"]:
        yield from _about(domain)
    for line in (seen["policy_refused"] or "").splitlines():
        yield f"  the policy on disk is refused: {line}"
    for area in seen["host"]["swap"]:
        yield f"  swap on {area['text']}"
    for gap in seen["gaps"]:
        yield f"  left out: {gap['what']}: {gap['why']}"
    for reservation in seen["reservations"]:
        yield f"  {reservation_text(reservation_of(reservation), now)}"
    for quarantine in seen["quarantines"]:
        yield f"  {quarantine_text(quarantine)}"
    for generation in seen["generations"]:
        yield f"  {generation_text(generation, manual=manual)}"


def generation_text(generation: Mapping[str, Any], *, manual: bool) -> str:
    """What of a generation is still changed, as the document has it, in one line."""
    undone = "overcommitctl restore undoes them" if manual else "undone when overcommitd is stopped"
    return (
        f"generation {generation['number']} ({generation['command']}): "
        f"{generation['changes']} change(s) in force; {undone}"
    )


def _mode(seen: Mapping[str, Any]) -> str:
    reason = f": {seen['mode_reason']}" if seen["mode_reason"] else ""
    until = f", until {local_time(seen['mode_until'])}" if seen["mode_until"] else ""
    return f"overcommitd (pid {seen['pid']}) is {_MODES[seen['mode']]}{until}{reason}"


_MODES = {
    Mode.OBSERVE.value: "observing: it plans, and changes nothing",
    Mode.ACTIVE.value: "active",
    Mode.PAUSED.value: "paused: it takes nothing, and gives back to guests that are short",
    Mode.SAFE.value: "in safe mode: it holds what is, then gives it back",
}


def _row(domain: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        domain["name"],
        domain["class"],
        domain["state"],
        *(
            render.size(domain[what])
            for what in ("maximum_bytes", "resident_bytes", "swapped_bytes", "actual_bytes")
        ),
        _share(domain["psi_some_avg60"]),
    )


def _standing(domain: Mapping[str, Any]) -> tuple[str, ...]:
    cold_after = domain["cold_after_seconds"]
    rate, bound = domain["promotion_rate_per_minute"], domain["slo_promotion_rate_per_minute"]
    allowed = "" if bound is None else f" of {format_ratio(bound)}"
    return (
        render.size(domain["target_bytes"]),
        render.size(domain["reclaimed_bytes"]),
        render.UNKNOWN if rate is None else f"{format_ratio(rate)}{allowed}/min",
        render.UNKNOWN if cold_after is None else format_duration(cold_after),
    )


def _about(domain: Mapping[str, Any]) -> Iterator[str]:
    if domain.get("doing"):
        yield f"  {domain['name']}: {domain['doing']}"
    if domain.get("busy_with"):
        yield f"  {domain['name']}: nothing is done: busy with {domain['busy_with']}"
    if domain.get("why_not"):
        yield f"  {domain['name']}: nothing is taken: {domain['why_not']}"
    if domain.get("held"):
        yield f"  {domain['name']}: {domain['held']}"
    for gap in domain["gaps"]:
        yield f"  {domain['name']}: cannot read its {gap['what']}: {gap['why']}"


def _share(ratio: float | None) -> str:
    return render.UNKNOWN if ratio is None else f"{ratio:.1%}"
