"""The last ten minutes of each domain, as they were read, and their drawing in a line. Pure."""

from __future__ import annotations

import enum
import itertools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from overcommit.model.moments import Monotonic

SLOT_SECONDS = 10.0
SLOTS = 60
WIDTHS = (12, 15, 20, 30, 60)
"""The widths of a line in characters. At each, all characters cover the same number of slots."""
BLOCKS, LETTERS = "▁▂▃▄▅▆▇█", "_.-:=+*#"
"""The levels from none to the most, for terminals with block elements and without."""
UNKNOWN = " "


class Fact(enum.Enum):
    """A value that is kept of a domain, by its key in the status document."""

    TAKEN = "reclaimed_bytes"
    PAIN = "pain"
    RESIDENT = "resident_bytes"


_FACTS = tuple(Fact)
_LEAST_SCALE = {Fact.PAIN: 1.0}
"""The least value of the highest level: half a line of `PAIN` is half of the SLO, unless one is above it."""
Values = tuple[float | None, ...]


class _Series:
    """Values by slots, the latest last; None: not known."""

    __slots__ = ("latest", "slots")

    def __init__(self, slot: int, values: Values) -> None:
        self.latest = slot
        self.slots: deque[Values | None] = deque((values,), maxlen=SLOTS)


class Recent:
    """The last values by domain. Bounded: a domain that is gone for ten minutes is dropped.

    A value counts until the next one, but for at most ``hold`` seconds.
    """

    def __init__(self, hold: float) -> None:
        self._hold = max(1, round(hold / SLOT_SECONDS))
        self._series: dict[str, _Series] = {}

    def record(self, domains: Iterable[Mapping[str, Any]], at: Monotonic) -> None:
        """Add the values of a moment."""
        slot = _slot(at)
        for domain in domains:
            values = tuple(domain.get(fact.value) for fact in _FACTS)
            series = self._series.get(domain["uuid"])
            if series is None:
                self._series[domain["uuid"]] = _Series(slot, values)
            elif slot == series.latest:
                series.slots[-1] = tuple(map(_higher, series.slots[-1] or values, values))
            else:
                series.slots.extend(self._since(series, slot - 1))
                series.slots.append(values)
                series.latest = slot
        for uuid in [u for u, series in self._series.items() if slot - series.latest > SLOTS]:
            del self._series[uuid]

    def of(self, uuid: str, fact: Fact, at: Monotonic) -> tuple[float | None, ...]:
        """The slots of the last ten minutes; the last is the present one."""
        series = self._series.get(uuid)
        if series is None:
            return (None,) * SLOTS
        known = [*series.slots, *self._since(series, _slot(at))][-SLOTS:]
        which = _FACTS.index(fact)
        values = tuple(None if slot is None else slot[which] for slot in known)
        return (None,) * (SLOTS - len(values)) + values

    def _since(self, series: _Series, slot: int) -> Iterable[Values | None]:
        """The values of the slots after the latest, up to this one."""
        missing = min(slot - series.latest, SLOTS)
        held = min(missing, self._hold)
        return itertools.chain(
            itertools.repeat(series.slots[-1], held), itertools.repeat(None, missing - held)
        )


def _slot(at: Monotonic) -> int:
    return int(float(at) // SLOT_SECONDS)


def _higher(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


def sparkline(values: Sequence[float | None], fact: Fact, width: int, levels: str = BLOCKS) -> str:
    """The values in ``width`` characters (one of `WIDTHS`), relative to the highest value.

    The first level is 0; any value above it is at least the second. An unknown value is a space.
    """
    each = len(values) // width
    highest = []
    for begins in range(0, len(values), each):
        known = [value for value in values[begins : begins + each] if value is not None]
        highest.append(max(known, default=None))
    most = max((value for value in highest if value is not None), default=0.0)
    scale = max(most, _LEAST_SCALE.get(fact, 0.0))
    return "".join(UNKNOWN if value is None else levels[_level(value, scale)] for value in highest)


def _level(value: float, scale: float) -> int:
    most = len(BLOCKS) - 1
    return 0 if value <= 0 else min(most, 1 + int(value / scale * (most - 1)))


def width_within(most: int) -> int:
    """The widest line of at most ``most`` characters, or the narrowest that exists."""
    return max((width for width in WIDTHS if width <= most), default=WIDTHS[0])
