"""Days of a host as they could have been, for what is made of the series: nights, a bad hour, and a gap."""

from __future__ import annotations

import math
import random

from overcommit.model.series import DomainSpan, HostSpan, Span
from overcommit.units import GIB, MIB

HOSTILE = "<script>alert('x')</script>\"&\u202eevil\n"
_NAMES = ("web", "db", "batch", "build-with-a-rather-long-name-0001", HOSTILE)


def spans(begin: int, days: int, *, seconds: int = 600, names: tuple[str, ...] = _NAMES) -> list[Span]:
    """So many days of spans, each observed in full; of the second domain a day is missing."""
    chance = random.Random(7)
    made = []
    for at in range(begin, begin + days * 86400, seconds):
        day, hour = (at - begin) // 86400, at % 86400 / 3600
        minutes = seconds // 60
        domains = tuple(
            _domain(name, number, hour, minutes, chance)
            for number, name in enumerate(names)
            if not (number == 1 and day == 2)
        )
        host = HostSpan(
            total_bytes=64 * GIB,
            available_bytes=round((6 + 3 * math.cos(hour / 24 * 2 * math.pi)) * GIB),
            available_least_bytes=round((4 + 3 * math.cos(hour / 24 * 2 * math.pi)) * GIB),
            swap_used_bytes=6 * GIB,
            pool_stored_bytes=6 * GIB,
            pool_used_bytes=2 * GIB,
            merged_bytes=300 * MIB,
            psi_some=0.002 if hour < 3 else 0.0001,
        )
        made.append(Span(at=at, seconds=seconds, minutes=minutes, host=host, domains=domains))
    return made


def _domain(name: str, number: int, hour: float, minutes: int, chance: random.Random) -> DomainSpan:
    busy = (0.5 - 0.5 * math.cos((hour + 5 * number) / 24 * 2 * math.pi)) * (0.4 + 0.12 * number)
    resident = round((8 - number) * GIB * 0.6)
    idle = round(resident * (1 - busy) * (0.7 + 0.2 * chance.random()))
    hurts = number == 0 and 1 <= hour < 2
    return DomainSpan(
        uuid=f"00000000-0000-0000-0000-{number:012}",
        name=name,
        minutes=minutes,
        memory_bytes=(8 - number) * GIB,
        resident_bytes=resident,
        swapped_bytes=round(0.2 * resident) if number != 3 else 0,
        balloon_bytes=GIB if number == 3 else 0,
        virtio_mem_bytes=0,
        working_set_bytes=resident - idle,
        working_set_most_bytes=min(resident, resident - idle + 200 * MIB),
        idle_bytes=(min(resident, idle * 11 // 10), idle, idle // 2),
        promoted_pages=chance.randrange(400) * minutes if hurts else chance.randrange(3),
        judged_seconds=60 * minutes,
        outside_seconds=40 * minutes if hurts else 0,
        pain_most=2.4 if hurts else 0.3,
    )
