"""Every reason for which a saved plan is refused (rule S12)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from overcommit.errors import StalePlan
from overcommit.model.action import DemotionAction, name_of, subject_of
from overcommit.model.facts import AgentFacts, DomainFacts, KsmRun, RunState, Snapshot
from overcommit.model.guest_reserve import guest_reserve
from overcommit.model.moments import Wall
from overcommit.model.nodes import MemoryNode
from overcommit.model.part import MemoryPart
from overcommit.model.past import Left, Past, Quarantine
from overcommit.model.plan import Plan
from overcommit.model.policy import Actuator
from overcommit.plan.eligibility import READS, WRITES
from overcommit.plan.feedback import Feedback
from overcommit.plan.freshness import require_fresh
from overcommit.plan.planner import LIFETIME_SECONDS, make_plan
from overcommit.units import GIB, MIB
from tests import scenarios

POLICY = scenarios.policy()
SAID = scenarios.guest_says(1300 * MIB, actual=2 * GIB)
WEB = scenarios.domain("web", size=2 * GIB, balloon=SAID)
DB = scenarios.domain("db", resident=900 * MIB)
HEAT = scenarios.heat(DB, [(300.0, 600 * MIB), (0.0, 300 * MIB)], watched=300.0, policy=POLICY)
HOST = scenarios.host()
SNAPSHOT = scenarios.snapshot(HOST, WEB, DB)
PLAN = make_plan(SNAPSHOT, {DB.incarnation.uuid: HEAT}, POLICY)


def seen(*domains: DomainFacts, later: float = 1.0, **host: str) -> Snapshot:
    facts = dataclasses.replace(HOST, **host)  # type: ignore[arg-type]
    return dataclasses.replace(SNAPSHOT, taken_at=scenarios.NOW + later, host=facts, domains=domains)


def changed(facts: DomainFacts, **values: object) -> DomainFacts:
    return dataclasses.replace(facts, **values)  # type: ignore[arg-type]


def restarted(facts: DomainFacts, **identity: int | str) -> DomainFacts:
    return changed(facts, incarnation=dataclasses.replace(facts.incarnation, **identity))  # type: ignore[arg-type]


def defined(facts: DomainFacts, **values: object) -> DomainFacts:
    return changed(facts, definition=dataclasses.replace(facts.definition, **values))  # type: ignore[arg-type]


def balloon_at(size: int) -> DomainFacts:
    return changed(WEB, balloon=dataclasses.replace(SAID, actual_bytes=size))


def test_a_guest_is_held_against_what_blocks_and_balloon_leave_it_together() -> None:
    """Either alone would leave it enough."""
    device = scenarios.memory_device("virtiomem0", GIB)
    says = scenarios.guest_says(2 * GIB, actual=2 * GIB, plugged=GIB)
    facts = scenarios.domain("web", size=3 * GIB, balloon=says, virtio_mem=(device,))
    snapshot = scenarios.snapshot(HOST, facts)
    plan = make_plan(snapshot, {}, POLICY)
    assert [name_of(a) for a in plan.runnable] == ["virtio_mem", "balloon"]
    left = plan.domains[0].target_bytes
    above = guest_reserve(3 * GIB) // 2
    needs = dataclasses.replace(says, usable_bytes=3 * GIB - left + above)
    enough = dataclasses.replace(snapshot, domains=(changed(facts, balloon=needs),))
    require_fresh(plan, enough, POLICY)
    needs = dataclasses.replace(says, usable_bytes=3 * GIB - left + above - MIB)
    scarce = dataclasses.replace(snapshot, domains=(changed(facts, balloon=needs),))
    with pytest.raises(StalePlan, match=r"of which it uses 1\.2 GiB now: too little above that"):
        require_fresh(plan, scarce, POLICY)
    needs = dataclasses.replace(says, usable_bytes=3 * GIB - left - MIB)
    short = dataclasses.replace(snapshot, domains=(changed(facts, balloon=needs),))
    with pytest.raises(StalePlan, match="domain web now uses"):
        require_fresh(plan, short, POLICY)


def test_the_sample_has_one_action_of_each_kind() -> None:
    assert [(type(a).__name__, subject_of(a)) for a in PLAN.runnable] == [
        ("BalloonAction", "web"),
        ("PageoutAction", "db"),
    ]


@pytest.mark.parametrize(
    "now",
    [
        seen(WEB, DB),
        seen(DB, WEB, later=LIFETIME_SECONDS),
        seen(WEB, DB, scenarios.domain("new", size=256 * MIB)),
        seen(balloon_at(2 * GIB - MIB), DB),
        seen(WEB, changed(DB, balloon=None)),
        seen(WEB, restarted(defined(DB, locked=False), pid=4242)),
    ],
    ids=["as it was", "last moment", "another domain", "a page of drift", "unrelated", "same incarnation"],
)
def test_a_plan_that_still_fits_is_accepted(now: Snapshot) -> None:
    require_fresh(PLAN, now, POLICY)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (seen(WEB, DB, boot_id="boot-2"), "it was made on another host, or before this one rebooted"),
        (seen(WEB, DB, later=LIFETIME_SECONDS + 5), "it expired 5 s ago"),
        (seen(DB), "domain web is not running any more"),
        (seen(WEB), "domain db is not running any more"),
        (seen(restarted(WEB, pid=7), DB), "domain web was restarted since"),
        (seen(restarted(WEB, start_time=7), DB), "domain web was restarted since"),
        (
            seen(restarted(WEB, uuid="another"), DB),
            "domain web was redefined since then: it has another UUID",
        ),
        (seen(balloon_at(GIB), DB), "the balloon of domain web was moved since, from 2.0 GiB to 1.0 GiB"),
        (
            seen(changed(WEB, busy_with="a libvirt job"), DB),
            "domain web is no longer eligible for balloon: busy with a libvirt job",
        ),
        (
            seen(WEB, changed(DB, state=RunState.PAUSED)),
            "domain db is no longer eligible for pageout: the domain is paused",
        ),
        (
            seen(WEB, defined(DB, passthrough=("a VFIO PCI device",))),
            "domain db is no longer eligible for pageout: guest memory is pinned by a VFIO PCI device",
        ),
        (
            seen(WEB, DB, swap=()),  # type: ignore[arg-type]
            "domain db is no longer eligible for pageout: the host has no swap",
        ),
    ],
)  # fmt: skip
def test_the_change_is_named(now: Snapshot, reason: str) -> None:
    with pytest.raises(StalePlan) as caught:
        require_fresh(PLAN, now, POLICY)
    assert str(caught.value) == f"the plan is stale: {reason}"
    assert "plan again" in (caught.value.hint or "")


LABELLED = scenarios.policy(
    {
        "host": {"domain_overrides": ["class", "floor", "cold_after", "actuators"]},
        "classes": {"standard": {"floor": "25%", "cold_after": "2min"}, "gold": {"cold_after": "5min"}},
    }
)
BEFORE = make_plan(SNAPSHOT, {DB.incarnation.uuid: HEAT}, LABELLED)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({}, None),
        ({"owner": "sales"}, None),
        (
            {"floor": "60%"},
            "domain db is of class standard with a floor of 615 MiB now, not of standard with 256 MiB",
        ),
        (
            {"class": "gold"},
            "domain db is of class gold with a floor of 512 MiB now, not of standard with 256 MiB",
        ),
        ({"actuators": "balloon"}, "domain db may no longer be given to pageout"),
        ({"cold_after": "4min"}, "memory of domain db is cold only after 4min now"),
        ({"cold_after": "1min"}, None),
    ],
)
def test_labels_that_changed_since_count(labels: dict[str, str], reason: str | None) -> None:
    """They change what the class says, under the same policy."""
    now = seen(WEB, defined(DB, labels=labels))
    if reason is None:
        require_fresh(BEFORE, now, LABELLED)
        return
    with pytest.raises(StalePlan) as caught:
        require_fresh(BEFORE, now, LABELLED)
    assert str(caught.value) == f"the plan is stale: {reason}"


@pytest.mark.parametrize(("until", "stale"), [(scenarios.NOW + 301, True), (scenarios.NOW, False)])
def test_an_actuator_that_failed_since_is_not_used(until: float, stale: bool) -> None:
    barred = Quarantine(
        domain=WEB.incarnation, actuator=Actuator.BALLOON, reason="its balloon stood still", until=Wall(until)
    )
    past = Past(quarantines=(barred,))
    if not stale:
        require_fresh(PLAN, seen(WEB, DB), POLICY, past)
        return
    with pytest.raises(StalePlan, match="the balloon of domain web is in quarantine for 5min more"):
        require_fresh(PLAN, seen(WEB, DB), POLICY, past)


TWO_NODES = (scenarios.node(0, 6 * GIB, 2 * GIB), scenarios.node(1, 2 * GIB, 2 * GIB))
SLOW = scenarios.policy({"host": {"cold_node": 1}})
PLACED = changed(DB, placement={0: 900 * MIB, 1: 0})


@pytest.mark.parametrize(
    ("db", "nodes", "reason"),
    [
        (PLACED, TWO_NODES, None),
        (changed(DB, placement={0: 880 * MIB, 1: 20 * MIB}), TWO_NODES, None),
        (
            changed(DB, placement={0: 800 * MIB, 1: 100 * MIB}),
            TWO_NODES,
            "domain db has less to give: 100 MiB on memory node 1 instead of 0 B",
        ),
        (
            PLACED,
            (TWO_NODES[0], scenarios.node(1, 2 * GIB, 300 * MIB)),
            "memory node 1 has filled: 236 MiB can be moved there",
        ),
        (
            PLACED,
            TWO_NODES[:1],
            "domain db is no longer eligible for demotion: the host shows no memory node 1",
        ),
    ],
)
def test_a_demotion_needs_its_node_as_it_was(
    db: DomainFacts, nodes: tuple[MemoryNode, ...], reason: str | None
) -> None:
    before = dataclasses.replace(seen(PLACED), host=dataclasses.replace(HOST, nodes=TWO_NODES))
    plan = make_plan(before, {DB.incarnation.uuid: HEAT}, SLOW)
    assert [type(a) for a in plan.runnable] == [DemotionAction]
    now = dataclasses.replace(seen(db), host=dataclasses.replace(HOST, nodes=nodes))
    if reason is None:
        require_fresh(plan, now, SLOW)
        return
    with pytest.raises(StalePlan) as caught:
        require_fresh(plan, now, SLOW)
    assert str(caught.value) == f"the plan is stale: {reason}"


@pytest.mark.parametrize(
    ("there", "near_free", "reason"),
    [
        (800, 2048, None),
        (790, 2048, None),
        (
            700,
            2048,
            "domain db has less to give: 700 MiB on memory node 1 instead of 800 MiB",
        ),
        (800, 300, "memory node 0 has filled: 177 MiB can be moved there"),
    ],
)
def test_a_recall_needs_what_it_recalls_and_room_for_it(
    there: int, near_free: int, reason: str | None
) -> None:
    def at(there: int, near_free: int) -> Snapshot:
        nodes = (scenarios.node(0, 6 * GIB, near_free * MIB), TWO_NODES[1])
        db = changed(DB, placement={0: (900 - there) * MIB, 1: there * MIB})
        return dataclasses.replace(seen(db), host=dataclasses.replace(HOST, nodes=nodes))

    plan = make_plan(at(800, 2048), {DB.incarnation.uuid: HEAT}, SLOW)
    assert [name_of(a) for a in plan.runnable] == ["recall"]
    if reason is None:
        require_fresh(plan, at(there, near_free), SLOW)
        return
    with pytest.raises(StalePlan) as caught:
        require_fresh(plan, at(there, near_free), SLOW)
    assert str(caught.value) == f"the plan is stale: {reason}"


MERGING = scenarios.policy({"host": {"ksm": True}})


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({}, None),
        ({"ksm": scenarios.ksm(sharing_bytes=MIB)}, None),
        ({"ksm": scenarios.ksm(KsmRun.RUNNING)}, "it runs already"),
        ({"ksm": None}, "this kernel has none (CONFIG_KSM)"),
        (
            {"cpu_pressure": scenarios.waiting(0.97)},
            "the CPUs are too busy (a task waits for one 97% of the time)",
        ),
    ],
)
def test_the_hosts_own_action_rests_on_the_host(now: dict[str, object], reason: str | None) -> None:
    host = scenarios.host(ksm=scenarios.ksm(), cpu_pressure=scenarios.waiting(0.1))
    plan = make_plan(scenarios.snapshot(host, WEB, DB), {}, MERGING)
    assert name_of(plan.runnable[-1]) == "ksm"
    later = dataclasses.replace(seen(WEB, DB), host=dataclasses.replace(host, **now))  # type: ignore[arg-type]
    if reason is None:
        require_fresh(plan, later, MERGING)
        return
    with pytest.raises(StalePlan) as caught:
        require_fresh(plan, later, MERGING)
    assert str(caught.value) == f"the plan is stale: KSM can no longer be started: {reason}"


def test_another_policy() -> None:
    other = dataclasses.replace(POLICY, digest="other", source="/etc/new.yaml")
    with pytest.raises(
        StalePlan, match=r"the policy /etc/new.yaml is not the one it was made with .policy.yaml"
    ):
        require_fresh(PLAN, seen(WEB, DB), other)


@pytest.mark.parametrize(
    "domains", [(), (restarted(WEB, pid=7), restarted(DB, pid=8))], ids=["left", "restarted"]
)
@pytest.mark.parametrize(
    "harmless",
    [
        lambda plan: dataclasses.replace(plan, actions=()),
        lambda plan: dataclasses.replace(
            plan, actions=tuple(dataclasses.replace(a, blocked="swap") for a in plan.actions)
        ),
    ],
    ids=["no action", "all blocked"],
)
def test_only_domains_that_would_be_touched_matter(
    domains: tuple[DomainFacts, ...], harmless: Callable[[Plan], Plan]
) -> None:
    require_fresh(harmless(PLAN), seen(*domains), POLICY)


HELPING = scenarios.policy({"classes": {"standard": {"guest_help": ["compaction", "damon_reclaim"]}}})
ABLE = AgentFacts(commands=WRITES | READS, reclaims=False)
PIECES = scenarios.domain(
    "pieces",
    balloon=scenarios.guest_says(600 * MIB, unused=600 * MIB),
    agent=ABLE,
    agent_connected=True,
)
INSIDE = make_plan(scenarios.snapshot(HOST, PIECES), {}, HELPING)


def test_the_other_sample_helps_inside_of_a_guest() -> None:
    assert [name_of(a) for a in INSIDE.runnable][:2] == ["free_page_reporting", "guest_reclaim"]
    require_fresh(INSIDE, seen(PIECES), HELPING)


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        (changed(PIECES, agent=None), "no longer eligible for free_page_reporting: its guest agent was not"),
        (changed(PIECES, agent=AgentFacts(trouble="it hangs")), "its guest agent failed: it hangs"),
        (defined(PIECES, agent_connected=False), "its guest agent is not connected"),
        (defined(PIECES, free_page_reporting=False), "off in the domain's definition"),
        (
            changed(PIECES, agent=dataclasses.replace(ABLE, reclaims=True)),
            "domain pieces already reclaims by itself",
        ),
        (
            changed(PIECES, balloon=scenarios.guest_says(600 * MIB, unused=100 * MIB)),
            "domain pieces has less to give: the host holds 100 MiB free in it",
        ),
    ],
)
def test_what_makes_help_inside_of_a_guest_stale(facts: DomainFacts, what: str) -> None:
    with pytest.raises(StalePlan) as caught:
        require_fresh(INSIDE, seen(facts), HELPING)
    assert what in str(caught.value)


def test_an_owner_may_change_his_mind() -> None:
    """Labels can: the policy's text, and its digest, are the same."""
    without = dataclasses.replace(HELPING, classes=POLICY.classes)
    with pytest.raises(StalePlan, match="the policy no longer allows compaction inside of domain pieces"):
        require_fresh(INSIDE, seen(PIECES), without)


