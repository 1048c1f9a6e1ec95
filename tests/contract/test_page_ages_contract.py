"""What we rely on in the kernel's generations of pages, of the fake and of real kernels alike."""

from __future__ import annotations

import pytest

from overcommit.host.lru_gen import Generations, read_generations, walk
from overcommit.model.page_ages import PageAges, page_ages
from tests.contract.conftest import MEMORY, Rung
from tests.contract.test_reclaim_contract import SLACK, resident

EVERY = 2.0


def generations(rung: Rung) -> list[Generations]:
    return read_generations(rung.kernel, {rung.group})[rung.group]


def walk_all(rung: Rung) -> None:
    for node in generations(rung):
        walk(rung.kernel, node)


def ages(rung: Rung) -> PageAges:
    return page_ages([node.pages for node in generations(rung)], EVERY)


def test_the_first_walk_finds_all_accessed_that_was_ever_written(rung: Rung) -> None:
    walk_all(rung)
    assert ages(rung).accessed_bytes >= MEMORY - SLACK
    assert resident(rung) == MEMORY, "a walk takes nothing"


def test_two_intervals_later_what_nobody_used_is_known_to_be_idle(rung: Rung) -> None:
    for number in range(3):
        if number:
            rung.clock.wait(EVERY)
        walk_all(rung)
    found = ages(rung)
    assert found.tells(2 * EVERY)
    assert found.known_seconds == pytest.approx(2 * EVERY, abs=EVERY / 2)
    assert found.idle_bytes(2 * EVERY) >= MEMORY - SLACK
    assert found.accessed_bytes <= SLACK
    assert resident(rung) == MEMORY


def test_each_walk_begins_a_generation_and_the_kernel_keeps_four(rung: Rung) -> None:
    before = generations(rung)
    for _ in range(5):
        walk_all(rung)
    after = generations(rung)
    assert [node.youngest for node in after] == [node.youngest + 5 for node in before]
    assert all(len(node.pages) <= 4 for node in after)


def test_a_number_that_is_not_reached_yet_is_refused(rung: Rung) -> None:
    (node, *_) = generations(rung)
    with pytest.raises(OSError, match="Invalid argument"):
        walk(rung.kernel, node._replace(youngest=node.youngest + 1))
    assert generations(rung)[0].youngest == node.youngest


def test_a_group_that_is_gone_is_not_listed(rung: Rung) -> None:
    assert read_generations(rung.kernel, {"/overcommit-contract-that-never-was"}) == {}
