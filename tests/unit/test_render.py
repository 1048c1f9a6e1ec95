"""Text for people: columns that line up, whatever a domain is called."""

from __future__ import annotations

import dataclasses
import unicodedata

import pytest

from overcommit.cli import outcomes, render
from overcommit.cli.tables import plain_lines, table
from overcommit.model.outcome import Controller, HostBalance, Outcome, Report, Status
from overcommit.model.part import MemoryPart
from overcommit.model.past import Left, Past
from overcommit.model.plan import Plan
from overcommit.plan.planner import make_plan
from overcommit.units import GIB, MIB
from tests import scenarios

NAMES = ["web", "my web", 'it\'s "quoted"', "süß-日本語", "x" * 200, "-q", "a\\b", "%s{0}"]


def cells(text: str) -> int:
    """Columns of a terminal that the text takes."""
    marks = sum(1 for c in text if unicodedata.combining(c))
    return len(text) + sum(1 for c in text if unicodedata.east_asian_width(c) in "WF") - marks


@pytest.mark.parametrize("name", NAMES)
def test_a_name_never_moves_a_column_and_a_terminal_shortens_it_where_it_would_widen_the_table(
    name: str,
) -> None:
    drawn = table(("domain", "size"), [(name, "1.0 GiB"), ("b", "22 B")])
    header, row, other = plain_lines([drawn], width=80)
    assert (name if len(name) < 40 else f"{'x' * 16}…{'x' * 15}  ") in row
    assert cells(row) < 50
    assert row.endswith("  1.0 GiB")
    assert cells(header) == cells(row) == cells(other)


@pytest.mark.parametrize("name", NAMES)
def test_a_pipe_gets_every_name_whole(name: str) -> None:
    header, row, other = plain_lines([table(("domain", "size"), [(name, "1.0 GiB"), ("b", "22 B")])])
    assert name in row
    assert cells(header) == cells(row) == cells(other)


def test_table_wider_than_any_terminal_stays_whole() -> None:
    row = ["domain" * 5, *(f"column-{n}" for n in range(20))]
    for width in (None, 40):
        (header,) = plain_lines([table(row, [], names=())], width)
        assert header.split() == row
        assert len(header) > 200


def test_a_table_has_one_line_per_row_and_no_trailing_space() -> None:
    lines = list(plain_lines([table(("a", "b"), [("1", ""), ("", "2")])]))
    assert len(lines) == 3
    assert all(line == line.rstrip() for line in lines)


def test_unknown_is_not_zero() -> None:
    assert render.size(None) == "?"
    assert render.size(0) == "0 B"


@pytest.mark.parametrize("name", NAMES)
def test_a_plan_names_its_domains_in_full(name: str) -> None:
    policy = scenarios.policy()
    facts = scenarios.domain(name, balloon=scenarios.guest_says(600 * MIB))
    idle = scenarios.heat(facts, [(300.0, GIB)], watched=300.0, policy=policy)
    plan = make_plan(scenarios.snapshot(scenarios.host(), facts), {facts.incarnation.uuid: idle}, policy)
    text = list(plain_lines(render.plan_text(plan)))
    assert any(line.startswith(f"  {name}  ") and "standard" in line for line in text)
    assert any(line.startswith(f"  ~  {name}  ") and "balloon" in line for line in text)
    assert text[-2].startswith("Plan: 2 to change, 0 blocked.")


def many(count: int) -> Plan:
    policy = scenarios.policy()
    domains = [scenarios.domain(f"web-frontend-{n:02}") for n in range(count)]
    heats = {
        facts.incarnation.uuid: scenarios.heat(
            facts, [(300.0, 800 * MIB), (0.0, 224 * MIB)], watched=300.0, policy=policy
        )
        for facts in domains
    }
    return make_plan(scenarios.snapshot(scenarios.host(64 * GIB), *domains), heats, policy)


