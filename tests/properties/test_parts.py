"""What holds for the parts of the pure core, whatever they are fed."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from overcommit.classify.idle import begin, classify, update
from overcommit.damon.tree import REGION_FIELDS, parse_regions
from overcommit.errors import PolicyError, StalePlan, UsageError
from overcommit.model.heat import AccessRegion
from overcommit.model.moments import Monotonic
from overcommit.model.ranges import Range, chop, intersect, normalise, total_size
from overcommit.plan import document
from overcommit.policy import loader
from overcommit.units import PAGE_SIZE, format_size, parse_size

ADDRESSES = st.integers(0, 400).map(lambda page: page * PAGE_SIZE)
RANGES = st.builds(Range, ADDRESSES, ADDRESSES)
SETS = st.lists(RANGES, max_size=8).map(normalise)
SNAPSHOTS = st.lists(
    st.lists(st.builds(AccessRegion, ADDRESSES, ADDRESSES, st.integers(0, 3)), max_size=8),
    max_size=10,
)


def addresses(ranges: object) -> set[int]:
    return {page for start, end in ranges for page in range(start, end, PAGE_SIZE)}  # type: ignore[attr-defined]


@given(st.lists(RANGES, max_size=8), SETS)
def test_ranges_are_sets_of_addresses(some: list[Range], others: tuple[Range, ...]) -> None:
    ours = normalise(some)
    assert addresses(ours) == addresses(some)
    assert total_size(ours) == PAGE_SIZE * len(addresses(some))
    assert normalise(reversed(ours)) == ours
    assert addresses(intersect(ours, others)) == addresses(ours) & addresses(others)


@given(SETS, st.integers(1, 50))
def test_chopping_loses_nothing(ranges: tuple[Range, ...], pages: int) -> None:
    size = pages * PAGE_SIZE
    parts = list(chop(ranges, size))
    assert normalise(parts) == ranges
    assert all(part.start // size == (part.end - 1) // size for part in parts)


@given(SETS, SNAPSHOTS, SETS, st.sampled_from([0.0, 4.0, 10.0, 20.0]))
def test_idle_map_keeps_every_address_whatever_damon_says(
    ram: tuple[Range, ...],
    snapshots: list[list[AccessRegion]],
    elsewhere: tuple[Range, ...],
    cold_after: float,
) -> None:
    """Against a plain count page by page."""
    idle = begin(ram, Monotonic(100.0))
    accessed_at = dict.fromkeys(addresses(ram), Monotonic(100.0))
    for number, regions in enumerate(snapshots, start=1):
        at = Monotonic(100.0 + 4 * number)
        idle = update(idle, regions, at, window=1e6)
        quiet = addresses(r[:2] for r in regions if r.accesses == 0)
        accessed_at |= {page: at for page in accessed_at if page not in quiet}
    assert {p: s.accessed_at for s in idle.spans for p in range(s.start, s.end, PAGE_SIZE)} == accessed_at
    resident = tuple(intersect(ram, elsewhere))
    heat = classify(idle, resident, cold_after=cold_after)
    assert heat.hot_bytes + heat.warm_bytes + (heat.cold_bytes or 0) == total_size(resident)
    assert sum(bucket.resident_bytes for bucket in heat.histogram) == total_size(resident)
    if heat.cold_bytes is not None:
        cold = {page for page, at in accessed_at.items() if idle.updated_at - at >= cold_after}
        pieces = addresses(piece[:2] for piece in heat.cold_pieces)
        assert pieces <= cold
        assert pieces & addresses(resident) == cold & addresses(resident)
        assert heat.cold_bytes == sum(piece.resident_bytes for piece in heat.cold_pieces)


@given(
    st.lists(st.builds(AccessRegion, *[st.integers(0, 2**64 - 1)] * 3), unique=True, max_size=20), st.data()
)
def test_damon_regions_are_read_back_sorted_in_whatever_order_files_come(
    regions: list[AccessRegion], data: st.DataObject
) -> None:
    files = {
        f"{index}/{name}": f"{value}\n"
        for index, region in enumerate(regions)
        for name, value in zip(REGION_FIELDS, region, strict=True)
    }
    shuffled = dict(data.draw(st.permutations(sorted(files.items()))))
    assert parse_regions(shuffled) == tuple(sorted(regions))


YAML_BITS = st.sampled_from(
    [
        *("version", "classes", "host", "domains", "match", "default_class", "swap", "1", "8%", "null", "~"),
        *(": ", "\n", "  ", "- ", "? ", "{", "}", "[", "]", "'", '"', "|\n", "#", "---", "...", "\t"),
        *("&a ", "*a", "!!int ", "<<", "0x1"),
    ]
)


@given(st.text() | st.lists(YAML_BITS, max_size=25).map("".join))
def test_any_text_is_a_policy_or_a_fault_with_a_place(text: str) -> None:
    for fault in faults(text):
        assert re.match(r"p\.yaml:\d+:\d+: \S", fault)


def faults(text: str) -> tuple[str, ...]:
    try:
        loader.parse(text, "p.yaml")
    except PolicyError as error:
        return tuple(map(str, error.faults)) or ("none is named",)
    return ()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["kind", "format_version", "digest", "host", "plan", "1.0"]), inner
            )
        ),
    )
)
def test_any_json_is_refused_as_a_plan_and_never_crashes(data: object) -> None:
    try:
        document.loads(json.dumps(data), "p.json")
    except (UsageError, StalePlan):
        return
    raise AssertionError("that was no plan")


@given(st.integers(-(2**70), 2**70))
def test_a_size_is_written_within_five_percent(size: int) -> None:
    text = format_size(size)
    again = parse_size(text.removeprefix("-"))
    assert abs(again - abs(size)) <= 0.05 * abs(size)
    assert text.startswith("-") == (size < 0)
