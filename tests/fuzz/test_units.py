"""Quantities that people write: any text is a value within its bounds, or a ValueError of one line."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit import units

TEXTS = (
    st.text(max_size=60)
    | st.text("0123456789.,eE+-_ %/KMGTiBbmshind\t\n\0", max_size=30)
    | st.from_regex(units.SIZE, fullmatch=True)
    | st.from_regex(units.DURATION, fullmatch=True)
    | st.from_regex(units.PERCENTAGE, fullmatch=True)
    | st.from_regex(f"{units.PERCENTAGE} */min", fullmatch=True)
    | st.from_regex(f"{units.SIZE} */s", fullmatch=True)
)
PARSERS = (
    units.parse_size,
    units.parse_duration,
    units.parse_percentage,
    units.parse_share,
    units.parse_share_per_minute,
    units.parse_size_per_second,
)


def outcome(parse: Callable[[str], float], text: str) -> tuple[float, str]:
    """The value and nothing said, or 0 and why there is none."""
    try:
        return parse(text), ""
    except ValueError as error:
        return 0.0, str(error)


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__name__)
@given(TEXTS)
def test_any_text_is_a_quantity_or_refused(parse: Callable[[str], float], text: str) -> None:
    value, said = outcome(parse, text)
    assert said.isprintable()
    assert math.isfinite(value)
    assert value >= 0
    if "share" in parse.__name__:
        assert value <= 1


@given(st.integers(0, 1 << 70) | st.floats(0, 1e22))
def test_a_size_that_is_written_is_read_within_what_it_was_rounded_by(size: float) -> None:
    text = units.format_size(size)
    assert units.parse_size(text) == pytest.approx(size, rel=0.05, abs=1)


@given(st.floats(0, 1e12))
def test_a_duration_is_written_with_units_that_can_be_read(seconds: float) -> None:
    text = units.format_duration(seconds)
    parts = text.split(" ")
    assert all(re.fullmatch(r"[0-9]+(ms|s|min|h|d)", part) for part in parts)
    assert sum(map(units.parse_duration, parts)) == pytest.approx(seconds, rel=0.04, abs=0.5)
