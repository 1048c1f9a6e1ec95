"""The screen of `top`: it fits whatever terminal there is, hides nothing that matters, and obeys no name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overcommit.cli.live.recent import LETTERS, Recent
from overcommit.cli.live.screen import HELP, Known, Row, Size, drawn, rows_of
from overcommit.cli.live.view import Order, Page, View, ordered, settled
from overcommit.cli.tables import columns
from overcommit.model.moments import Monotonic, Wall
from overcommit.units import GIB, MIB

NOW = 1_800_000_000.0
AT = Monotonic(1000.0)
ODD = ["\x1b[31mx\x1b[0m", "[red]x[/red]", "日本語のサーバの名前", "a\u202eb", "n" * 300, "", " ", "\ud800"]


def domain(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "uuid": f"uuid-{name}",
        "pid": 7,
        "class": "standard",
        "state": "running",
        "busy_with": None,
        "maximum_bytes": 8 * GIB,
        "actual_bytes": 6 * GIB,
        "resident_bytes": 1023 * MIB,
        "swapped_bytes": 1023 * MIB,
        "overhead_bytes": 40 * MIB,
        "psi_some_avg60": 0.001,
        "target_bytes": 2 * GIB,
        "floor_bytes": GIB,
        "ceiling_bytes": 8 * GIB,
        "wss_bytes": None,
        "reclaimed_bytes": 1023 * MIB,
        "reclaimed_by": {"swap": 1023 * MIB},
        "promotion_rate_per_minute": 0.0005,
        "slo_promotion_rate_per_minute": 0.002,
        "slo_psi_some": 0.01,
        "cold_after_seconds": 120.0,
        "outside_share": 0.001,
        "pain": 0.25,
        "feels": None,
        "doing": None,
        "why_not": None,
        "held": None,
        "faults": None,
        "idle_histogram": [{"min_idle_seconds": 0.0, "bytes": GIB}, {"min_idle_seconds": 60.0, "bytes": 0}],
        "gaps": [],
    } | changed


def document(domains: list[dict[str, Any]], **changed: Any) -> dict[str, Any]:
    return {
        "mode": "active",
        "mode_reason": None,
        "mode_until": None,
        "pid": 7,
        "tick": 1,
        "sentence": f"active; {len(domains)} domains",
        "stopped": None,
        "taken_at": NOW - 3,
        "ticked_at": NOW - 3,
        "swap_budget": {"room_bytes": 2 * GIB, "bytes_per_second": 50 * MIB, "spent": None},
        "host": {
            "text": "kvm07: 2 domains, 301 GiB promised of 251 GiB, 30.9 GiB available, swap 14.2 GiB of "
            "64.0 GiB, 10.8 GiB above the reserve of 20.1 GiB",
            "psi_some_avg60": 0.012,
        },
        "domains": domains,
        "quarantines": [],
    } | changed


def known(seen: dict[str, Any] | None, *, trouble: str | None = None, order: Order = Order.PAIN) -> Known:
    recent = Recent(2.0)
    if seen:
        recent.record(seen["domains"], AT)
    domains = ordered(seen["domains"], order) if seen else []
    return Known(seen=seen, domains=domains, trouble=trouble, recent=recent, now=Wall(NOW), at=AT)


def text(row: Row) -> str:
    return "".join(span.text for span in row)


def shown(what: Known, size: Size, view: View | None = None) -> list[str]:
    """The lines, which are checked to fit."""
    view = settled(view or View(), [each["uuid"] for each in what.domains], rows_of(what, size))
    lines = [text(row) for row in drawn(view, what, size)]
    assert len(lines) == size.height
    for line in lines:
        assert columns(line) <= size.width, line
        assert line.isprintable()
    return lines


TWO = document([domain("web", pain=1.4, feels="it hurts", doing="pageout"), domain("db", reclaimed_bytes=0)])


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_what_matters_is_there_at_each_width(width: int) -> None:
    lines = shown(known(TWO), Size(width, 24))
    assert lines[0] == "overcommitd (pid 7) is active"
    assert any("30.9 GiB available" in line for line in lines)
    assert any(line.startswith("swap budget: 2.0 GiB left, at most 50.0 MiB/s") for line in lines)
    (title,) = [line for line in lines if line.startswith("2 domains by slo, 1 outside of its SLO")]
    assert title.endswith(", looked 3s ago")
    (header,) = [line for line in lines if "read back/min" in line]
    for name in ("domain", "resident", "taken", "slo", "slo 10m", "now"):
        assert f" {name} " in f"{header} "
    web, db = (next(line for line in lines if f"{name}  " in line) for name in ("web", "db"))
    assert web.startswith(">!web")
    assert db.startswith("  db")
    for cell in ("1023 MiB", "0.05% of 0.2%", "140%", "pageout"):
        assert f"  {cell}" in web
    assert lines.index(web) < lines.index(db)
    assert lines[-3].startswith("web: pageout; outside of its SLO: it hurts")
    assert lines[-1].endswith("q quit")


def test_more_room_shows_more() -> None:
    assert not any("class" in line for line in shown(known(TWO), Size(80, 24)))
    wide = "\n".join(shown(known(TWO), Size(200, 24)))
    for name in ("class", "memory", "balloon", "target", "swapped", "cold after", "PSI some"):
        assert f" {name} " in wide


def test_what_stops_the_main_job_is_first_and_an_answer_that_is_missing_before_it() -> None:
    stopped = document([domain("web")], stopped="NOTHING IS PAGED OUT: swap is 61% full")
    assert shown(known(stopped), Size(80, 24))[0] == "NOTHING IS PAGED OUT: swap is 61% full"
    lines = shown(known(stopped, trouble="overcommitd is not running. What is shown is 9s old"), Size(80, 24))
    assert lines[:3] == [
        "overcommitd is not running. What is shown is 9s old",
        "NOTHING IS PAGED OUT: swap is 61% full",
        "3s ago: overcommitd (pid 7) is active",
    ]
    assert any(line.startswith(">") for line in lines), "what was known stays"


def test_a_daemon_whose_loop_hangs_is_said_to_be_late() -> None:
    lines = shown(known(document([domain("web")], ticked_at=NOW - 90)), Size(80, 24))
    assert lines[:2] == [
        "overcommitd (pid 7) is late: it last looked at the host 1min 30s ago",
        "1min 30s ago: overcommitd (pid 7) is active",
    ]


def test_before_the_first_answer_it_says_whom_it_asks() -> None:
    assert shown(known(None), Size(80, 24))[0] == "asking overcommitd ..."
    assert shown(known(None, trouble="it is silent"), Size(80, 24))[0] == "it is silent"


def test_only_what_fits_is_drawn_of_a_thousand_domains() -> None:
    many = known(document([domain(f"guest-{n:04}") for n in range(1000)]), order=Order.NAME)
    lines = shown(many, Size(80, 24), View(order=Order.NAME))
    assert sum("guest-" in line for line in lines[:-3]) == rows_of(many, Size(80, 24)) == 14
    assert any(line.startswith("1-14 of 1,000 domains by name") for line in lines)
    last = shown(many, Size(80, 24), View(order=Order.NAME, selected="uuid-guest-0999"))
    assert any(line.startswith("987-1,000 of 1,000 domains") for line in last)
    assert any(line.startswith("> guest-0999") for line in last)


def test_the_ten_minutes_are_of_what_it_is_sorted_by() -> None:
    for order, name in ((Order.TAKEN, "taken"), (Order.RESIDENT, "resident"), (Order.NAME, "taken")):
        lines = shown(known(TWO, order=order), Size(80, 24), View(order=order))
        assert any(f" {name} 10m" in line for line in lines)


def test_a_terminal_without_block_elements_gets_letters() -> None:
    lines = shown(Known(**{name: getattr(known(TWO), name) for name in (
        "seen", "domains", "trouble", "recent", "now", "at",
    )}, levels=LETTERS), Size(80, 24))  # fmt: skip
    assert not any(set("▁▂▃▄▅▆▇█") & set(line) for line in lines)
    assert any("#  pageout" in line for line in lines)


def test_details_have_all_that_is_known() -> None:
    hurt = domain(
        "web", pain=1.4, feels="it hurts", why_not="it rests", faults={"count": 2, "last": "it broke"},
        gaps=[{"what": "balloon", "why": "no driver"}],
    )  # fmt: skip
    quarantine = {
        "domain": "web",
        "uuid": "uuid-web",
        "actuator": "balloon",
        "reason": "it lies",
        "until": NOW,
    }
    seen = known(document([hurt, domain("db")], quarantines=[quarantine]))
    lines = shown(seen, Size(120, 40), View(page=Page.DETAIL, selected="uuid-web"))
    said = "\n".join(lines) + " ".join(" ".join(lines).split())
    for part in (
        "web  (class standard, running, uuid uuid-web, pid 7)",
        "nothing is taken: it rests",
        "cannot read its balloon: no driver",
        "SLO: 140% of its limit; it hurts",
        "memory pressure 0.1% of 1%",
        "8.0 GiB defined, 6.0 GiB by its balloon, 1023 MiB resident, 1023 MiB swapped, QEMU 40.0 MiB",
        "taken: 1023 MiB (1023 MiB swap)",
        "idle for at least: 1.0 GiB for 0s",
        "target 2.0 GiB, floor 1.0 GiB, ceiling 8.0 GiB; cold after 2min, working set ?",
        "to end it: overcommitctl release web",
        "2 errors were contained; the last: it broke",
        "    slo ",
    ):
        assert part in said
    small = shown(seen, Size(80, 16), View(page=Page.DETAIL, selected="uuid-web"))
    assert small[-2] == "  ... a higher window shows more"


def test_details_of_a_domain_that_is_gone_are_not_those_of_another() -> None:
    lines = shown(known(TWO), Size(80, 24), View(page=Page.DETAIL, selected="uuid-gone"))
    assert "This domain is not there any more." in lines
    assert not any("web" in line for line in lines)


def test_help_fits_the_smallest_usual_terminal_and_names_each_key() -> None:
    lines = shown(known(TWO), Size(80, 24), View(page=Page.HELP))
    assert [line for line in lines if line][:-1] == [line for line in HELP.splitlines() if line]
    assert shown(known(TWO), Size(80, 20), View(page=Page.HELP))[-2] == "  ... a higher window shows more"


@settings(deadline=None, max_examples=60)
@given(
    st.builds(Size, st.integers(1, 220), st.integers(1, 60)),
    st.lists(st.text(max_size=30) | st.sampled_from(ODD), max_size=8, unique=True),
    st.sampled_from(Page),
    st.sampled_from(Order),
    st.booleans(),
)
def test_whatever_the_names_and_the_terminal_the_screen_fits(
    size: Size, names: list[str], page: Page, order: Order, gaps: bool
) -> None:
    nothing = dict.fromkeys(
        (
            *("resident_bytes", "swapped_bytes", "actual_bytes", "overhead_bytes", "target_bytes", "pain"),
            *("reclaimed_bytes", "reclaimed_by", "promotion_rate_per_minute", "cold_after_seconds"),
            *("psi_some_avg60", "outside_share", "idle_histogram", "slo_psi_some"),
        )
    )
    domains = [
        domain(name, why_not=f"{name} rests", **{"class": name}, **(nothing if gaps else {}))
        for name in names
    ]
    seen = known(document(domains, stopped=f"stopped by {names}"), order=order)
    shown(seen, size, View(page=page, order=order, selected=f"uuid-{names[-1]}" if names else None))
