"""A saved plan: read back as it was, and refused after any edit (rule S12)."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from overcommit.errors import StalePlan, UsageError
from overcommit.model.action import PageoutAction, subject_of
from overcommit.model.facts import AgentFacts
from overcommit.model.plan import Plan
from overcommit.plan import document
from overcommit.plan.eligibility import READS, WRITES
from overcommit.plan.planner import make_plan
from overcommit.units import GIB, MIB
from tests import scenarios


def plan_with_everything() -> Plan:
    """A balloon, a page-out, a blocked page-out, a gap and notes."""
    policy = scenarios.policy()
    spare = scenarios.domain("a", size=2 * GIB, balloon=scenarios.guest_says(GIB, actual=2 * GIB))
    idle = scenarios.domain("b", resident=900 * MIB)
    late = scenarios.domain('c "ü"', resident=900 * MIB, gaps={"NUMA placement": "not mounted"})
    halves = [(300.0, 600 * MIB), (0.0, 300 * MIB)]
    heats = {
        facts.incarnation.uuid: scenarios.heat(facts, halves, watched=300.0, policy=policy)
        for facts in (idle, late)
    }
    host = scenarios.host(swap=[scenarios.zram(1000 * MIB)])
    seen = scenarios.snapshot(host, spare, idle, late, gaps={"domain d": "no pid file"})
    return make_plan(seen, heats, policy)


PLAN = plan_with_everything()


def test_the_sample_has_what_it_is_said_to_have() -> None:
    assert [(subject_of(a), a.blocked is None) for a in PLAN.actions] == [
        ("a", True),
        ("b", True),
        ('c "ü"', False),
    ]
    assert PLAN.notes
    assert PLAN.domains[2].gaps


def test_round_trip() -> None:
    assert document.loads(document.dumps(PLAN), "p.json") == PLAN


def test_round_trip_of_a_demotion() -> None:
    policy = scenarios.policy({"host": {"cold_node": 1}})
    facts = scenarios.domain("a", resident=900 * MIB, placement={0: 900 * MIB})
    idle = scenarios.heat(facts, [(300.0, 600 * MIB), (0.0, 300 * MIB)], watched=300.0, policy=policy)
    nodes = (scenarios.node(0, 6 * GIB, 2 * GIB), scenarios.node(1, GIB, GIB))
    plan = make_plan(
        scenarios.snapshot(scenarios.host(nodes=nodes), facts), {facts.incarnation.uuid: idle}, policy
    )
    (action,) = document.to_document(plan)["actions"]
    assert (action["kind"], action["node"], action["expected_bytes"]) == ("demotion", 1, 600 * MIB)
    assert document.to_document(plan)["summary"]["expected_bytes"] == 0, "nothing of it is freed"
    assert document.loads(document.dumps(plan), "p.json") == plan


def test_round_trip_of_a_memory_device() -> None:
    device = scenarios.memory_device("virtiomem0", GIB)
    says = scenarios.guest_says(2 * GIB, actual=2 * GIB, plugged=GIB)
    facts = scenarios.domain("a", size=3 * GIB, balloon=says, virtio_mem=(device,))
    plan = make_plan(scenarios.snapshot(scenarios.host(), facts), {}, scenarios.policy())
    first, second = document.to_document(plan)["actions"]
    assert (first["kind"], first["device"], first["block_bytes"]) == ("virtio_mem", "virtiomem0", 2 * MIB)
    assert second["kind"] == "balloon"
    assert document.loads(document.dumps(plan), "p.json") == plan


def test_round_trip_of_help_inside_of_a_guest() -> None:
    helping = scenarios.policy({"classes": {"standard": {"guest_help": ["compaction", "damon_reclaim"]}}})
    facts = scenarios.domain(
        balloon=scenarios.guest_says(600 * MIB, unused=600 * MIB),
        agent=AgentFacts(commands=WRITES | READS, reclaims=False),
        agent_connected=True,
    )
    plan = make_plan(scenarios.snapshot(scenarios.host(), facts), {}, helping)
    kinds = [action["kind"] for action in document.to_document(plan)["actions"]]
    assert kinds == ["free_page_reporting", "guest_reclaim"]
    assert document.to_document(plan)["domains"][0]["guest_help"]["compaction"]["ok"]
    assert document.loads(document.dumps(plan), "p.json") == plan


def test_round_trip_of_a_recall() -> None:
    policy = scenarios.policy({"host": {"cold_node": 1}})
    facts = scenarios.domain("a", resident=900 * MIB, placement={0: 300 * MIB, 1: 600 * MIB})
    idle = scenarios.heat(facts, [(300.0, 200 * MIB), (0.0, 700 * MIB)], watched=300.0, policy=policy)
    nodes = (scenarios.node(0, 6 * GIB, 2 * GIB), scenarios.node(1, GIB, 400 * MIB))
    plan = make_plan(
        scenarios.snapshot(scenarios.host(nodes=nodes), facts), {facts.incarnation.uuid: idle}, policy
    )
    (action,) = document.to_document(plan)["actions"]
    assert (action["kind"], action["node"], action["recall_to"]) == ("recall", 1, 0)
    assert (action["expected_bytes"], action["pieces"]) == (400 * MIB, [])
    assert document.loads(document.dumps(plan), "p.json") == plan


def test_round_trip_of_what_is_done_to_the_host_itself() -> None:
    policy = scenarios.policy({"host": {"ksm": True}})
    host = scenarios.host(ksm=scenarios.ksm())
    plan = make_plan(scenarios.snapshot(host, scenarios.domain("a"), scenarios.domain("b")), {}, policy)
    (action,) = document.to_document(plan)["actions"]
    assert (action["kind"], action["domain"], action["expected_bytes"]) == ("ksm", None, 0)
    assert action["settings"][-1] == ["run", "1"]
    assert document.loads(document.dumps(plan), "p.json") == plan


def test_equal_plans_are_equal_to_the_byte() -> None:
    assert document.dumps(plan_with_everything()) == document.dumps(PLAN)


def test_the_documented_fields_are_there() -> None:
    data = document.to_document(PLAN)
    assert data["kind"] == "plan"
    assert data["format_version"] == "1.0"
    assert data["summary"] == {
        "change": 2,
        "blocked": 1,
        "expected_bytes": PLAN.expected_bytes,
        "given_bytes": 0,
    }
    assert data["host"]["headroom_bytes"] == data["host"]["available_bytes"] - data["host"]["reserve_bytes"]
    budget = data["host"]["budget"]
    assert budget["available_bytes"] == data["host"]["available_bytes"]
    assert budget["overcommit_ratio"] == pytest.approx(4 / 8)
    assert budget["rests_on"] == ["zram at 3.0:1, assumed"]
    assert budget["worst_case"].keys() >= {"wanted_bytes", "memory_bytes", "swap_bytes", "nowhere_bytes"}
    assert {
        *("name", "uuid", "pid", "class", "resident_bytes", "swapped_bytes", "cold_bytes", "warm_bytes"),
        *("hot_bytes", "wss_bytes", "idle_histogram", "floor_bytes", "ceiling_bytes", "target_bytes"),
        *("confidence", "eligible", "offers", "gaps"),
    } <= data["domains"][0].keys()
    assert {
        *("id", "domain", "kind", "before_bytes", "after_bytes", "expected_bytes", "reason", "because"),
        *("risk", "blocked"),
    } <= data["actions"][0].keys()


def test_a_plan_saved_before_there_were_later_fields_is_read() -> None:
    data = document.to_document(PLAN)
    del data["digest"], data["host"]["budget"]["arc_bytes"], data["host"]["budget"]["free_now_bytes"]
    del data["host"]["budget"]["worst_case"]["rests_on"]
    old = json.dumps({**data, "digest": document._digest(data)})
    assert document.loads(old, "old.json").actions == PLAN.actions


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every leaf of a document."""
    if isinstance(data, dict | list) and data:
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from places(data[key], (*path, key))
    elif path != ("digest",):
        yield path


