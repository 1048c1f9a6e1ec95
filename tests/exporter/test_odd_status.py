"""Whatever a status says, there is a page that can be read."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from overcommit.exporter.latest import Latest
from tests.exporter.conftest import Status

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**63), 10**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in a document."""
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    return [at, *(place for key, child in children for place in places(child, (*at, key)))]


def with_other(value: Any, place: tuple[Any, ...], other: Any) -> Any:
    if not place:
        return other
    copied = copy.copy(value)
    copied[place[0]] = with_other(value[place[0]], place[1:], other)
    return copied


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_a_status_says_the_page_can_be_read(recorded: Status, data: st.DataObject) -> None:
    known = places(recorded)
    status = recorded
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(known))
        try:
            status = with_other(status, place, data.draw(VALUES))
        except (KeyError, IndexError, TypeError):  # what was there is gone by now
            continue
    latest = Latest(lambda: status, most_domains=5)
    answered = latest.refresh(30.0)
    registry = CollectorRegistry()
    registry.register(latest)
    pages = list(text_string_to_metric_families(generate_latest(registry).decode()))
    seen: set[tuple[str, frozenset[tuple[str, str]]]] = set()
    for family in pages:
        for sample in family.samples:
            series = sample.name, frozenset(sample.labels.items())
            assert series not in seen
            seen.add(series)
    (up,) = (family.samples[0].value for family in pages if family.name == "overcommit_up")
    assert up == int(answered)
