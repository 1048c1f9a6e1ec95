"""Reservations, quarantines and events as text and as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from overcommit.cli.tables import Line, Row, Table, prose
from overcommit.display import Subject, command, display_name
from overcommit.model.history import RESERVE, Event
from overcommit.model.moments import Wall
from overcommit.model.outcome import Status
from overcommit.model.past import Reservation
from overcommit.records.journal import Entry
from overcommit.units import PAGE_SIZE, format_duration, format_size


def local_time(at: Wall) -> str:
    """ISO 8601 with the host's own offset, to the second."""
    try:
        return datetime.fromtimestamp(float(at), tz=UTC).astimezone().isoformat(timespec="seconds")
    except (ValueError, OverflowError):  # older versions promised for any time
        return "after the year 9999"


def reservation_text(reservation: Reservation, now: Wall) -> str:
    """A reservation in one line."""
    whose = f" for {reservation.purpose}" if reservation.purpose else ""
    left = format_duration(reservation.expires_at - now)
    return (
        f"reservation {reservation.id}: {format_size(reservation.size_bytes)}{whose} until "
        f"{local_time(reservation.expires_at)} ({left} left)"
    )


def reservation_of(data: Mapping[str, Any]) -> Reservation:
    """The reservation of a document."""
    return Reservation(
        id=data["id"], purpose=data["for"], size_bytes=data["size_bytes"], expires_at=data["expires_at"]
    )


def quarantine_texts(quarantine: Mapping[str, Any]) -> tuple[str, str]:
    """A quarantine of a document in one line, and the command that ends it."""
    text = (
        f"{quarantine['domain']}: no {quarantine['actuator']} until {local_time(quarantine['until'])}: "
        f"{quarantine['reason']}"
    )
    return text, command("overcommitctl", "release", _named(quarantine))


def _named(quarantine: Mapping[str, Any]) -> str:
    return display_name(Subject(name=quarantine["domain"], uuid=quarantine["uuid"]))


def in_force(event: Event, changes: Iterable[Entry]) -> bool | None:
    """Whether the event's change is among the ``changes`` in force; None: there was nothing to undo.

    Of several changes in a row the journal may keep only some.
    """
    if event.generation is None:
        return None
    numbers = [e.generation for e in changes if getattr(e.record, "domain", None) == event.domain]
    if event.domain is None:
        return event.generation in numbers
    return bool(numbers) and min(numbers) <= event.generation <= max(numbers)


def event_json(event: Event, *, stands: bool | None) -> dict[str, Any]:
    """An event with all of its fields."""
    return {
        **dataclasses.asdict(event),
        "time": local_time(event.at),
        "status": event.status.value,
        "fault": event.fault.value if event.fault else None,
        "in_force": stands,
    }


def events_text(events: Sequence[Event], stands: Sequence[bool | None]) -> Table:
    """A table with a row for each event, and below it the reason and the result."""
    header = ("time", "domain", "what", "status", "freed of planned", "read back", "to undo")
    rows = tuple(
        Row(_row(event, stand), below=tuple(_details(event)), colour=_COLOURS.get(event.status, ""))
        for event, stand in zip(events, stands, strict=True)
    )
    return Table(header, rows, names=frozenset({1}), left=frozenset({0, 1, 2, 3}))


_COLOURS = {Status.FAILED: "red"}


def _details(event: Event) -> Iterator[Line]:
    if event.because:
        yield prose(f"      reason: {event.because}")
    if event.detail:
        yield prose(f"      result: {event.detail}")


def _row(event: Event, stands: bool | None) -> tuple[str, ...]:
    undo = {None: "-", True: f"generation {event.generation}", False: "put back"}[stands]
    return (
        local_time(event.at),
        event.about or "-",
        event.kind,
        event.status.value,
        _gain(event),
        "-" if event.promoted_pages is None else format_size(event.promoted_pages * PAGE_SIZE),
        undo,
    )


def _gain(event: Event) -> str:
    if event.expected_bytes is None:
        return "-"
    if event.kind == RESERVE:
        return format_size(event.expected_bytes) if event.status is Status.DONE else "-"
    got = (event.freed_bytes or 0) + (event.moved_bytes or 0)
    return f"{format_size(got)} of {format_size(event.expected_bytes)}"
