"""The status document as sentences and table cells, the same for `status` and `top`. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from overcommit.cli import render
from overcommit.cli.history_text import local_time
from overcommit.cli.tables import Line, prose
from overcommit.control.status import Mode
from overcommit.model.facts import RunState
from overcommit.model.moments import Wall
from overcommit.units import format_duration, format_ratio, format_size

_OLD_SECONDS = 60.0
"""A daemon ticks more often than that, unless it hangs."""
_MOST_PAIN_SHOWN = 9.99
_SENTENCE_WIDTH = 30
"""The least columns in which the beginning of a sentence is useful."""

Document = Mapping[str, Any]
"""A document of `overcommit.control.status.status_document`, or a domain in it."""


class Column(NamedTuple):
    """A column of the table of domains. ``width`` is fixed where columns must not move."""

    name: str
    cell: Callable[[Document], str]
    width: int
    left: bool = False


def _sized(name: str, key: str) -> Column:
    return Column(name, lambda domain: render.size(domain[key]), width=8)


def _share(ratio: float | None) -> str:
    return render.UNKNOWN if ratio is None else f"{ratio:.1%}"


def _read_back(domain: Document) -> str:
    rate, bound = domain["promotion_rate_per_minute"], domain["slo_promotion_rate_per_minute"]
    allowed = "" if bound is None else f" of {format_ratio(bound)}"
    return render.UNKNOWN if rate is None else f"{format_ratio(rate)}{allowed}"


def _cold_after(domain: Document) -> str:
    seconds = domain["cold_after_seconds"]
    return render.UNKNOWN if seconds is None else format_duration(seconds)


def _pain(domain: Document) -> str:
    pain = domain.get("pain")  # an older daemon says nothing of it
    if pain is None:
        return render.UNKNOWN
    return f">{_MOST_PAIN_SHOWN:.0%}" if pain > _MOST_PAIN_SHOWN else f"{pain:.0%}"


DOMAIN = Column("domain", lambda domain: domain["name"], width=12, left=True)
CLASS = Column("class", lambda domain: domain["class"], width=10, left=True)
STATE = Column("state", lambda domain: domain["state"], width=8, left=True)
MEMORY = _sized("memory", "maximum_bytes")
RESIDENT = _sized("resident", "resident_bytes")
SWAPPED = _sized("swapped", "swapped_bytes")
BALLOON = _sized("balloon", "actual_bytes")
TARGET = _sized("target", "target_bytes")
TAKEN = _sized("taken", "reclaimed_bytes")
PRESSURE = Column("PSI some", lambda domain: _share(domain["psi_some_avg60"]), width=8)
READ_BACK = Column("read back/min", _read_back, width=13)
COLD_AFTER = Column("cold after", _cold_after, width=10)
PAIN = Column("slo", _pain, width=5)


def runs(domain: Document) -> bool:
    """Whether it runs as usual."""
    return domain["state"] == RunState.RUNNING.value  # type: ignore[no-any-return]


def in_pain(domain: Document) -> bool:
    """Whether it is beyond its SLO."""
    return (domain.get("pain") or 0.0) > 1.0


def host_lines(seen: Document, *, old: float | None = None) -> Iterator[Line]:
    """What stops page-out first, then the mode, what is done, and the host's memory.

    ``old`` is how many seconds old all that is, if nothing newer can be had.
    """
    if seen.get("stopped"):
        yield Line(seen["stopped"], "yellow", prose=True)
    if seen["mode"] != Mode.MANUAL.value:
        yield _mode_line(seen, old)
    yield prose(seen["sentence"])
    if seen["mode"] != Mode.MANUAL.value:
        yield prose(seen["host"]["text"])
        yield prose(_budget_text(seen))


def _budget_text(seen: Document) -> str:
    budget, some = seen.get("swap_budget"), seen["host"]["psi_some_avg60"]
    if budget is None:
        left = "not known yet"
    elif budget["spent"]:
        left = "none left" + ("" if seen.get("stopped") else f": {budget['spent']}")
    else:
        rate = f"{format_size(budget['bytes_per_second'])}/s"
        left = f"{format_size(budget['room_bytes'])} left, at most {rate}"
    return f"swap budget: {left}; memory pressure of the host: {_share(some)}"


def _mode_line(seen: Document, old: float | None) -> Line:
    """The daemon's mode, why, and until when."""
    mode = seen["mode"]
    reason = f": {seen['mode_reason']}" if seen["mode_reason"] else ""
    until = f", until {local_time(seen['mode_until'])}" if seen["mode_until"] else ""
    text = f"overcommitd (pid {seen['pid']}) is {_MODES[mode]}{until}{reason}"
    if old is not None:
        return prose(f"{format_duration(round(old))} ago: {text}")
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


def age_of(seen: Document, now: Wall) -> float:
    """Seconds since the daemon's last tick."""
    return max(0.0, now - Wall(float(seen.get("ticked_at") or seen["taken_at"])))


def lateness(seen: Document, now: Wall) -> str | None:
    """That the daemon hangs, if its last tick is long ago. ``now`` is seconds since the epoch."""
    age = age_of(seen, now)
    if age <= _OLD_SECONDS:
        return None
    return f"overcommitd (pid {seen['pid']}) is late: it last looked at the host {format_duration(age)} ago"


def remarks(domain: Document) -> Iterator[str]:
    """What is done with a domain and why not more, its SLO figures, and its gaps."""
    if domain.get("doing"):
        yield domain["doing"]
    if domain.get("busy_with"):
        yield f"left alone, busy with {domain['busy_with']}"
    if domain.get("why_not"):
        yield f"nothing is taken: {domain['why_not']}"
    if domain.get("held"):
        yield domain["held"]
    if in_pain(domain) and domain.get("feels") and not domain.get("why_not"):
        yield f"outside of its SLO: {domain['feels']}"
    for gap in domain["gaps"]:
        yield f"cannot read its {gap['what']}: {gap['why']}"


def briefly(domain: Document, width: int) -> str:
    """What is done with a domain, or why nothing is. In few columns it is one word."""
    remark = next(remarks(domain), "")
    if not runs(domain) and not domain.get("doing"):
        remark = domain["state"] + (f": {remark}" if remark else "")
    if len(remark) <= width or width >= _SENTENCE_WIDTH:
        return remark
    if domain.get("doing"):
        return str(domain["doing"])
    if not runs(domain):
        return str(domain["state"])
    words = (
        ("busy_with", "busy"),
        ("why_not", "rests"),
        ("held", "slowed"),
        ("feels", "over SLO"),
        ("gaps", "gaps"),
    )
    return next((word for key, word in words if domain.get(key)), "")


def about(domains: Iterable[Document]) -> Iterator[Line]:
    """The remarks of several domains, a line each."""
    for domain in domains:
        for remark in remarks(domain):
            yield prose(f"  {domain['name']}: {remark}")
