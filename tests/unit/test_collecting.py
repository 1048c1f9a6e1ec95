"""How often garbage is looked for, by the number of domains."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from overcommit.daemon.collecting import collect_for


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)


def test_few_domains_are_collected_for_as_ever_and_many_seldom() -> None:
    gc.set_threshold(700, 10, 10)
    collect_for(14)
    assert gc.get_threshold() == (700, 10, 10)
    collect_for(10_000)
    assert gc.get_threshold() == (500_000, 10, 10)


def test_it_is_as_it_was_when_they_have_left() -> None:
    collect_for(10_000)
    collect_for(3)
    assert gc.get_threshold()[0] == 700


def test_it_goes_on_collecting_what_refers_to_itself() -> None:
    """Garbage is bounded by what the domains take: with so much more of it, it has been looked for."""
    collect_for(100)
    gc.collect()
    before = gc.get_stats()[0]["collections"]
    for _ in range(2 * 50 * 100):
        loop: list[object] = []
        loop.append(loop)
    assert gc.get_stats()[0]["collections"] > before
