"""What is taken of cold pieces: no more than is wanted, nothing that is not in them, and not much less."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overcommit.model.heat import ColdPiece
from overcommit.plan.rungs.pageout import coldest
from overcommit.units import MIB

_SIZE = 400 * MIB
"""The pieces of a guest of 50 GiB."""


@st.composite
def _pieces(draw: st.DrawFn, *, full: bool) -> tuple[ColdPiece, ...]:
    starts = draw(st.sets(st.integers(0, 40), min_size=1, max_size=20))
    least = _SIZE if full else 4096
    return tuple(
        ColdPiece(
            start * _SIZE,
            (start + 1) * _SIZE,
            draw(st.integers(least // 4096, _SIZE // 4096)) * 4096,
            draw(st.floats(120, 9000)),
        )
        for start in sorted(starts)
    )


@given(_pieces(full=False), st.integers(0, 20 * _SIZE))
def test_no_more_than_is_wanted_and_nothing_beside_it(pieces: tuple[ColdPiece, ...], most: int) -> None:
    taken = coldest(pieces, most)
    assert taken == tuple(sorted(taken))
    whole = set(pieces)
    for piece in taken:
        assert any(of.start == piece.start and piece.end <= of.end for of in pieces)
        assert 0 < piece.resident_bytes <= piece.end - piece.start
    # What a part that was cut off holds at most is all of it.
    assert sum(p.resident_bytes if p in whole else p.end - p.start for p in taken) <= most


@given(_pieces(full=True), st.integers(0, 20 * _SIZE))
def test_not_much_less_than_is_wanted_where_there_is_as_much(
    pieces: tuple[ColdPiece, ...], most: int
) -> None:
    there = sum(piece.resident_bytes for piece in pieces)
    assert sum(piece.resident_bytes for piece in coldest(pieces, most)) > min(most, there) - 10 * MIB


@given(_pieces(full=False), st.integers(0, 20 * _SIZE))
def test_whole_pieces_are_whole(pieces: tuple[ColdPiece, ...], most: int) -> None:
    assert set(coldest(pieces, most, whole=True)) <= set(pieces)
