"""What a report adds up."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from overcommit.control.reporting import Document, Period, only, percentile, report_document
from overcommit.model.history import Event
from overcommit.model.moments import Wall
from overcommit.model.outcome import Status
from overcommit.model.series import Span
from overcommit.units import GIB, MIB, PAGE_SIZE
from tests.a_month import spans as days_of
from tests.unit.test_series import START, domain, host, minute


def report(*spans: Span, events: tuple[Event, ...] = (), hours: float = 24.0) -> Document:
    period = Period(host="kvm1", since=float(START), until=START + hours * 3600)
    return report_document(period, spans, events)


def only_domain(made: Document) -> Document:
    (found,) = made["domains"]
    return dict(found)


def test_nothing_kept_is_no_fault() -> None:
    made = report()
    assert (made["first_at"], made["observed_minutes"], made["domains"]) == (None, 0, [])
    assert made["savings"]["net_mean_bytes"] == 0
    json.dumps(made)


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.5, 1.0), (0.51, 2.0), (0.9, 2.0), (0.91, 9.0), (1.0, 9.0)]
)
def test_a_percentile_counts_minutes_and_not_values(share: float, value: float) -> None:
    assert percentile([(9.0, 10.0), (1.0, 50.0), (2.0, 40.0)], share) == value


def test_a_percentile_of_nothing() -> None:
    assert percentile([], 0.5) is None


def test_savings_are_net_of_the_memory_that_holds_what_was_swapped_out() -> None:
    """Half of what zram holds is of these domains: so is half of the memory that it takes."""
    of = host(pool_stored_bytes=4 * GIB, pool_used_bytes=GIB, merged_bytes=100 * MIB)
    made = report(
        minute(0, domain("a", swapped_bytes=GIB), domain("b", swapped_bytes=GIB, balloon_bytes=MIB), of=of)
    )
    by_name = {each["name"]: each for each in made["savings"]["mechanisms"]}
    assert by_name["swap"] == {
        "name": "swap",
        "taken_mean_bytes": 2 * GIB,
        "cost_mean_bytes": GIB // 2,
        "net_mean_bytes": 2 * GIB - GIB // 2,
    }
    assert by_name["balloon"]["net_mean_bytes"] == MIB
    assert by_name["ksm"]["net_mean_bytes"] == 100 * MIB
    assert made["savings"]["net_mean_bytes"] == 2 * GIB - GIB // 2 + 101 * MIB


def test_zram_takes_no_more_than_it_takes() -> None:
    """What is on a disk costs no memory."""
    of = host(pool_stored_bytes=GIB, pool_used_bytes=300 * MIB)
    made = report(minute(0, domain(swapped_bytes=10 * GIB), of=of))
    assert made["savings"]["mechanisms"][0]["cost_mean_bytes"] == 300 * MIB


def test_a_domain_that_ran_half_of_the_time_saved_half() -> None:
    made = report(minute(0, domain(balloon_bytes=GIB)), minute(1, domain("other", balloon_bytes=0)))
    assert made["savings"]["mechanisms"][1]["taken_mean_bytes"] == GIB // 2


def test_the_working_set_of_a_span_counts_with_its_highest_minute() -> None:
    hour = domain(minutes=60, working_set_bytes=GIB, working_set_most_bytes=3 * GIB)
    working_set = only_domain(report(dataclasses.replace(minute(0, hour), seconds=3600, minutes=60)))
    assert working_set["working_set"]["p99_bytes"] == 3 * GIB


def test_a_week_is_enough_to_tell_what_a_domain_needs() -> None:
    def seen(minutes: int) -> Any:
        found = only_domain(report(minute(0, domain(minutes=minutes))))
        return found["working_set"]["seen_enough"]

    assert (seen(7 * 1440 - 1), seen(7 * 1440)) == (False, True)


def test_gaps_are_gaps() -> None:
    unknown = domain(
        resident_bytes=None,
        working_set_bytes=None,
        working_set_most_bytes=None,
        idle_bytes=(None, None, None),
        judged_seconds=0,
        pain_most=None,
    )
    found = only_domain(report(minute(0, unknown)))
    assert found["working_set"]["p99_bytes"] is None
    assert found["idle"][1] == {
        "idle_seconds": 600.0,
        "p10_share": None,
        "p50_share": None,
        "p90_share": None,
    }
    assert found["outside_share"] is None
    assert set(found["cells"]["idle_share"]) == {None}


def test_time_outside_is_a_share_of_the_time_in_which_it_was_judged() -> None:
    made = report(
        minute(0, domain(judged_seconds=60, outside_seconds=30, pain_most=3.0)),
        minute(1, domain(judged_seconds=30, outside_seconds=0)),
    )
    found = only_domain(made)
    assert found["outside_share"] == pytest.approx(1 / 3)
    assert (found["outside_minutes"], found["slo_most"]) == (0.5, 3.0)
    assert found["read_back_bytes"] == 14 * PAGE_SIZE


def test_the_worst_hours() -> None:
    spans = [
        minute(0, domain(outside_seconds=10), domain("db", outside_seconds=20)),
        minute(70, domain(outside_seconds=40)),
        minute(130, domain(promoted_pages=0)),
        minute(190, *(domain(f"d{n}", outside_seconds=5) for n in range(5))),
    ]
    hours = report(*spans)["worst_hours"]
    assert [(hour["at"] - START) // 3600 for hour in hours] == [1, 0, 3]
    assert [each["name"] for each in hours[1]["domains"]] == ["db", "web"]
    assert hours[2]["more_domains"] == 2


def test_the_map_has_columns_that_can_be_seen_and_none_before_the_first_figure() -> None:
    week = days_of(START, 7)
    made = report(*week, hours=7 * 24)
    assert (made["cells"]["seconds"], len(made["cells"]["at"])) == (4 * 3600, 42)
    for found in made["domains"]:
        assert len(found["cells"]["idle_share"]) == len(found["cells"]["working_set_bytes"]) == 42
    by_name = {found["name"]: found for found in made["domains"]}
    assert by_name["db"]["cells"]["idle_share"][12:18] == [None] * 6, "a day of it is missing"
    assert all(share is not None for share in by_name["web"]["cells"]["idle_share"])
    late = report(*week[-6:], hours=7 * 24)
    assert (late["cells"]["at"][0], late["cells"]["seconds"]) == (week[-6].at, 600)


def test_a_domain_that_was_renamed_is_one() -> None:
    made = report(minute(0, domain("old", uuid="u")), minute(1, domain("new", uuid="u")))
    assert [(found["name"], found["seen_minutes"]) for found in made["domains"]] == [("new", 2)]


def test_the_spans_of_some_domains() -> None:
    (span,) = only([minute(0, domain("a"), domain("b"))], {"uuid of b"})
    assert [each.name for each in span.domains] == ["b"]


def test_events_are_counted_and_the_latest_told() -> None:
    events = tuple(
        Event(
            at=Wall(START + n),
            boot_id="b",
            run="r",
            kind="balloon",
            status=status,
            about="web",
            freed_bytes=n,
        )
        for n, status in enumerate((Status.DONE, Status.FAILED, Status.DONE))
    )
    told = report(events=events)["events"]
    assert told["by_kind"] == [
        {"kind": "balloon", "done": 2, "partial": 0, "failed": 1, "undone": 0, "freed_bytes": 3}
    ]
    assert [event["at"] - START for event in told["latest"]] == [0, 1, 2]
