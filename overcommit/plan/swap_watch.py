"""Swap between readings: the page-out rate, read latency, and bytes written in a day."""

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
"""Readings with a shorter distance give no rate."""
MEMORY_SECONDS = 60.0
"""The time constant of the mean of reads: after this time a read counts a third (1/e)."""
FEWEST_READS = 16
"""The fewest reads, weighted by age, for a mean."""
_HOUR = 3600.0
_HOURS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteAccount:
    """Bytes written to disks in the last day, by the hour.

    ``by_hour`` begins with the present hour, which has lasted ``into_seconds``. It reaches back an hour more
    than a day, or to when the account began. ``ahead_bytes`` were counted in another counter before they were
    counted as written, because counters are not read at one instant.
    """

    by_hour: tuple[int, ...] = (0,)
    into_seconds: float = 0.0
    ahead_bytes: int = 0

    @property
    def written_bytes(self) -> int:
        """Bytes of the last day, and of at most an hour more."""
        return sum(self.by_hour)

    @property
    def known_seconds(self) -> float:
        """How far the account reaches back, at most a day."""
        return min(DAY_SECONDS, (len(self.by_hour) - 1) * _HOUR + self.into_seconds)

    def after(self, written_bytes: int, seconds: float) -> WriteAccount:
        """The account ``seconds`` later. A negative ``written_bytes`` is set against later writes."""
        written = written_bytes - self.ahead_bytes
        hours, into = divmod(self.into_seconds + max(0.0, seconds), _HOUR)
        passed = (0,) * min(int(hours), _HOURS + 1)
        newest, *before = (*passed, *self.by_hour)[: _HOURS + 1]
        return WriteAccount(
            by_hour=(newest + max(0, written), *before), into_seconds=into, ahead_bytes=max(0, -written)
        )


class _Reads(NamedTuple):
    """The number and total time of recent reads, weighted by age."""

    number: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapWatch:
    """What successive readings of a host show of its swap. `begin` with one, continue with `after`.

    Its size is constant: ``reads`` has the devices of the latest reading only. Rates are counted from
    ``since``, which is ``waited_seconds`` older than ``latest``.
    """

    latest: HostFacts
    since: HostFacts
    account: WriteAccount
    waited_seconds: float = 0.0
    flow: SwapFlow | None = None
    """What the readings show; None: there was only one."""
    reads: Mapping[str, _Reads] = field(default_factory=dict)

    @classmethod
    def begin(cls, reading: HostFacts, account: WriteAccount | None = None) -> SwapWatch:
        """Start with a first reading, and a stored account of writes if there is one."""
        return cls(latest=reading, since=reading, account=account or WriteAccount())

    def after(self, reading: HostFacts, seconds: float) -> SwapWatch:
        """The state after one more reading, ``seconds`` after the last.

        Counters that went backwards, and new devices, start anew: what they did is not known.
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
        """What may be paged out by the latest reading; see `judge_swap`."""
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
    """Bytes written to swap on disks since boot, a lower bound; None: the kernel does not tell.

    Without an area on a disk it is 0. zram devices that are no longer swap count as disks.
    """
    if host.swap_traffic is None:
        return None
    if not any(area.on_disk for area in host.swap):
        return 0
    return max(0, host.swap_traffic.written_bytes - sum(area.into_memory_bytes for area in host.swap))


def _devices(host: HostFacts) -> dict[str, SwapArea]:
    return {area.device.name: area for area in host.swap if area.device is not None}


def _to_zram(before: HostFacts, now: HostFacts) -> int:
    """Bytes written to swap meanwhile that stayed in zram devices of both readings.

    Negative where zram wrote more back to its own disk than it received.
    """
    known = _devices(before)
    return sum(
        area.into_memory_bytes - known[name].into_memory_bytes
        for name, area in _devices(now).items()
        if name in known and _goes_on(known[name], area)
    )


def _goes_on(before: SwapArea, now: SwapArea) -> bool:
    """Whether it is still the same device, by its counters."""
    earlier, later = before.device, now.device
    return (
        earlier is not None
        and later is not None
        and earlier.written_bytes <= later.written_bytes
        and before.backing_written_bytes <= now.backing_written_bytes
    )