HURT = scenarios.domain(
    "web",
    size=3 * GIB,
    resident=GIB,
    balloon=scenarios.guest_says(400 * MIB, actual=GIB, plugged=512 * MIB),
    virtio_mem=(
        scenarios.memory_device("virtiomem0", GIB, current_bytes=512 * MIB, requested_bytes=512 * MIB),
    ),
)
PARTS = (MemoryPart(HURT.incarnation), MemoryPart(HURT.incarnation, "virtiomem0"))
TAKEN = Past(
    left=(
        Left(part=PARTS[0], size_bytes=GIB, baseline_bytes=2 * GIB, generation=7),
        Left(part=PARTS[1], size_bytes=512 * MIB, baseline_bytes=GIB, generation=7),
    )
)
BACK = make_plan(
    scenarios.snapshot(HOST, HURT),
    {},
    POLICY,
    past=TAKEN,
    feedback=Feedback(pains={HURT.incarnation: "its major faults rise"}),
)


def test_giving_back_needs_neither_the_guests_word_nor_its_class() -> None:
    assert [name_of(a) for a in BACK.runnable] == ["relief", "plug"]
    assert HURT.balloon is not None
    silent = changed(
        HURT,
        balloon=dataclasses.replace(HURT.balloon, usable_bytes=None, age_seconds=90.0),
        residency=None,
    )
    other_class = defined(silent, labels={"floor": "90%"})
    labels = scenarios.policy({"host": {"domain_overrides": ["floor"]}})
    labels = dataclasses.replace(labels, digest=POLICY.digest)
    require_fresh(BACK, seen(other_class), labels, TAKEN)


@pytest.mark.parametrize(
    ("domain", "what"),
    [
        (changed(HURT, state=RunState.PAUSED), "is no longer eligible for relief: the domain is paused"),
        (changed(HURT, busy_with="a migration"), "is no longer eligible for relief: busy with a migration"),
        (defined(HURT, virtio_mem=()), "is no longer eligible for plug: its virtio-mem device is gone"),
        (
            changed(HURT, balloon=scenarios.guest_says(400 * MIB, actual=2 * GIB)),
            "the balloon of domain web was moved since, from 1.0 GiB to 2.0 GiB",
        ),
    ],
)
def test_giving_back_is_refused_where_it_cannot_be(domain: DomainFacts, what: str) -> None:
    with pytest.raises(StalePlan, match=what):
        require_fresh(BACK, seen(domain), POLICY)


def test_a_plan_without_addresses_is_no_plan_to_apply() -> None:
    require_fresh(PLAN, seen(WEB, DB), POLICY)
    with pytest.raises(StalePlan, match="the plan has no addresses") as caught:
        require_fresh(PLAN.without_addresses(), seen(WEB, DB), POLICY)
    assert caught.value.hint == "nothing was changed; make a new plan as root"
