"""Ten minutes of a domain: what is kept, what is not known, and the line that shows it."""

from __future__ import annotations

from typing import Any

import pytest

from overcommit.cli.live.recent import BLOCKS, LETTERS, SLOTS, WIDTHS, Fact, Recent, sparkline, width_within
from overcommit.model.moments import Monotonic


def domain(taken: float | None, uuid: str = "a", pain: float | None = 0.0) -> dict[str, Any]:
    return {"uuid": uuid, "reclaimed_bytes": taken, "pain": pain, "resident_bytes": 1}


def test_a_value_counts_until_the_next_and_a_silence_is_not_filled() -> None:
    recent = Recent(hold=2.0)
    recent.record([domain(1)], Monotonic(100.0))
    recent.record([domain(2)], Monotonic(125.0))
    recent.record([domain(3)], Monotonic(129.0))
    recent.record([domain(4)], Monotonic(171.0))
    *before, a, b, c, d, e, f, g, h = recent.of("a", Fact.TAKEN, Monotonic(171.0))
    assert (a, b, c, d, e, f, g, h) == (1, 1, 3, 3, None, None, None, 4)
    assert before == [None] * (SLOTS - 8)
    assert recent.of("a", Fact.TAKEN, Monotonic(195.0))[-3:] == (4, 4, None)
    assert recent.of("b", Fact.TAKEN, Monotonic(195.0)) == (None,) * SLOTS


def test_who_asks_seldom_has_no_holes() -> None:
    recent = Recent(hold=60.0)
    for minute in range(10):
        recent.record([domain(minute)], Monotonic(1000.0 + 60 * minute))
    assert recent.of("a", Fact.TAKEN, Monotonic(1540.0))[-12:] == (*[7] * 5, *[8] * 6, 9)


def test_within_a_slot_the_highest_is_kept_and_a_gap_is_not_zero() -> None:
    recent = Recent(hold=2.0)
    for pain in (0.5, 2.0, None, 0.1):
        recent.record([domain(None, pain=pain)], Monotonic(100.0))
    assert recent.of("a", Fact.PAIN, Monotonic(100.0))[-1] == 2.0
    assert recent.of("a", Fact.TAKEN, Monotonic(100.0))[-1] is None


def test_it_is_bounded_in_time_and_forgets_who_is_gone() -> None:
    recent = Recent(hold=2.0)
    recent.record([domain(1), domain(1, "b")], Monotonic(0.0))
    for second in range(0, 3000, 5):
        recent.record([domain(second)], Monotonic(float(second)))
    assert recent.of("a", Fact.TAKEN, Monotonic(2995.0))[0] == 2405
    assert list(recent._series) == ["a"]
    assert len(recent._series["a"].slots) == SLOTS


@pytest.mark.parametrize("width", WIDTHS)
def test_a_line_of_each_width_ends_with_now(width: int) -> None:
    values = [None] * 30 + [0.0] * 29 + [8.0]
    shown = sparkline(values, Fact.TAKEN, width)
    assert len(shown) == width
    assert shown.startswith(" ")
    assert shown.endswith("▁█")


def test_nothing_is_told_from_little_and_from_not_known() -> None:
    values: list[float | None] = [0.0] * 20 + [0.001] * 20 + [None] * 10 + [1.0] * 10
    assert sparkline(values, Fact.TAKEN, 12, BLOCKS) == "▁▁▁▁▂▂▂▂  ██"
    assert sparkline(values, Fact.TAKEN, 12, LETTERS) == "____....  ##"
    assert sparkline([0.0] * 60, Fact.TAKEN, 12) == "▁" * 12


def test_pain_is_drawn_against_what_may_be_felt() -> None:
    assert sparkline([0.5] * 60, Fact.PAIN, 12) == "▅" * 12
    assert sparkline([1.0] * 60, Fact.PAIN, 12) == "█" * 12
    assert sparkline([0.5] * 55 + [5.0] * 5, Fact.PAIN, 12) == "▂" * 11 + "█"
    assert sparkline([5.0] * 60, Fact.TAKEN, 12) == "█" * 12


@pytest.mark.parametrize(("most", "width"), [(0, 12), (12, 12), (19, 15), (30, 30), (59, 30), (500, 60)])
def test_the_width_of_a_line(most: int, width: int) -> None:
    assert width_within(most) == width