def test_a_plan_of_forty_domains_is_readable_on_a_hundred_columns() -> None:
    plan = many(40)
    assert len(plan.actions) == 40
    for verbose in (False, True):
        text = list(plain_lines(render.plan_text(plan, verbose=verbose), width=100))
        assert max(map(cells, text)) <= 100, max(text, key=cells)
        reasons = sum("reason: " in line for line in text)
        assert reasons == (40 if verbose else 0)
    assert len(list(plain_lines(render.plan_text(plan), width=100))) < 3 * 40 + 10
    assert "-v shows the reason and the risk of each action." in plain_lines(render.plan_text(plan))


def test_a_plan_of_a_few_domains_says_why_of_each() -> None:
    text = list(plain_lines(render.plan_text(many(3))))
    assert sum("reason: " in line for line in text) == sum("risk: " in line for line in text) == 3


def test_an_explanation_says_how_idle_what_can_be_done_and_what_stands_in_the_way() -> None:
    policy = scenarios.policy()
    facts = scenarios.domain("web", resident=GIB, passthrough=("a PCI device",))
    idle = scenarios.heat(facts, [(300.0, 768 * MIB), (0.0, 256 * MIB)], watched=300.0, policy=policy)
    plan = make_plan(scenarios.snapshot(scenarios.host(), facts), {facts.incarnation.uuid: idle}, policy)
    text = list(plain_lines(render.explain_text(plan)))
    assert text[0].startswith("web  (class standard, uuid ")
    assert "  resident on the host: 1.0 GiB (hot 256 MiB, warm 0 B, cold 768 MiB); swapped 0 B" in text
    bars = {line.split()[0]: line.count("#") for line in text if "MiB  #" in line}
    assert bars == {"0s": 10, "5min": 30}
    assert "  pageout: no: guest memory is pinned by a PCI device" in text
    assert any(line.startswith("      fix: ") for line in text)
    assert text[-1] == "The plan has no action for it now."


def report(*done: Outcome, available_after: int = 3 * GIB, swap: int = 0, zram: int = 0) -> str:
    balance = HostBalance(
        available_before_bytes=2 * GIB,
        available_after_bytes=available_after,
        swap_used_before_bytes=0,
        swap_used_after_bytes=swap,
        zram_before_bytes=0,
        zram_after_bytes=zram,
    )
    return "\n".join(plain_lines(outcomes.report_text(Report(generation=1, outcomes=done, balance=balance))))


def ended(done: Outcome) -> str:
    return outcomes.outcome_text(done).text


def outcome(**values: object) -> Outcome:
    facts = scenarios.domain(balloon=scenarios.guest_says(600 * MIB))
    (action,) = make_plan(scenarios.snapshot(scenarios.host(), facts), {}, scenarios.policy()).actions
    done = Outcome(
        action=action, status=Status.DONE, freed_bytes=GIB, promoted_pages=0, seconds=65.0, detail="fine"
    )
    return dataclasses.replace(done, **values)  # type: ignore[arg-type]


def test_an_outcome_says_what_the_host_got_and_what_it_cost() -> None:
    text = ended(outcome(promoted_pages=12))
    assert text.startswith("  done    web  balloon: freed 1.0 GiB (planned ")
    assert text.endswith("in 1min 5s; 12 pages read back; fine")


@pytest.mark.parametrize(
    ("controller", "says"),
    [
        (Controller.OWN, "in 1min 5s, paced by overcommit; 0 pages read back"),
        (Controller.DAMON_GOAL, "in 1min 5s, paced by DAMON's goal tuner; 0 pages read back"),
    ],
)
def test_an_outcome_says_who_kept_the_pace(controller: Controller, says: str) -> None:
    assert says in ended(outcome(controller=controller))


def test_a_report_is_the_hosts_own_account() -> None:
    text = report(outcome(), outcome(freed_bytes=512 * MIB))
    assert "Freed 1.5 GiB of guest memory (read from the host)." in text
    assert "Host available: 2.0 GiB -> 3.0 GiB (+1.0 GiB)." in text
    assert "Swap" not in text