def edited(data: dict[str, Any], path: tuple[Any, ...]) -> str:
    changed = copy.deepcopy(data)
    at: Any = changed
    for key in path[:-1]:
        at = at[key]
    old = at[path[-1]]
    at[path[-1]] = old + 1 if isinstance(old, int | float) else f"{old}x"
    return json.dumps(changed)


def test_no_value_can_be_changed_unnoticed() -> None:
    data = document.to_document(PLAN)
    for path in places(data):
        if path not in {("kind",), ("format_version",)}:
            with pytest.raises(StalePlan, match="was changed after it was written"):
                document.loads(edited(data, path), "p.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["actions"].pop(),
        lambda d: d["actions"].append(d["actions"][0]),
        lambda d: d["actions"].reverse(),
        lambda d: d.update(extra=1),
        lambda d: d.update(digest="0" * 64),
        lambda d: d["actions"][2].update(blocked=None),
    ],
    ids=["removed", "repeated", "reordered", "added", "another digest", "unblocked"],
)
def test_no_structure_can_be_changed_unnoticed(change: Callable[[dict[str, Any]], object]) -> None:
    data = document.to_document(PLAN)
    change(data)
    with pytest.raises(StalePlan):
        document.loads(json.dumps(data), "p.json")


def test_a_plan_may_be_formatted_anew() -> None:
    text = json.dumps(document.to_document(PLAN), indent=7, sort_keys=True)
    assert document.loads(text, "p.json") == PLAN


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "p.json is not a saved plan"),
        ("{", "p.json is not a saved plan"),
        ("null", "p.json is not a saved plan"),
        ("[]", "p.json is not a saved plan"),
        ("{}", "p.json is not a saved plan"),
        ('{"kind": "plan"}', "p.json is not a saved plan"),
        ('{"kind": "plan", "format_version": "1.0"}', "p.json is not a saved plan"),
        ('{"kind": "plan", "format_version": 1}', "p.json is not a saved plan"),
        ('{"kind": "status", "domains": []}', "p.json is not a plan but a status"),
        ('{"kind": "plan", "format_version": "2.0"}', "p.json has format 2.0, not 1.x"),
        ("[" * 100_000, "p.json is not a saved plan"),
    ],
    ids=lambda text: text[:45],
)
def test_what_is_not_a_plan(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        document.loads(text, "p.json")


def test_for_those_who_may_not_know_there_are_no_addresses_but_all_sums() -> None:
    paged = [action for action in PLAN.actions if isinstance(action, PageoutAction)]
    assert all(action.pieces for action in paged), "else this shows nothing"
    text = document.dumps(PLAN.without_addresses())
    numbers = {int(number) for number in re.findall(r"[0-9]+", text)}
    assert not numbers & {
        at for action in paged for piece in action.pieces for at in (piece.start, piece.end)
    }
    seen = document.loads(text, "the daemon's")
    assert not seen.addresses
    assert [action.expected_bytes for action in seen.actions] == [a.expected_bytes for a in PLAN.actions]
    assert (seen.domains, seen.expected_bytes) == (PLAN.domains, PLAN.expected_bytes)


def test_a_plan_that_an_earlier_version_saved_has_its_addresses() -> None:
    data = document.to_document(PLAN)
    del data["addresses"], data["digest"]
    data["digest"] = document._digest(data)
    assert document.loads(json.dumps(data), "old.json") == PLAN


@pytest.mark.parametrize("name", [[], 1, {"a": 1}, None])
def test_a_name_of_another_type_is_said_to_be_one(name: object) -> None:
    """Before anything is compared: a list is no key, and a number has no beginning."""
    forged = json.loads(document.dumps(PLAN))
    assert forged["actions"]
    for action in forged["actions"]:
        action["domain"]["name"] = name
    del forged["digest"]
    forged["digest"] = hashlib.sha256(json.dumps(forged, sort_keys=True).encode()).hexdigest()
    with pytest.raises(StalePlan, match=r"plan\.actions\[0\] is no "):
        document.loads(json.dumps(forged), "p.json")
