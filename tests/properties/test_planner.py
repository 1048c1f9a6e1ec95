"""What holds for every plan, whatever the host looks like and the guests say."""

from __future__ import annotations

import dataclasses

from hypothesis import assume, given
from hypothesis import strategies as st

from overcommit.model.action import (
    Action,
    BalloonAction,
    DemotionAction,
    DomainAction,
    GuestReclaimAction,
    KsmAction,
    PageoutAction,
    ReportingAction,
    VirtioMemAction,
    guest_help_of,
    kind_of,
)
from overcommit.model.facts import DomainFacts, KsmRun, Residency, RunState
from overcommit.model.guest_reserve import guest_reserve
from overcommit.model.heat import Heat
from overcommit.model.part import MemoryPart
from overcommit.model.past import Past, Reservation
from overcommit.model.plan import Plan
from overcommit.model.policy import Policy, ReclaimMode
from overcommit.model.ranges import Range, intersect, normalise, total_size
from overcommit.plan import document
from overcommit.plan.case import free_bytes, guest_bytes, room_on, used_bytes, worthwhile
from overcommit.plan.eligibility import WRITES
from overcommit.units import MIB
from tests import scenarios
from tests.properties.hosts import World, emergencies, guests, plenty_of_swap, worlds

LEAST = worthwhile(0)


def on_domains(plan: Plan, *, blocked: bool = False) -> list[DomainAction]:
    """What is done to domains; the host's own action takes from nobody in particular."""
    actions = plan.actions if blocked else plan.runnable
    return [action for action in actions if not isinstance(action, KsmAction)]


def facts_of(world: World, action: DomainAction) -> DomainFacts:
    return next(d for d in world.snapshot.domains if d.incarnation == action.domain)


def gives(action: Action) -> bool:
    return isinstance(action, VirtioMemAction | BalloonAction) and action.relieves


def taken_from(plan: Plan) -> dict[str, int]:
    taken: dict[str, int] = {}
    for action in on_domains(plan):
        taken[action.domain.name] = taken.get(action.domain.name, 0) + action.expected_bytes
    return taken


@given(worlds() | emergencies())
def test_s1_no_domain_ends_below_its_floor_or_above_its_ceiling(world: World) -> None:
    plan = world.plan()
    for action in on_domains(plan, blocked=True):
        domain = next(d for d in plan.domains if d.incarnation == action.domain)
        after = action.after_bytes
        if isinstance(action, VirtioMemAction | BalloonAction):
            # Blocks that somebody else has asked for are as good as gone.
            after = domain.target_bytes - facts_of(world, action).definition.leaving_bytes
        assert gives(action) or domain.floor_bytes <= after
        assert after <= domain.ceiling_bytes
    for name, taken in taken_from(plan).items():
        domain = next(d for d in plan.domains if d.incarnation.name == name)
        assert domain.resident_bytes is not None
        assert domain.resident_bytes - taken >= domain.floor_bytes


@given(worlds() | emergencies())
def test_what_is_not_a_relief_takes(world: World) -> None:
    for action in on_domains(world.plan()):
        if gives(action):
            continue
        if isinstance(action, GuestReclaimAction):
            assert (action.expected_bytes, action.after_bytes) == (0, action.before_bytes)
            continue
        assert 0 <= action.after_bytes < action.before_bytes
        assert 0 < action.expected_bytes <= action.before_bytes - action.after_bytes


@given(worlds() | emergencies())
def test_s2_no_action_rests_on_a_gap(world: World) -> None:
    for action in on_domains(world.plan(), blocked=True):
        needed = {"guest RAM", "residency", "job state"}
        balloon = VirtioMemAction | BalloonAction | ReportingAction
        needed |= {"balloon"} if isinstance(action, balloon) else set()
        assert not needed & {gap.what for gap in facts_of(world, action).gaps}
        if isinstance(action, PageoutAction):
            assert action.domain.uuid in world.heats


@given(worlds() | emergencies())
def test_nothing_is_done_inside_of_a_guest_whose_owner_did_not_agree(world: World) -> None:
    """Nor where its agent is not there, did not answer, or may not write a file."""
    for action in on_domains(world.plan(), blocked=True):
        if (way := guest_help_of(action)) is not None:
            facts = facts_of(world, action)
            assert way in world.policy.class_of(facts).guest_help
            assert facts.definition.agent_connected
            assert facts.definition.free_page_reporting
            assert facts.agent is not None
            assert facts.agent.commands >= WRITES


