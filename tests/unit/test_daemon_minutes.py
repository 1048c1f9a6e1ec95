"""What the daemon keeps of each minute, and that no disk holds it up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from overcommit.control.status import Standing
from overcommit.daemon.minutes import Minutes, in_a_thread
from overcommit.daemon.state import DomainState
from overcommit.errors import HostError
from overcommit.model.facts import Incarnation
from overcommit.model.heat import IdleBucket
from overcommit.model.moments import Monotonic, Wall
from overcommit.model.series import Span
from overcommit.records.series import Series
from overcommit.units import GIB, MIB
from tests.scenarios import NOW, domain, host, snapshot

TICK = 5.0
BEGUN = float(int(float(NOW)) // 60 * 60)


class Clock:
    def __init__(self) -> None:
        self.at, self.wall = 100.0, BEGUN

    def now(self) -> Wall:
        return Wall(self.wall)

    def monotonic(self) -> Monotonic:
        return Monotonic(self.at)

    def wait(self, seconds: float) -> None:
        self.at += seconds
        self.wall += seconds


class Store:
    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.error: HostError | None = None

    def add(self, span: Span) -> None:
        if self.error is not None:
            raise self.error
        self.spans.append(span)


def at_once(work: Callable[[], None]) -> Callable[[float], bool]:
    work()
    return lambda _seconds: True


class Kept:
    def __init__(self, **values: Any) -> None:
        self.clock, self.store, self.said = Clock(), Store(), list[str]()
        self.web = domain("web", size=GIB, resident=600 * MIB)
        self.minutes = Minutes(self.store, self.clock, self.said.append, start=at_once, **values)

    def look(self, **standing: Any) -> None:
        self.clock.wait(TICK)
        states = {
            self.web.incarnation: DomainState(
                standing=Standing(**standing), rests=False, hurt=None, faulty=False
            )
        }
        state: Any = SimpleNamespace(snapshot=snapshot(host(), self.web))
        self.minutes.look(state, states)

    def run(self, ticks: int, **standing: Any) -> None:
        for _ in range(ticks):
            self.look(**standing)


@pytest.fixture
def kept() -> Kept:
    return Kept()


def test_a_minute_of_a_domain(kept: Kept) -> None:
    kept.run(10, pain=0.5, promoted_pages=100)
    kept.run(
        3,
        pain=2.0,
        promoted_pages=130,
        wss_bytes=300 * MIB,
        reclaimed_by={"swap": MIB, "balloon": 2 * MIB, "virtio_mem": 3 * MIB},
        idle_histogram=tuple(IdleBucket(bound, MIB) for bound in (0.0, 60.0, 120.0, 600.0, 1800.0)),
    )
    (span,) = kept.store.spans
    assert (span.at, span.seconds, span.minutes) == (BEGUN + 60, 60, 1)
    (web,) = span.domains
    assert (web.name, web.minutes, web.memory_bytes, web.resident_bytes) == ("web", 1, GIB, 600 * MIB)
    assert (web.balloon_bytes, web.virtio_mem_bytes) == (2 * MIB, 3 * MIB)
    assert (web.working_set_bytes, web.working_set_most_bytes) == (300 * MIB, 300 * MIB)
    assert web.idle_bytes == (3 * MIB, 2 * MIB, None), "it was not watched for an hour"
    assert (web.judged_seconds, web.outside_seconds, web.pain_most) == (55.0, 10.0, 2.0)
    assert web.promoted_pages is None, "nobody knows what was before the first minute"
    kept.run(12, promoted_pages=190)
    kept.run(12, promoted_pages=20)
    assert [span.domains[0].promoted_pages for span in kept.store.spans] == [None, 60, 0]
    assert kept.store.spans[1].domains[0].judged_seconds == 5.0


def test_once_a_minute(kept: Kept) -> None:
    kept.run(12 * 60)
    assert [span.at for span in kept.store.spans] == [BEGUN + 60 * n for n in range(1, 61)]


def test_a_daemon_that_was_stopped_for_long_makes_up_for_nothing(kept: Kept) -> None:
    kept.run(12, pain=2.0)
    kept.clock.wait(3600.0)
    kept.run(13, pain=2.0)
    assert len(kept.store.spans) == 3
    outside = [span.domains[0].outside_seconds for span in kept.store.spans]
    assert outside[1] == 15.0, "nobody looked in between"


def test_a_clock_that_is_set_back_changes_no_interval(kept: Kept) -> None:
    kept.run(24)
    kept.clock.wall -= 3600.0
    kept.run(24)
    assert [span.at - BEGUN for span in kept.store.spans] == [60, 120, 180 - 3600, 240 - 3600]


def test_nothing_seen_yet_is_no_minute(kept: Kept) -> None:
    kept.clock.wait(90.0)
    state: Any = SimpleNamespace(snapshot=None)
    kept.minutes.look(state, dict[Incarnation, DomainState]())
    assert kept.store.spans == []


def test_a_write_that_fails_is_said_and_ends_nothing(kept: Kept) -> None:
    kept.store.error = HostError("cannot keep the series in x: disk is full")
    kept.run(12)
    assert kept.said == ["a minute of the series is lost: cannot keep the series in x: disk is full"]
    kept.store.error = None
    kept.run(12)
    assert len(kept.store.spans) == 1


def test_a_write_that_does_not_end_holds_up_no_tick() -> None:
    kept, stuck = Kept(), threading.Event()
    add = kept.store.add

    def wait(span: Span) -> None:
        stuck.wait(30.0)
        add(span)

    kept.store.add = wait  # type: ignore[method-assign]
    kept.minutes._start = in_a_thread
    began = time.monotonic()
    kept.run(36)
    assert time.monotonic() - began < 5.0
    assert kept.said == ["a minute of the series is lost: the disk has not taken the one before"] * 2
    stuck.set()
    kept.minutes.close()
    assert len(kept.store.spans) == 1, "the first one; the two behind it are lost"
    kept.run(12)
    kept.minutes.close()
    assert len(kept.store.spans) == 2


def test_no_thread_to_be_had_is_said(kept: Kept) -> None:
    def refuse(_work: Callable[[], None]) -> Callable[[float], bool]:
        raise RuntimeError("can't start new thread")

    kept.minutes._start = refuse
    kept.run(12)
    assert kept.said == ["a minute of the series is lost: can't start new thread"]


def test_on_a_real_disk(tmp_path: Path) -> None:
    kept = Kept()
    series = Series(tmp_path, warn=kept.said.append)
    kept.minutes._store = series
    kept.run(24, pain=0.5)
    stored = series.read(since=0.0, until=2 * BEGUN)
    assert stored is not None
    assert [len(span.domains) for span in stored.spans] == [1, 1]
    assert kept.said == []
