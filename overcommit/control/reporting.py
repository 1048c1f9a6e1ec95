"""The report document: what the series and the history say of a time, added up. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from overcommit.model.history import Event
from overcommit.model.outcome import Status
from overcommit.model.series import IDLE_BOUNDS, DomainSpan, HostSpan, Span
from overcommit.units import PAGE_SIZE

MINUTE, HOUR, DAY = 60, 3600, 86400
HEAT_BOUND = IDLE_BOUNDS[1]
"""The map shows the share of resident memory that was idle for at least so many seconds."""
SEEN_ENOUGH_SECONDS = 7 * DAY
"""A working set of less than a week has not seen what a guest does once a week."""
_CELL_SECONDS = (600, 1800, HOUR, 2 * HOUR, 4 * HOUR, 6 * HOUR, 12 * HOUR, DAY)
_MOST_CELLS = 48
_MOST_HOURS, _MOST_NAMED, _MOST_EVENTS = 5, 3, 200

Document = dict[str, Any]
Weighed = list[tuple[float, float]]
"""Values, each with the minutes for which it held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From ``since`` to ``until`` (seconds since the epoch), on the host of that name."""

    host: str
    since: float
    until: float


def report_document(period: Period, spans: Sequence[Span], events: Sequence[Event]) -> Document:
    """The document of ``overcommitctl report``; ``spans`` and ``events`` are of that period, oldest first."""
    cells = _Cells.of(period, spans)
    by_domain: dict[str, list[tuple[Span, DomainSpan]]] = defaultdict(list)
    for span in spans:
        for domain in span.domains:
            by_domain[domain.uuid].append((span, domain))
    return {
        "kind": "report",
        "format_version": 1,
        "since": period.since,
        "until": period.until,
        "first_at": spans[0].at if spans else None,
        "last_at": max((span.at + span.seconds for span in spans), default=None),
        "observed_minutes": sum(span.minutes for span in spans),
        "host": {"name": period.host, **_host(spans)},
        "savings": _savings(spans),
        "cells": {"seconds": cells.seconds, "at": cells.begins, "idle_seconds": HEAT_BOUND},
        "domains": sorted(
            (_domain(seen, cells) for seen in by_domain.values()),
            key=lambda domain: (-domain["outside_minutes"], domain["name"], domain["uuid"]),
        ),
        "worst_hours": _worst_hours(spans),
        "events": _events(events),
    }


def only(spans: Iterable[Span], uuids: Collection[str]) -> list[Span]:
    """The spans with these domains only."""
    return [
        Span(
            at=span.at,
            seconds=span.seconds,
            minutes=span.minutes,
            host=span.host,
            domains=tuple(domain for domain in span.domains if domain.uuid in uuids),
        )
        for span in spans
    ]


def percentile(values: Weighed, share: float) -> float | None:
    """The least value that is not exceeded for this share (0..1) of the minutes; None: there is none."""
    ordered = sorted(values)
    wanted = share * sum(weight for _, weight in ordered)
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= wanted:
            return value
    return ordered[-1][0] if ordered else None


def _mean(values: Weighed) -> float | None:
    weights = sum(weight for _, weight in values)
    return sum(value * weight for value, weight in values) / weights if weights else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _host(spans: Sequence[Span]) -> Document:
    available = [(float(span.host.available_bytes), float(span.minutes)) for span in spans]
    psi = [(span.host.psi_some, float(span.minutes)) for span in spans if span.host.psi_some is not None]
    return {
        "total_bytes": spans[-1].host.total_bytes if spans else None,
        "available_mean_bytes": _whole(_mean(available)),
        "available_least_bytes": min((span.host.available_least_bytes for span in spans), default=None),
        "psi_some_p99": percentile(psi, 0.99),
    }


def _savings(spans: Sequence[Span]) -> Document:
    """What was taken in the mean over all observed minutes, by mechanism, and what keeping it took."""
    minutes = sum(span.minutes for span in spans)

    def mean(of: Callable[[Span], float]) -> int:
        return round(sum(of(span) for span in spans) / minutes) if minutes else 0

    gross = {
        "swap": mean(lambda span: _sum(span, lambda domain: domain.swapped_bytes)),
        "balloon": mean(lambda span: _sum(span, lambda domain: domain.balloon_bytes)),
        "virtio_mem": mean(lambda span: _sum(span, lambda domain: domain.virtio_mem_bytes)),
        "ksm": mean(lambda span: max(0, span.host.merged_bytes or 0) * span.minutes),
    }
    cost = {"swap": mean(lambda span: _pool_bytes(span) * span.minutes)}
    return {
        "mechanisms": [
            {
                "name": name,
                "taken_mean_bytes": taken,
                "cost_mean_bytes": cost.get(name, 0),
                "net_mean_bytes": taken - cost.get(name, 0),
            }
            for name, taken in gross.items()
        ],
        "net_mean_bytes": sum(gross.values()) - sum(cost.values()),
    }


def _sum(span: Span, of: Callable[[DomainSpan], int | None]) -> float:
    """Bytes times minutes; a gap counts as nothing taken."""
    return float(sum((of(domain) or 0) * domain.minutes for domain in span.domains))


def _pool_bytes(span: Span) -> float:
    """The memory of zram and zswap that holds what is swapped out of these domains."""
    host: HostSpan = span.host
    swapped = _sum(span, lambda domain: domain.swapped_bytes) / span.minutes if span.minutes else 0.0
    if not host.pool_stored_bytes:
        return 0.0
    return host.pool_used_bytes * min(1.0, swapped / host.pool_stored_bytes)


@dataclass(frozen=True, slots=True)
class _Cells:
    """The columns of the map."""

    seconds: int
    begins: list[int]

    @classmethod
    def of(cls, period: Period, spans: Sequence[Span]) -> _Cells:
        """No more columns than can be seen, and none before the first span."""
        first = max(period.since, float(spans[0].at)) if spans else period.since
        length = period.until - first
        fitting = (each for each in _CELL_SECONDS if length / each < _MOST_CELLS)
        seconds = next(fitting, math.ceil(length / _MOST_CELLS / DAY) * DAY)
        begin = int(first) // seconds * seconds
        return cls(seconds, list(range(begin, math.ceil(period.until), seconds)) if spans else [])

    def values(self, seen: Iterable[tuple[int, float | None, float]]) -> list[float | None]:
        """The mean of each column, of values with their time and minutes."""
        within: list[Weighed] = [[] for _ in self.begins]
        for at, value, minutes in seen:
            index = (max(at, self.begins[0]) - self.begins[0]) // self.seconds
            if value is not None and index < len(within):
                within[index].append((value, minutes))
        return [_mean(each) for each in within]


def _domain(seen: Sequence[tuple[Span, DomainSpan]], cells: _Cells) -> Document:
    latest = seen[-1][1]
    of = [domain for _, domain in seen]
    minutes = sum(domain.minutes for domain in of)
    judged, outside = sum(d.judged_seconds for d in of), sum(d.outside_seconds for d in of)
    working_set = _known(of, lambda domain: domain.working_set_most_bytes)
    working_set_minutes = sum(weight for _, weight in working_set)
    return {
        "name": latest.name,
        "uuid": latest.uuid,
        "seen_minutes": minutes,
        "memory_bytes": latest.memory_bytes,
        "resident_mean_bytes": _whole(_mean(_known(of, lambda domain: domain.resident_bytes))),
        "taken_mean_bytes": {
            "swap": _whole(_mean(_known(of, lambda domain: domain.swapped_bytes))) or 0,
            "balloon": _whole(_mean(_known(of, lambda domain: domain.balloon_bytes))) or 0,
            "virtio_mem": _whole(_mean(_known(of, lambda domain: domain.virtio_mem_bytes))) or 0,
        },
        "working_set": {
            "known_minutes": round(working_set_minutes),
            "seen_enough": working_set_minutes * MINUTE >= SEEN_ENOUGH_SECONDS,
            **{f"p{p}_bytes": _whole(percentile(working_set, p / 100)) for p in (50, 90, 99)},
            "most_bytes": _whole(max((value for value, _ in working_set), default=None)),
        },
        "idle": [_idle(of, index) for index in range(len(IDLE_BOUNDS))],
        "judged_minutes": judged / MINUTE,
        "outside_minutes": outside / MINUTE,
        "outside_share": outside / judged if judged else None,
        "slo_most": max((d.pain_most for d in of if d.pain_most is not None), default=None),
        "read_back_bytes": sum(domain.promoted_pages or 0 for domain in of) * PAGE_SIZE,
        "cells": {
            "idle_share": cells.values(
                (span.at, _idle_share(domain, IDLE_BOUNDS.index(HEAT_BOUND)), float(domain.minutes))
                for span, domain in seen
            ),
            "working_set_bytes": [
                _whole(value)
                for value in cells.values(
                    (span.at, domain.working_set_bytes, float(domain.minutes)) for span, domain in seen
                )
            ],
        },
    }


def _known(of: Iterable[DomainSpan], value: Callable[[DomainSpan], int | None]) -> Weighed:
    return [(float(v), float(d.minutes)) for d in of if (v := value(d)) is not None]


def _idle_share(domain: DomainSpan, index: int) -> float | None:
    """The share of resident memory that was idle for so long; it may have grown within the span."""
    idle = domain.idle_bytes[index]
    if idle is None or not domain.resident_bytes:
        return None
    return min(1.0, idle / domain.resident_bytes)


def _idle(of: Sequence[DomainSpan], index: int) -> Document:
    shares = [
        (share, float(domain.minutes)) for domain in of if (share := _idle_share(domain, index)) is not None
    ]
    return {
        "idle_seconds": IDLE_BOUNDS[index],
        **{f"p{p}_share": percentile(shares, p / 100) for p in (10, 50, 90)},
    }


def _worst_hours(spans: Sequence[Span]) -> list[Document]:
    """The hours in which domains were longest outside of their SLO; then those with most read back."""
    by_hour: dict[int, list[Span]] = defaultdict(list)
    for span in spans:
        by_hour[span.at // HOUR * HOUR].append(span)
    hours = [_hour(at, within) for at, within in by_hour.items()]
    bad = [hour for hour in hours if hour["outside_minutes"] or hour["read_back_bytes"]]
    bad.sort(key=lambda hour: (-hour["outside_minutes"], -hour["read_back_bytes"], hour["at"]))
    return bad[:_MOST_HOURS]


def _hour(at: int, spans: Sequence[Span]) -> Document:
    outside: dict[str, float] = defaultdict(float)
    names = {}
    for domain in (domain for span in spans for domain in span.domains):
        names[domain.uuid] = domain.name
        outside[domain.uuid] += domain.outside_seconds
    worst = sorted((uuid for uuid in outside if outside[uuid]), key=lambda uuid: -outside[uuid])
    return {
        "at": at,
        "outside_minutes": sum(outside.values()) / MINUTE,
        "domains": [
            {"name": names[uuid], "uuid": uuid, "outside_minutes": outside[uuid] / MINUTE}
            for uuid in worst[:_MOST_NAMED]
        ],
        "more_domains": max(0, len(worst) - _MOST_NAMED),
        "read_back_bytes": sum(d.promoted_pages or 0 for span in spans for d in span.domains) * PAGE_SIZE,
        "available_least_bytes": min(span.host.available_least_bytes for span in spans),
        "psi_some": max((s.host.psi_some for s in spans if s.host.psi_some is not None), default=None),
    }


def _events(events: Sequence[Event]) -> Document:
    return {
        "count": len(events),
        "by_kind": list(_by_kind(events)),
        "latest": [
            {
                "at": event.at,
                "kind": event.kind,
                "status": event.status.value,
                "domain": event.about,
                "freed_bytes": event.freed_bytes,
                "because": event.because,
                "detail": event.detail,
            }
            for event in events[-_MOST_EVENTS:]
        ],
    }


def _by_kind(events: Sequence[Event]) -> Iterator[Document]:
    by_kind: Mapping[str, list[Event]] = defaultdict(list)
    for event in events:
        by_kind[event.kind].append(event)
    for kind, those in sorted(by_kind.items()):
        statuses = [event.status for event in those]
        yield {
            "kind": kind,
            **{status.value: statuses.count(status) for status in Status},
            "freed_bytes": sum(event.freed_bytes or 0 for event in those),
        }
