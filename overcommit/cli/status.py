"""``overcommitctl status``: the host and its domains now, and what of ours is still in force. Read-only."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from overcommit.cli import render
from overcommit.cli.beside_daemon import refuse_options
from overcommit.cli.console import tell
from overcommit.cli.history_text import local_time, quarantine_texts, reservation_of, reservation_text
from overcommit.cli.session import Session, require_root, verbose_option, with_session
from overcommit.cli.tables import Block, Line, Table, prose, table
from overcommit.cli.verb import domain_names, examples
from overcommit.control.naming import names_of
from overcommit.control.status import Mode, status_document
from overcommit.model.facts import RunState
from overcommit.observe.facts import observe
from overcommit.units import counted, format_duration, format_ratio
from overcommit.wire.client import Daemon, find_daemon
from overcommit.wire.protocol import Verb

_OLD_SECONDS = 60.0
"""A daemon looks more often than that, unless it hangs."""


@click.command(epilog=examples("overcommitctl status", "overcommitctl status web -v"))
@click.argument("names", nargs=-1, metavar="[DOMAIN]...", shell_complete=domain_names)
@verbose_option
@with_session
def status(session: Session, names: tuple[str, ...], verbose: bool) -> None:
    """Show what the host holds for each domain, and which changes of overcommit are in force.

    While overcommitd runs, this is what it saw and did last. Every user may see it.
    """
    daemon = find_daemon()
    seen = _look(session) if daemon is None else _ask(session, daemon)
    meant = names_of(names, {domain["uuid"]: domain["name"] for domain in seen["domains"]})
    if names:
        seen["domains"] = [domain for domain in seen["domains"] if domain["name"] in meant]
    if session.json:
        click.echo(json.dumps(seen, indent=1))
        return
    for block in _text(seen, session.clock.now(), verbose=verbose):
        tell(block)


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
        session.console.say(
            f"overcommitd (pid {daemon.pid}) is late: it last looked at the host {format_duration(age)} ago"
        )
    return seen


def _text(seen: Mapping[str, Any], now: float, *, verbose: bool = False) -> Iterator[Block]:
    manual = seen["mode"] == Mode.MANUAL.value
    if seen.get("stopped"):
        yield Line(seen["stopped"], "yellow", prose=True)
    if not manual:
        yield _mode(seen)
    yield prose(seen["sentence"])
    if not manual:
        yield prose(seen["host"]["text"])
    if seen["domains"]:
        yield _table(seen["domains"], manual=manual, verbose=verbose)
    for domain in seen["domains"]:
        yield from _about(domain)
    for line in (seen["policy_refused"] or "").splitlines():
        yield f"  the policy on disk is refused: {line}"
    for area in seen["host"]["swap"]:
        yield prose(f"  swap: {area['text']}")
    for gap in seen["gaps"]:
        yield prose(f"  left out: {gap['what']}: {gap['why']}")
    for reservation in seen["reservations"]:
        yield prose(f"  {reservation_text(reservation_of(reservation), now)}")
    for quarantine in seen["quarantines"]:
        text, ending = quarantine_texts(quarantine)
        yield prose(f"  {text}")
        yield f"      to end it: {ending}"
    for generation in seen["generations"]:
        yield f"  {generation_text(generation, manual=manual)}"


def generation_text(generation: Mapping[str, Any], *, manual: bool) -> str:
    """What of a generation is still changed, as the document has it, in one line."""
    undone = "overcommitctl restore undoes them" if manual else "stop overcommitd to undo"
    return (
        f"generation {generation['number']} ({generation['command']}): "
        f"{counted(generation['changes'], 'change')} in force; {undone}"
    )


def _mode(seen: Mapping[str, Any]) -> Line:
    mode = seen["mode"]
    reason = f": {seen['mode_reason']}" if seen["mode_reason"] else ""
    until = f", until {local_time(seen['mode_until'])}" if seen["mode_until"] else ""
    text = f"overcommitd (pid {seen['pid']}) is {_MODES[mode]}{until}{reason}"
    return Line(text, _COLOURS[mode], prose=True)


_MODES = {
    Mode.OBSERVE.value: "observing: it plans and changes nothing",
    Mode.ACTIVE.value: "active",
    Mode.PAUSED.value: "paused: it takes nothing and gives back to guests that are short",
    Mode.SAFE.value: "in safe mode: it takes nothing, holds what it has, then gives it back",
}
_COLOURS = {
    Mode.OBSERVE.value: "cyan",
    Mode.ACTIVE.value: "green",
    Mode.PAUSED.value: "yellow",
    Mode.SAFE.value: "red",
}


def _table(domains: Sequence[Mapping[str, Any]], *, manual: bool, verbose: bool) -> Table:
    """What fits 80 columns; all there is when ``verbose``. The state is shown where one is not running."""
    columns: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
        ("domain", lambda domain: domain["name"]),
        ("class", lambda domain: domain["class"]),
    ]
    if verbose or any(domain["state"] != RunState.RUNNING.value for domain in domains):
        columns.append(("state", lambda domain: domain["state"]))
    columns += [_sized("memory", "maximum_bytes"), _sized("resident", "resident_bytes")]
    if manual or verbose:
        columns += [_sized("swapped", "swapped_bytes"), _sized("balloon", "actual_bytes")]
        columns.append(("PSI some", lambda domain: _share(domain["psi_some_avg60"])))
    if not manual:
        columns += [_sized("target", "target_bytes")] if verbose else []
        columns.append(_sized("taken", "reclaimed_bytes"))
        columns += [("read back/min", _read_back), ("cold after", _cold_after)]
    rows = ([cell(domain) for _, cell in columns] for domain in domains)
    left = [i for i, (name, _) in enumerate(columns) if name in {"domain", "class", "state"}]
    return table([name for name, _ in columns], rows, left=left)


def _sized(name: str, key: str) -> tuple[str, Callable[[Mapping[str, Any]], str]]:
    return name, lambda domain: render.size(domain[key])


def _read_back(domain: Mapping[str, Any]) -> str:
    rate, bound = domain["promotion_rate_per_minute"], domain["slo_promotion_rate_per_minute"]
    allowed = "" if bound is None else f" of {format_ratio(bound)}"
    return render.UNKNOWN if rate is None else f"{format_ratio(rate)}{allowed}"


def _cold_after(domain: Mapping[str, Any]) -> str:
    seconds = domain["cold_after_seconds"]
    return render.UNKNOWN if seconds is None else format_duration(seconds)


def _about(domain: Mapping[str, Any]) -> Iterator[Line]:
    if domain.get("doing"):
        yield prose(f"  {domain['name']}: {domain['doing']}")
    if domain.get("busy_with"):
        yield prose(f"  {domain['name']}: left alone, busy with {domain['busy_with']}")
    if domain.get("why_not"):
        yield prose(f"  {domain['name']}: nothing is taken: {domain['why_not']}")
    if domain.get("held"):
        yield prose(f"  {domain['name']}: {domain['held']}")
    for gap in domain["gaps"]:
        yield prose(f"  {domain['name']}: cannot read its {gap['what']}: {gap['why']}")


def _share(ratio: float | None) -> str:
    return render.UNKNOWN if ratio is None else f"{ratio:.1%}"