def test_what_moved_is_told_apart_from_what_was_freed() -> None:
    slow = scenarios.policy({"host": {"cold_node": 1}})
    facts = scenarios.domain(placement={0: GIB})
    idle = scenarios.heat(facts, [(300.0, 600 * MIB), (0.0, 424 * MIB)], watched=300.0, policy=slow)
    host = scenarios.host(nodes=(scenarios.node(0, 6 * GIB, 2 * GIB), scenarios.node(1, GIB, GIB)))
    plan = make_plan(scenarios.snapshot(host, facts), {facts.incarnation.uuid: idle}, slow)
    assert render.gains(plan) == "at least 0 B, moves 600 MiB"
    done = outcome(action=plan.actions[0], freed_bytes=0, moved_bytes=590 * MIB)
    assert "web  demotion: moved 590 MiB to node 1 (planned 600 MiB) in 1min 5s" in ended(done)
    text = report(done)
    assert "Freed 0 B of guest memory" in text
    assert "Moved 590 MiB to another memory node. This frees no memory." in text


def test_a_relief_tells_what_the_guest_got() -> None:
    facts = scenarios.domain(resident=512 * MIB, balloon=scenarios.guest_says(20 * MIB, actual=512 * MIB))
    left = Left(part=MemoryPart(facts.incarnation), size_bytes=512 * MIB, baseline_bytes=GIB, generation=7)
    snapshot = scenarios.snapshot(scenarios.host(), facts)
    plan = make_plan(snapshot, {}, scenarios.policy(), past=Past(left=(left,)))
    assert render.gains(plan) == "at least 0 B, gives 236 MiB"
    done = outcome(
        action=plan.actions[0], freed_bytes=0, left_at_bytes=748 * MIB, detail="balloon at 748 MiB"
    )
    assert ended(done) == "  done    web  relief: gave back 236 MiB in 1min 5s; balloon at 748 MiB"


def test_a_recall_names_the_node_that_got_it() -> None:
    slow = scenarios.policy({"host": {"cold_node": 1}})
    facts = scenarios.domain(placement={0: 224 * MIB, 1: 800 * MIB})
    idle = scenarios.heat(facts, [(300.0, 600 * MIB), (0.0, 424 * MIB)], watched=300.0, policy=slow)
    host = scenarios.host(nodes=(scenarios.node(0, 6 * GIB, 2 * GIB), scenarios.node(1, GIB, GIB)))
    plan = make_plan(scenarios.snapshot(host, facts), {facts.incarnation.uuid: idle}, slow)
    done = outcome(action=plan.actions[0], freed_bytes=0, moved_bytes=190 * MIB)
    assert "web  recall: moved 190 MiB to node 0 (planned 200 MiB) in 1min 5s" in ended(done)


def test_what_merging_brought_is_the_kernels_account_and_frees_nothing_of_a_guest() -> None:
    merging = scenarios.policy({"host": {"ksm": True}})
    host = scenarios.host(ksm=scenarios.ksm())
    two = (scenarios.domain("a"), scenarios.domain("b"))
    plan = make_plan(scenarios.snapshot(host, *two), {}, merging)
    assert any(
        line.startswith("  ~  host    ksm ") and line.endswith("merges equal pages in 2.0 GiB")
        for line in plain_lines(render.plan_text(plan))
    )
    done = outcome(action=plan.actions[0], freed_bytes=0, merged_bytes=9 * MIB, detail="9.0 MiB saved")
    assert ended(done) == "  done    host  ksm: 9.0 MiB saved (1min 5s)"
    assert "Freed 0 B of guest memory" in report(done)


def test_a_report_does_not_hide_a_loss_or_what_compression_costs() -> None:
    text = report(available_after=GIB, swap=600 * MIB, zram=200 * MIB)
    assert "(-1.0 GiB)" in text
    assert "Swap use grew by 600 MiB. zram uses 200 MiB of memory for it." in text


def test_swap_on_a_disk_costs_no_memory() -> None:
    assert report(swap=600 * MIB).endswith("Swap use grew by 600 MiB.")
