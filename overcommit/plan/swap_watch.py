"""Swap from reading to reading: how much is paged out, how long reads take, what was written in a day."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from overcommit.model.facts import HostFacts
from overcommit.model.policy import SwapBudget
from overcommit.model.swap import SwapArea
from overcommit.plan.swap_budget import (
    DAY_SECONDS,
    NO_GRANT,
    Grant,
    SwapFlow,
    SwapVerdict,
    judge_swap,
)

SHORTEST_SECONDS = 1.0
"""Readings closer to each other than this say nothing of a rate."""
MEMORY_SECONDS = 60.0
"""How long reads are remembered: after so long they count a third (1/e)."""
FEWEST_READS = 16
"""Fewer reads, of those remembered, are no measurement of a disk."""
_HOUR = 3600.0
_HOURS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAccount:
    """What was written to disks in the last day, by the hour.

    ``by_hour`` begins with the hour that runs, for ``into_seconds``, and reaches back an hour more than a
    day, or to when the account began. ``ahead_bytes`` were counted elsewhere before they were counted as
    written: counters are not read at one instant.
    """

    by_hour: tuple[int, ...] = (0,)
    into_seconds: float = 0.0
    ahead_bytes: int = 0

    @property
    def written_bytes(self) -> int:
        """In the last day, and at most an hour more."""
        return sum(self.by_hour)

    @property
    def known_seconds(self) -> float:
        """How far it reaches back, a day at most."""
        return min(DAY_SECONDS, (len(self.by_hour) - 1) * _HOUR + self.into_seconds)

    def after(self, written_bytes: int, seconds: float) -> WriteAccount:
        """``seconds`` later, in which so much was written; less than nothing is set against what follows."""
        written = written_bytes - self.ahead_bytes
        hours, into = divmod(self.into_seconds + max(0.0, seconds), _HOUR)
        passed = (0,) * min(int(hours), _HOURS + 1)
        newest, *before = (*passed, *self.by_hour)[: _HOURS + 1]
        return WriteAccount(
            by_hour=(newest + max(0, written), *before), into_seconds=into, ahead_bytes=max(0, -written)
        )


class _Reads(NamedTuple):
    """Reads of late and what they took together, those longer ago counted less."""

    number: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapWatch:
    """What successive readings of a host show of its swap; `begin` with one and go on with `after`.

    It stays as small as it was: ``reads`` has the devices of the latest reading only. Rates are counted from
    ``since``, which is ``waited_seconds`` older than ``latest``.
    """

    latest: HostFacts
    since: HostFacts
    account: WriteAccount
    waited_seconds: float = 0.0
    flow: SwapFlow | None = None
    """What the readings show; None: there was but one."""
    reads: Mapping[str, _Reads] = field(default_factory=dict)

    @classmethod
    def begin(cls, reading: HostFacts, account: WriteAccount | None = None) -> SwapWatch:
        """With a first reading, and the account of writes where one was kept."""
        return cls(latest=reading, since=reading, account=account or WriteAccount())

    def after(self, reading: HostFacts, seconds: float) -> SwapWatch:
        """With one more reading, ``seconds`` after the one before.

        Counters that went backwards, and devices that are new, begin again: what they did is unknown.
        """
        waited = self.waited_seconds + max(0.0, seconds)
        if waited < SHORTEST_SECONDS:
            return dataclasses.replace(self, latest=reading, waited_seconds=waited)
        before, now = self.since.swap_traffic, reading.swap_traffic
        same_boot = self.since.boot_id == reading.boot_id
        rate, written = None, 0
        if before is not None and now is not None and same_boot:
            rate = max(0, now.paged_out_bytes - before.paged_out_bytes) / waited
            written = max(0, now.written_bytes - before.written_bytes) - _to_zram(self.since, reading)
        if not any(area.on_disk for area in (*self.since.swap, *reading.swap)):
            written = 0
        account = self.account.after(written, waited)
        reads = dict(self._reads(reading, waited)) if same_boot else {}
        return SwapWatch(
            latest=reading,
            since=reading,
            account=account,
            flow=SwapFlow(
                bytes_per_second=rate,
                seconds_per_read={
                    name: of.seconds / of.number for name, of in reads.items() if of.number >= FEWEST_READS
                },
                written_bytes=account.written_bytes,
                known_seconds=account.known_seconds,
            ),
            reads=reads,
        )

    def verdict(self, budget: SwapBudget, *, granted: Grant = NO_GRANT, at_once: int = 1) -> SwapVerdict:
        """What may be paged out, by the latest reading; see `judge_swap`."""
        return judge_swap(self.latest, budget, self.flow, granted=granted, at_once=at_once)

    def _reads(self, reading: HostFacts, seconds: float) -> Iterator[tuple[str, _Reads]]:
        fading = math.exp(-seconds / MEMORY_SECONDS)
        known = _devices(self.since)
        for name, area in _devices(reading).items():
            if not area.on_disk or area.device is None or name not in known:
                continue
            before = known[name].device
            assert before is not None
            number = area.device.reads - before.reads
            took = area.device.read_seconds - before.read_seconds
            old = self.reads.get(name, _Reads())
            if number >= 0 and took >= 0:
                yield name, _Reads(old.number * fading + number, old.seconds * fading + took)


def to_disk(host: HostFacts) -> int | None:
    """What was written to swap on disks since boot, no less than that; None: the kernel does not say.

    With no area on a disk it is nothing; zram devices that are no swap any more count as disks.
    """
    if host.swap_traffic is None:
        return None
    if not any(area.on_disk for area in host.swap):
        return 0
    return max(0, host.swap_traffic.written_bytes - sum(area.into_memory_bytes for area in host.swap))


def _devices(host: HostFacts) -> dict[str, SwapArea]:
    return {area.device.name: area for area in host.swap if area.device is not None}


def _to_zram(before: HostFacts, now: HostFacts) -> int:
    """Of what was written to swap meanwhile, what stayed in zram devices that are in both readings.

    It is below 0 where they wrote more to their own disks than came to them.
    """
    known = _devices(before)
    return sum(
        area.into_memory_bytes - known[name].into_memory_bytes
        for name, area in _devices(now).items()
        if name in known and _goes_on(known[name], area)
    )


def _goes_on(before: SwapArea, now: SwapArea) -> bool:
    """Whether it is the same device still, by its counters."""
    earlier, later = before.device, now.device
    return (
        earlier is not None
        and later is not None
        and earlier.written_bytes <= later.written_bytes
        and before.backing_written_bytes <= now.backing_written_bytes
    )
