"""Sets of half-open address ranges."""

import pytest

from overcommit.model.ranges import Range, chop, intersect, normalise, total_size


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], []),
        ([(5, 5), (7, 6)], []),
        ([(4, 6), (0, 2)], [(0, 2), (4, 6)]),
        ([(0, 2), (2, 4)], [(0, 4)]),
        ([(0, 9), (2, 4)], [(0, 9)]),
        ([(0, 3), (2, 5), (5, 6), (8, 9)], [(0, 6), (8, 9)]),
    ],
    ids=["none", "empty and reversed", "unsorted", "touching", "nested", "chain"],
)
def test_normalise(given: list[tuple[int, int]], wanted: list[tuple[int, int]]) -> None:
    assert normalise(Range(*item) for item in given) == tuple(wanted)


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        ([], [(0, 9)], []),
        ([(0, 4)], [(4, 8)], []),
        ([(0, 10)], [(2, 3), (5, 12)], [(2, 3), (5, 10)]),
        ([(0, 4), (6, 10)], [(2, 8)], [(2, 4), (6, 8)]),
    ],
    ids=["one side empty", "touching", "one over several", "several under one"],
)
def test_intersect_is_symmetric(
    left: list[tuple[int, int]], right: list[tuple[int, int]], both: list[tuple[int, int]]
) -> None:
    one, other = [Range(*r) for r in left], [Range(*r) for r in right]
    assert list(intersect(one, other)) == both
    assert list(intersect(other, one)) == both


def test_total_size() -> None:
    assert total_size([Range(0, 4), Range(10, 11)]) == 5
    assert Range(3, 10).size == 7


def test_chop_cuts_at_multiples_of_the_size() -> None:
    assert list(chop([Range(3, 9), Range(12, 14)], 4)) == [(3, 4), (4, 8), (8, 9), (12, 14)]
    assert list(chop([], 4)) == []
