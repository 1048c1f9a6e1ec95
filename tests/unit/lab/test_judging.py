"""What the benchmark of six guests says of samples whose answer is known."""

from __future__ import annotations

from typing import Any

import pytest

from integration.bench import plot
from integration.bench.judging import judge, table_of

MIB = 1 << 20


def guest(ops: int, *, at: float, rss: int = 100, stalled: float = 0.0) -> dict[str, Any]:
    return {
        "rss": rss * MIB, "swap": 0, "back": 0, "stalled": stalled, "t": at, "ops": ops, "max_us": 1000,
        "hot_bytes": 4 * MIB,
    }  # fmt: skip


def sample(at: float, web: dict[str, Any] | None, *, promoted: float | None = None) -> dict[str, Any]:
    """With overcommitd where a rate of promotions is given; it has used 1 % of a CPU up to then."""
    domain = {
        "name": "web", "promotion_rate_per_minute": promoted, "slo_promotion_rate_per_minute": 0.05,
        "doing": None, "why_not": None,
    }  # fmt: skip
    there = promoted is not None
    return {
        "at": at,
        "host": {"available": 0, "zram": 10 * MIB if there else 0, "busy": at, "kdamonds": 0.0},
        "status": {"domains": [domain]} if there else None,
        "daemon": {
            "pids": [1, 2],
            "cpu": [at / 100, 0.0],
            "rss": [30 * MIB, 9 * MIB],
            "pss": [20 * MIB, 4 * MIB],
        }
        if there
        else None,
        "guests": {"web": web},
        "own_cpu": 0.0,
    }


def run() -> list[dict[str, Any]]:
    """Four quarters of a minute without us, and eight with: outside by stall for the last four of them."""
    lines = []
    for number in range(12):
        at = number * 15.0
        web = guest(int(at * 102.4), at=at, rss=100 if number < 4 else 60, stalled=max(0, number - 7) * 14.0)
        lines.append(sample(at, web, promoted=None if number < 4 else 0.01))
    return lines


def test_what_was_gained_is_what_guests_hold_less_with_what_swap_costs_taken_off() -> None:
    gained = judge(run(), kernel="k")["summary"]["host"]
    assert gained["held_alone_mib"] == 100
    assert gained["given_back_end_mib"] == 30


def test_stalls_count_over_the_minute_before_each_sample() -> None:
    judged = judge(run(), kernel="k")
    assert judged["guests"]["web"]["stalled"][7:] == pytest.approx(
        [0, 14 / 60, 28 / 60, 42 / 60, 56 / 60], abs=0.001
    )
    held = judged["summary"]["guests"]["web"]
    assert held["outside_share"] == held["outside_by_stall"] == 0.5
    assert held["outside_by_promotions"] == 0


def test_promotions_above_the_bound_are_outside() -> None:
    lines = [*run()[:11], sample(165.0, guest(16896, at=165.0, rss=60, stalled=56.0), promoted=0.06)]
    assert judge(lines, kernel="k")["summary"]["guests"]["web"]["outside_by_promotions"] == 0.125


def test_what_follows_a_change_of_needs_is_told_from_the_rest() -> None:
    """It is outside from 120 s on, all of it within two minutes of the change at 110 s."""
    lines = [*run(), {"at": 110.0, "guest": "web", "order": "set hot=8M"}]
    held = judge(lines, kernel="k")["summary"]["guests"]["web"]
    assert (held["outside_share"], held["outside_share_while_steady"]) == (0.5, 0)
    held = judge([*run(), {"at": 10.0, "guest": "web", "order": "set hot=8M"}], kernel="k")["summary"][
        "guests"
    ]
    assert held["web"]["outside_share_while_steady"] == 1.0


def test_pace_is_a_share_of_what_the_guest_wants() -> None:
    """4 MiB are 1024 pages, each wanted once in 10 s."""
    held = judge(run(), kernel="k")["summary"]["guests"]["web"]
    assert held["pace_alone"] == held["pace"] == 1.0


def test_the_cost_is_that_of_all_processes_and_only_while_they_are_the_same() -> None:
    lines = run()
    spent = judge(lines, kernel="k")["summary"]["daemon"]
    assert spent["cpu_percent"] == 1.0
    assert (spent["rss_most_mib"], spent["pss_most_mib"]) == (39, 24)
    lines[8]["daemon"]["pids"] = [1, 3]
    assert judge(lines, kernel="k")["daemon"]["cpu_percent"][8:10] == [None, None]


def test_a_gap_stays_a_gap() -> None:
    lines = run()
    lines[6]["guests"]["web"] = None
    judged = judge(lines, kernel="k")
    web = judged["guests"]["web"]
    assert web["rss"][6] is web["pace"][6] is web["pace"][7] is web["stalled"][6] is None
    drawn = plot.draw(judged)
    assert drawn.startswith("<svg")
    assert drawn.rstrip().endswith("</svg>")
    assert any(line.startswith("web") for line in table_of(judged))