@given(worlds() | emergencies())
def test_a_compaction_counts_only_what_is_free_and_resident_and_the_balloon_only_what_it_leaves(
    world: World,
) -> None:
    plan = world.plan()
    for action in plan.actions:
        if isinstance(action, ReportingAction):
            facts = facts_of(world, action)
            assert facts.balloon is not None
            assert facts.residency is not None
            used = guest_bytes(facts.definition, facts.balloon) - free_bytes(facts.definition, facts.balloon)
            most = facts.residency.resident_bytes - used
            assert action.expected_bytes <= most
            for balloon in plan.actions:
                if isinstance(balloon, BalloonAction) and balloon.domain == action.domain:
                    held = facts.residency.resident_bytes - action.expected_bytes
                    assert balloon.expected_bytes <= held - balloon.after_bytes


@given(worlds(), st.data())
def test_s8_what_a_guest_says_costs_others_nothing_while_swap_has_room(
    world: World, data: st.DataObject
) -> None:
    assume(world.snapshot.domains)
    world = plenty_of_swap(world._replace(policy=in_mode(world.policy, ReclaimMode.PROACTIVE)))
    liar = data.draw(st.sampled_from(world.snapshot.domains))
    lie = data.draw(guests(liar.definition))
    told = replaced(world, liar, dataclasses.replace(liar, balloon=lie))
    before, after = taken_from(world.plan()), taken_from(told.plan())
    assert {n: b for n, b in before.items() if n != liar.name} == {
        n: b for n, b in after.items() if n != liar.name
    }


@given(worlds())
def test_s8_no_domain_loses_more_than_it_would_offer_alone(world: World) -> None:
    """Whatever the others say, and however short the host is: all it offers is what endless need takes."""
    endless = Reservation(id=9, purpose=None, size_bytes=1 << 60, expires_at=world.snapshot.taken_at + 1)
    needy = world._replace(past=dataclasses.replace(world.past, reservations=(endless,)))
    offered = taken_from(plenty_of_swap(needy).plan())
    assert all(taken <= offered.get(name, 0) for name, taken in taken_from(world.plan()).items())


@given(worlds() | emergencies(), st.randoms(use_true_random=False))
def test_equal_facts_make_equal_plans_in_whatever_order_they_come(world: World, random: object) -> None:
    shuffled = list(world.snapshot.domains)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    other = world._replace(
        snapshot=dataclasses.replace(world.snapshot, domains=tuple(shuffled)),
        heats=dict(reversed(world.heats.items())),
    )
    assert document.dumps(other.plan()) == document.dumps(world.plan())


@given(worlds(ReclaimMode.ON_PRESSURE), st.integers(0, 1 << 30))
def test_less_available_memory_never_plans_less_relief(world: World, less: int) -> None:
    host = world.snapshot.host
    poorer = dataclasses.replace(host, mem_available_bytes=max(0, host.mem_available_bytes - less))
    other = world._replace(snapshot=dataclasses.replace(world.snapshot, host=poorer))
    # Each page-out that the swap budget cuts below what is worthwhile is dropped whole.
    dropped = LEAST * len(world.snapshot.domains)
    assert other.plan().expected_bytes >= world.plan().expected_bytes - dropped


@given(worlds(ReclaimMode.ON_PRESSURE))
def test_under_pressure_no_more_is_taken_than_is_missing(world: World) -> None:
    plan = world.plan()
    assert plan.expected_bytes <= max(0, -plan.host.headroom_bytes) + plan.given_bytes


