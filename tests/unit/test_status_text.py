"""What is said of a status document: budgets, lateness, and what a domain feels."""

from __future__ import annotations

from typing import Any

import pytest

from overcommit.cli import status_text
from overcommit.cli.tables import plain_lines
from overcommit.model.moments import Wall
from overcommit.units import GIB, MIB

SEEN: dict[str, Any] = {
    "mode": "active",
    "mode_reason": None,
    "mode_until": None,
    "pid": 7,
    "sentence": "active; 1 domain",
    "stopped": None,
    "taken_at": 1000.0,
    "ticked_at": 1040.0,
    "host": {"text": "host: 1 domain", "psi_some_avg60": 0.004},
    "swap_budget": {"room_bytes": GIB, "bytes_per_second": 50 * MIB, "spent": None},
}


def last_line(**changed: Any) -> str:
    return list(plain_lines(status_text.host_lines(SEEN | changed)))[-1]


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        ({}, "1.0 GiB left, at most 50.0 MiB/s"),
        ({"swap_budget": None}, "not known yet"),
        ({"swap_budget": {"spent": "swap is 61% full"}}, "none left: swap is 61% full"),
        ({"swap_budget": {"spent": "swap is 61% full"}, "stopped": "swap is 61% full"}, "none left"),
    ],
)
def test_what_is_left_of_the_swap_budget(changed: dict[str, Any], left: str) -> None:
    assert last_line(**changed) == f"swap budget: {left}; memory pressure of the host: 0.4%"


def test_what_stops_the_main_job_is_said_first_and_an_unread_pressure_is_not_zero() -> None:
    host = SEEN["host"] | {"psi_some_avg60": None}
    lines = list(plain_lines(status_text.host_lines(SEEN | {"stopped": "NOTHING", "host": host})))
    assert lines[:2] == ["NOTHING", "overcommitd (pid 7) is active"]
    assert lines[-1].endswith("memory pressure of the host: ?")


@pytest.mark.parametrize(("now", "late"), [(1039.0, False), (1100.0, False), (1101.0, True)])
def test_a_daemon_that_has_not_looked_for_a_minute_is_late(now: float, late: bool) -> None:
    said = status_text.lateness(SEEN, Wall(now))
    assert (said is not None) is late
    if said:
        assert said == "overcommitd (pid 7) is late: it last looked at the host 1min 1s ago"


@pytest.mark.parametrize(
    ("pain", "cell", "outside"),
    [
        (None, "?", False),
        (0.0, "0%", False),
        (1.0, "100%", False),
        (1.4, "140%", True),
        (1e3, ">999%", True),
    ],
)
def test_what_a_domain_feels_is_a_share_of_what_it_may(pain: float | None, cell: str, outside: bool) -> None:
    domain = {"pain": pain}
    assert (status_text.PAIN.cell(domain), status_text.in_pain(domain)) == (cell, outside)
    assert len(cell) <= status_text.PAIN.width
    assert status_text.PAIN.cell({}) == "?", "an older daemon says nothing of it"


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, ""),
        ({"doing": "pageout", "held": "throttled: it stalled"}, "pageout"),
        ({"busy_with": "a migration that runs"}, "busy"),
        ({"why_not": "it boots"}, "rests"),
        ({"held": "throttled: it stalled"}, "slowed"),
        ({"pain": 1.2, "feels": "memory pressure was 2%, limit 1%"}, "over SLO"),
        ({"gaps": [{"what": "balloon", "why": "no driver"}]}, "gaps"),
        ({"state": "paused", "why_not": "it is paused"}, "paused"),
        ({"state": "crashed"}, "crashed"),
    ],
)
def test_a_word_where_there_is_no_room_for_more(changed: dict[str, Any], word: str) -> None:
    domain = {"state": "running", "gaps": []} | changed
    assert status_text.briefly(domain, 8) == word
    for said in status_text.remarks(domain):
        assert said in status_text.briefly(domain, 200) or said in list(status_text.remarks(domain))[1:]
