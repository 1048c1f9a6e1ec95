"""Quarantines: balloons and virtio-mem devices that are not used for a while after a failure (rule S6).

Each failure makes the next quarantine longer. A success, an operator's release, or another incarnation of the
domain starts anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from overcommit.model.facts import Incarnation
from overcommit.model.history import RELEASE, Event
from overcommit.model.moments import Wall
from overcommit.model.outcome import Fault, Status
from overcommit.model.past import Quarantine
from overcommit.model.policy import Actuator
from overcommit.units import format_duration, format_size

_FIRST_SECONDS = 600.0
_LONGEST_SECONDS = 86400.0
_LONGEST_PAIN_SECONDS = 6 * 3600.0
ACCOUNT_SECONDS = 7 * 86400.0
"""Failures that are older do not count."""
_COUNTED = {actuator.value: actuator for actuator in (Actuator.VIRTIO_MEM, Actuator.BALLOON)}
_CALLED = {Actuator.VIRTIO_MEM.value: "virtio-mem", Actuator.BALLOON.value: "balloon"}
EVENTS = (*_COUNTED, RELEASE)
"""The kinds of events that count."""
_MOST_GROWTH = 16
"""The most doublings. By then the quarantine is longer than the longest allowed."""


def quarantines(events: Iterable[Event], now: Wall) -> tuple[Quarantine, ...]:
    """The quarantines at ``now``, from this boot's `EVENTS` of the last `ACCOUNT_SECONDS`, newest first.

    An event after ``now`` was written before the clock was set back. It is left out, because its age is not
    known.
    """
    failures: dict[tuple[Incarnation, Actuator], list[Event]] = {}
    forgiven: set[tuple[Incarnation, Actuator]] = set()
    for event in events:
        incarnation, meant = event.domain, _COUNTED.get(event.kind)
        if incarnation is None or event.at > now:
            continue
        if event.kind == RELEASE:
            forgiven |= {(incarnation, actuator) for actuator in _COUNTED.values()}
        elif meant is None or (incarnation, meant) in forgiven:
            continue
        elif event.status is Status.DONE:
            forgiven.add((incarnation, meant))
        elif event.fault is not None:
            failures.setdefault((incarnation, meant), []).append(event)
    found = (_longest(incarnation, meant, of_it, now) for (incarnation, meant), of_it in failures.items())
    return tuple(quarantine for quarantine in found if quarantine.until > now)


def _longest(incarnation: Incarnation, meant: Actuator, failures: Sequence[Event], now: Wall) -> Quarantine:
    """The quarantine after these failures.

    After pressure in the guest it is shorter than after a faulty balloon.
    """
    pain = [event for event in failures if event.fault is Fault.PAIN]
    useless = [event for event in failures if event.fault is not Fault.PAIN]
    ends = [
        (
            of_kind[0].at + min(longest, _FIRST_SECONDS * growth ** min(len(of_kind) - 1, _MOST_GROWTH)),
            of_kind,
        )
        for of_kind, growth, longest in ((pain, 2, _LONGEST_PAIN_SECONDS), (useless, 4, _LONGEST_SECONDS))
        if of_kind
    ]
    until, causes = max(ends, key=lambda end: end[0])
    times = f", {len(causes)} times in a row" if len(causes) > 1 else ""
    ago = format_duration(now - causes[0].at)
    return Quarantine(
        domain=incarnation, actuator=meant, reason=f"{_told(causes[0])} {ago} ago{times}", until=until
    )


def _told(failure: Event) -> str:
    what = _CALLED[failure.kind]
    match failure.fault:
        case Fault.STUCK:
            size = failure.reached_bytes
            return f"its {what} stood still{f' at {format_size(size)}' if size is not None else ''}"
        case Fault.SILENT:
            return "its balloon driver stopped answering"
        case Fault.PAIN:
            return f"the guest ran short of memory when its {what} took some"
        case _:
            return f"its {what} took memory from the guest, but the host got nothing"