@given(worlds())
def test_a_relief_gives_back_what_we_took_and_no_more_than_the_host_can_spare(world: World) -> None:
    plan = world.plan()
    left = {left.part: left.baseline_bytes for left in world.past.left}
    for action in on_domains(plan, blocked=True):
        if gives(action):
            facts = facts_of(world, action)
            assert facts.balloon is not None
            assert action.after_bytes <= left[MemoryPart(action.domain, getattr(action, "device", None))]
            if facts.incarnation in world.in_pain:
                continue
            assert facts.balloon.usable_bytes is not None
            assert facts.balloon.usable_bytes < guest_reserve(facts.definition.maximum_bytes) // 2
    assert plan.given_bytes <= max(0, plan.host.available_bytes - plan.host.reserve_bytes // 2)
    short = {action.domain for action in on_domains(plan, blocked=True) if gives(action)} | {*world.in_pain}
    assert not [a for a in on_domains(plan, blocked=True) if a.domain in short and not gives(a)]


@given(worlds(ReclaimMode.PROACTIVE, ReclaimMode.ON_PRESSURE))
def test_a_guest_in_pain_gets_all_that_was_taken_where_the_host_has_it(world: World) -> None:
    """Whatever it says of itself, and whether it says anything; but not what others have a hand in."""
    needy = world._replace(in_pain={d.incarnation: "its faults rise" for d in world.snapshot.domains})
    host = dataclasses.replace(
        world.snapshot.host, total_bytes=1 << 50, mem_available_bytes=(1 << 50) - (1 << 40)
    )
    needy = needy._replace(snapshot=dataclasses.replace(world.snapshot, host=host))
    plan = needy.plan()
    drifted = {drift.domain for drift in plan.drift}
    for left in world.past.left:
        facts = next(d for d in world.snapshot.domains if d.incarnation == left.domain)
        busy = facts.state is not RunState.RUNNING or facts.gaps
        if facts.incarnation in drifted or busy or facts.balloon is None:
            continue
        has, whole, device = facts.balloon.actual_bytes, facts.definition.base_bytes, ""
        if left.part.device is not None:
            found = facts.definition.device(left.part.device)
            assert found is not None
            has, whole, device = found.current_bytes, found.size_bytes, left.part.device
            if not found.resized:
                continue
        most = min(left.baseline_bytes, whole)
        given_back = [
            a.after_bytes
            for a in on_domains(plan)
            if a.domain == left.domain and gives(a) and getattr(a, "device", "") == device
        ]
        assert given_back == ([most] if most >= has + MIB else [])


@given(worlds())
def test_who_was_just_helped_is_not_squeezed_and_who_was_squeezed_is_not_short(world: World) -> None:
    """Both after a perfect apply, and with a guest that uses what it used before."""
    world = honest(world)
    first = world.plan()
    second = applied(world, first).plan()
    moved, again = (
        {a.domain: gives(a) for a in plan.runnable if isinstance(a, BalloonAction)}
        for plan in (first, second)
    )
    assert not [domain for domain, given in moved.items() if again.get(domain, given) is not given]


@given(worlds() | emergencies())
def test_a_quarantined_actuator_is_not_used(world: World) -> None:
    barred = {
        (quarantine.domain, quarantine.actuator)
        for quarantine in world.past.quarantines
        if quarantine.until > world.snapshot.taken_at
    }
    actions = on_domains(world.plan(), blocked=True)
    assert not barred & {(action.domain, kind_of(action)) for action in actions if not gives(action)}


@given(worlds(ReclaimMode.ON_PRESSURE), st.integers(0, 1 << 32))
def test_a_promise_is_kept_like_the_reserve(world: World, promised: int) -> None:
    """A reservation moves exactly as much as the same amount missing would."""
    promise = Reservation(id=9, purpose=None, size_bytes=promised, expires_at=world.snapshot.taken_at + 1)
    world = world._replace(past=dataclasses.replace(world.past, reservations=(promise,)))
    host = world.snapshot.host
    assume(host.mem_available_bytes >= promised)
    without = world._replace(past=dataclasses.replace(world.past, reservations=()))
    poorer = dataclasses.replace(host, mem_available_bytes=host.mem_available_bytes - promised)
    other = without._replace(snapshot=dataclasses.replace(without.snapshot, host=poorer))
    with_promise, with_less = world.plan().actions, other.plan().actions
    assume(not any(gives(action) for action in with_promise))
    assert [a.expected_bytes for a in with_promise] == [a.expected_bytes for a in with_less]


@given(worlds(ReclaimMode.OFF))
def test_off_is_off(world: World) -> None:
    assert world.plan().actions == ()


@given(worlds() | emergencies())
def test_s7_the_swap_budget_is_never_exceeded(world: World) -> None:
    host = world.snapshot.host
    moved = sum(a.expected_bytes for a in world.plan().runnable if isinstance(a, PageoutAction))
    allowed = round(world.policy.swap.max_used * host.swap_total_bytes)
    assert moved == 0 or host.swap_used_bytes + moved <= allowed


@given(worlds() | emergencies())
def test_pieces_lie_in_cold_guest_ram_and_hold_exactly_what_is_expected(world: World) -> None:
    for action in world.plan().actions:
        if not isinstance(action, PageoutAction):
            continue
        facts = facts_of(world, action)
        assert facts.residency is not None
        pieces = normalise(Range(p.start, p.end) for p in action.pieces)
        assert total_size(pieces) == sum(p.end - p.start for p in action.pieces), "pieces overlap"
        assert list(intersect(pieces, facts.ram)) == list(pieces), "outside guest RAM"
        assert total_size(intersect(pieces, facts.residency.resident)) == action.expected_bytes
        assert sum(p.resident_bytes for p in action.pieces) == action.expected_bytes
        assert all(p.idle_seconds >= action.cold_after_seconds for p in action.pieces)


@given(worlds(), st.integers(0, 2000), st.sampled_from([0.0, 0.1, 0.5]))
def test_a_cold_node_gets_no_more_than_it_has_room_for_and_nothing_that_is_paged_out(
    world: World, room: int, there: float
) -> None:
    world = with_cold_node(world, room * MIB, there)
    plan, host = world.plan(), world.snapshot.host
    moves = [a for a in plan.actions if isinstance(a, DemotionAction)]
    assert len({a.domain for a in moves}) == len(moves), "one way only"
    for node in (0, 1):
        arriving = sum(a.expected_bytes for a in moves if a.destination == node)
        assert arriving <= room_on(host, node)
    demotions = [a for a in moves if a.recall_to is None]
    for action in moves:
        if action.recall_to is not None:
            cold = world.heats[action.domain.uuid].cold_bytes or 0
            assert action.after_bytes == action.before_bytes - action.expected_bytes >= cold
    assert not moves or world.policy.reclaim is ReclaimMode.PROACTIVE
    for action in demotions:
        paged_out = [a for a in plan.actions if isinstance(a, PageoutAction) and a.domain == action.domain]
        pieces = [*action.pieces, *(p for a in paged_out for p in a.pieces)]
        spans = [Range(p.start, p.end) for p in pieces]
        assert total_size(normalise(spans)) == sum(span.size for span in spans), "a piece goes both ways"
        assert sum(p.resident_bytes for p in action.pieces) == action.after_bytes
        both = action.after_bytes + sum(a.expected_bytes for a in paged_out)
        assert both <= (world.heats[action.domain.uuid].cold_bytes or 0)


@given(worlds() | emergencies())
def test_whole_blocks_go_and_the_guest_keeps_what_it_uses_and_a_reserve(world: World) -> None:
    plan = world.plan()
    for action in plan.actions:
        if not isinstance(action, VirtioMemAction):
            continue
        facts = facts_of(world, action)
        device = facts.definition.device(action.device)
        assert device is not None
        assert facts.balloon is not None
        assert device.resized
        assert action.before_bytes == device.current_bytes
        assert action.after_bytes % device.block_bytes == action.before_bytes % device.block_bytes == 0
        if gives(action):
            continue
        ceiling = facts.definition.maximum_bytes
        target = next(d.target_bytes for d in plan.domains if d.incarnation == action.domain)
        assert target >= used_bytes(facts.definition, facts.balloon) + guest_reserve(ceiling)


@given(worlds())
def test_ksm_is_started_last_by_whoever_may_and_promises_nothing(world: World) -> None:
    plan, ksm = world.plan(), world.snapshot.host.ksm
    started = [action for action in plan.actions if isinstance(action, KsmAction)]
    if not started:
        return
    assert started == [plan.actions[-1]]
    assert world.policy.ksm
    assert world.policy.reclaim is not ReclaimMode.OFF
    assert world.policy.reclaim is not ReclaimMode.ON_PRESSURE or plan.host.headroom_bytes < 0
    assert ksm is not None
    assert (ksm.run, ksm.tuner, world.past.ksm_generation) == (KsmRun.STOPPED, None, None)
    (action,) = started
    assert action.expected_bytes == 0
    assert action.before_bytes == action.after_bytes
    shared = [d for d in world.snapshot.domains if d.mergeable and d.residency]
    assert 0 < action.mergeable_bytes <= sum(d.residency.resident_bytes for d in shared if d.residency)
    written = dict(action.settings)
    assert list(written)[-1] == "run"
    assert written["run"] == "1"
    assert ("pages_to_scan" in written) == (ksm.advisor is None)
    assert 100 <= int(written.get("pages_to_scan", 100)) <= 20_000
    after = dataclasses.replace(world.snapshot.host, ksm=dataclasses.replace(ksm, run=KsmRun.RUNNING))
    running = world._replace(
        snapshot=dataclasses.replace(world.snapshot, host=after), past=Past(ksm_generation=1)
    )
    assert not any(isinstance(a, KsmAction) for a in running.plan().actions), "done once is done"


@given(worlds() | emergencies())
def test_merged_memory_is_not_promised_by_page_out(world: World) -> None:
    for action in on_domains(world.plan()):
        if isinstance(action, PageoutAction):
            cold = world.heats[action.domain.uuid].cold_bytes or 0
            assert action.expected_bytes <= cold - (facts_of(world, action).merged_bytes or 0)


@given(worlds() | emergencies())
def test_no_page_is_promised_twice(world: World) -> None:
    for name, taken in taken_from(world.plan()).items():
        facts = next(d for d in world.snapshot.domains if d.name == name)
        assert facts.residency is not None
        assert taken <= facts.residency.resident_bytes


@given(worlds() | emergencies())
def test_no_size_is_negative_and_temperatures_add_up(world: World) -> None:
    plan = world.plan()
    for domain in plan.domains:
        known = (
            domain.resident_bytes,
            domain.swapped_bytes,
            domain.hot_bytes,
            domain.warm_bytes,
            domain.cold_bytes,
        )
        assert all(size is None or size >= 0 for size in known)
        assert 0 <= domain.floor_bytes <= domain.ceiling_bytes
        if domain.hot_bytes is not None and domain.warm_bytes is not None:
            assert domain.hot_bytes + domain.warm_bytes + (domain.cold_bytes or 0) == domain.resident_bytes
            assert sum(b.resident_bytes for b in domain.idle_histogram) == domain.resident_bytes


@given(worlds() | emergencies())
def test_a_saved_plan_is_the_plan(world: World) -> None:
    plan = world.plan()
    assert document.loads(document.dumps(plan), "p.json") == plan


@given(worlds(ReclaimMode.PROACTIVE, ReclaimMode.ON_PRESSURE))
def test_perfect_applies_come_to_an_end(world: World) -> None:
    """Each rung counts only on what the one before has settled.

    Balloons are done after one apply, page-out of the same domains after a second. A budget or a floor may
    leave less than a piece, a balloon its rounding.
    """
    world = honest(world)
    first = world.plan()
    assume(all(action.blocked is None for action in first.actions))
    most_piece = max((p.resident_bytes for h in world.heats.values() for p in h.cold_pieces), default=0)
    negligible = len(world.snapshot.domains) * max(LEAST, most_piece, MIB)
    world = applied(world, first)
    second = world.plan()
    ballooned = {a.domain for a in first.runnable if isinstance(a, BalloonAction)}
    again = [a for a in on_domains(second) if isinstance(a, BalloonAction) or a.domain not in ballooned]
    assert sum(a.expected_bytes for a in again) <= negligible
    assume(all(action.blocked is None for action in second.actions))
    assert applied(world, second).plan().expected_bytes <= negligible


def in_mode(policy: Policy, mode: ReclaimMode) -> Policy:
    return dataclasses.replace(policy, reclaim=mode)


def with_cold_node(world: World, free: int, there: float) -> World:
    """The same host with a second memory node, on which that share of each domain lies."""
    nodes = (scenarios.node(0, 2000 * MIB, 2000 * MIB - free), scenarios.node(1, 2000 * MIB, free))
    for facts in world.snapshot.domains:
        resident = facts.residency.resident_bytes if facts.residency else 0
        far = round(there * resident)
        placed = dataclasses.replace(facts, placement={0: resident - far, 1: far})
        world = replaced(world, facts, placed)
    host = dataclasses.replace(world.snapshot.host, nodes=nodes, migration=True)
    policy = dataclasses.replace(world.policy, cold_node=1)
    return world._replace(snapshot=dataclasses.replace(world.snapshot, host=host), policy=policy)


def replaced(world: World, old: DomainFacts, new: DomainFacts) -> World:
    others = tuple(new if d.incarnation == old.incarnation else d for d in world.snapshot.domains)
    return world._replace(snapshot=dataclasses.replace(world.snapshot, domains=others))


def honest(world: World) -> World:
    """The same host with guests that can give what they say."""
    for facts in world.snapshot.domains:
        if facts.balloon is not None and facts.balloon.usable_bytes is not None:
            usable = max(0, min(facts.balloon.usable_bytes, guest_bytes(facts.definition, facts.balloon)))
            unused = max(0, min(facts.balloon.unused_bytes or 0, usable))
            told = dataclasses.replace(facts.balloon, usable_bytes=usable, unused_bytes=unused)
            world = replaced(world, facts, dataclasses.replace(facts, balloon=told))
    return world


def applied(world: World, plan: Plan) -> World:
    """The host after every action did just what it promised, and no more."""
    heats = dict(world.heats)
    available, swapped = world.snapshot.host.mem_available_bytes, 0
    for action in on_domains(plan):
        facts = facts_of(world, action)
        assert facts.residency is not None
        available += action.expected_bytes
        if isinstance(action, PageoutAction | DemotionAction):
            swapped += action.expected_bytes
            gone = tuple(Range(p.start, p.end) for p in action.pieces)
        else:
            promised = [
                Range(*p[:2])
                for a in plan.runnable
                if isinstance(a, PageoutAction) and a.domain == action.domain
                for p in a.pieces
            ]
            spare = without(facts.residency, promised)
            gone = cold_first(spare, heats.get(action.domain.uuid), action.expected_bytes)
        if isinstance(action, VirtioMemAction | BalloonAction):
            facts = shrunk(facts, action)
        elif isinstance(action, GuestReclaimAction):
            assert facts.agent is not None
            facts = dataclasses.replace(facts, agent=dataclasses.replace(facts.agent, reclaims=True))
        left = without(facts.residency, gone) if facts.residency else None
        if left is not None and isinstance(action, PageoutAction):
            left = dataclasses.replace(left, swapped_bytes=left.swapped_bytes + action.expected_bytes)
        if (heat := heats.get(action.domain.uuid)) is not None and left is not None:
            heats[action.domain.uuid] = cooled(heat, left)
        world = replaced(world, facts, dataclasses.replace(facts, residency=left))
    host = world.snapshot.host
    area = (scenarios.zram(host.swap_total_bytes, host.swap_used_bytes + swapped),) if host.swap else ()
    host = dataclasses.replace(host, mem_available_bytes=available, swap=area)
    return world._replace(snapshot=dataclasses.replace(world.snapshot, host=host), heats=heats)


def shrunk(facts: DomainFacts, action: VirtioMemAction | BalloonAction) -> DomainFacts:
    """The guest after it gave what the action wants: of what it did not use."""
    assert facts.balloon is not None
    given = action.before_bytes - action.after_bytes
    balloon = dataclasses.replace(
        facts.balloon,
        usable_bytes=max(0, (facts.balloon.usable_bytes or 0) - given),
        unused_bytes=max(0, (facts.balloon.unused_bytes or 0) - given),
    )
    if isinstance(action, BalloonAction):
        return dataclasses.replace(
            facts, balloon=dataclasses.replace(balloon, actual_bytes=action.after_bytes)
        )
    devices = tuple(
        dataclasses.replace(d, requested_bytes=action.after_bytes, current_bytes=action.after_bytes)
        if d.alias == action.device
        else d
        for d in facts.definition.virtio_mem
    )
    definition = dataclasses.replace(facts.definition, virtio_mem=devices)
    return dataclasses.replace(facts, balloon=balloon, definition=definition)


def cold_first(residency: Residency, heat: Heat | None, amount: int) -> tuple[Range, ...]:
    """What a guest may give to its balloon: the worst case for page-out, the coldest."""
    cold = [Range(p.start, p.end) for p in heat.cold_pieces] if heat else []
    gone: list[Range] = []
    for part in [*intersect(residency.resident, cold), *without(residency, cold).resident]:
        size = min(part.size, amount)
        amount -= size
        gone.append(Range(part.start, part.start + size))
    return normalise(gone)


def without(residency: Residency, gone: object) -> Residency:
    holes = normalise(gone)  # type: ignore[arg-type]
    edges = [0, *(edge for hole in holes for edge in hole), 1 << 64]
    around = [Range(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    kept = tuple(intersect(residency.resident, around))
    return Residency(resident=kept, swapped_bytes=residency.swapped_bytes)


def cooled(heat: Heat, left: Residency) -> Heat:
    """The heat map of what is still resident: hot and warm memory is where it was."""
    pieces = []
    for piece in heat.cold_pieces:
        held = total_size(intersect(left.resident, [Range(piece.start, piece.end)]))
        if held:
            pieces.append(piece._replace(resident_bytes=held))
    cold = None if heat.cold_bytes is None else sum(p.resident_bytes for p in pieces)
    return dataclasses.replace(heat, cold_bytes=cold, cold_pieces=tuple(pieces))
