"""What a host near its own OOM does differently, and what it does not."""

from __future__ import annotations

import dataclasses

from hypothesis import assume, given
from hypothesis import strategies as st

from overcommit.model.action import BalloonAction, DemotionAction, KsmAction, VirtioMemAction
from overcommit.model.guest_reserve import guest_reserve
from overcommit.model.policy import ReclaimMode
from overcommit.plan.case import used_bytes, worthwhile
from overcommit.plan.emergency import is_emergency
from overcommit.units import MIB
from tests import scenarios
from tests.properties.hosts import World, emergencies, plenty_of_swap

TAKING = (ReclaimMode.PROACTIVE, ReclaimMode.ON_PRESSURE)


def slack(world: World) -> int:
    """What would bring less than is worthwhile is not done, and pieces are not cut."""
    piece = max((p.resident_bytes for h in world.heats.values() for p in h.cold_pieces), default=0)
    least = max((worthwhile(d.definition.maximum_bytes) for d in world.snapshot.domains), default=0)
    return len(world.snapshot.domains) * max(least, piece, MIB)


def poorer(world: World, less: int) -> World:
    host = world.snapshot.host
    host = dataclasses.replace(host, mem_available_bytes=max(0, host.mem_available_bytes - less))
    return world._replace(snapshot=dataclasses.replace(world.snapshot, host=host))


@given(emergencies(*TAKING))
def test_what_is_missing_is_taken_and_no_more(world: World) -> None:
    """All that the domains offer together, where that is not enough."""
    plan = plenty_of_swap(world).plan()
    need = max(0, -plan.host.headroom_bytes) + plan.given_bytes
    assert plan.expected_bytes <= need
    assume(not any(action.blocked for action in plan.actions))
    offered = sum(sum(domain.offers.values()) for domain in plan.domains)
    assert plan.expected_bytes >= min(need, offered) - slack(world)
    assert not any(isinstance(action, DemotionAction) for action in plan.actions)


@given(emergencies(ReclaimMode.ON_PRESSURE))
def test_an_emergency_never_takes_less_than_an_ordinary_day(world: World) -> None:
    ordinary = world._replace(emergency=False).plan()
    assume(not world.in_pain and ordinary.given_bytes == 0)
    assert world.plan().expected_bytes >= ordinary.expected_bytes - slack(world)


@given(emergencies(*TAKING), st.integers(0, 1 << 30))
def test_less_available_memory_never_plans_less(world: World, less: int) -> None:
    before, after = world.plan(), poorer(world, less).plan()
    assert after.expected_bytes >= before.expected_bytes - before.given_bytes - slack(world)


@given(emergencies())
def test_only_guests_near_their_own_oom_are_given_any_and_a_quarter_of_the_reserve_stays(
    world: World,
) -> None:
    plan = world.plan()
    facts = {domain.incarnation: domain for domain in world.snapshot.domains}
    for action in plan.actions:
        if isinstance(action, VirtioMemAction | BalloonAction) and action.relieves:
            definition, stats = facts[action.domain].definition, facts[action.domain].balloon
            assert stats is not None
            left = stats.actual_bytes + definition.plugged_bytes - used_bytes(definition, stats)
            assert left < guest_reserve(definition.maximum_bytes) // 4
    assert plan.given_bytes <= max(0, plan.host.available_bytes - plan.host.reserve_bytes // 4)


@given(emergencies())
def test_pain_excuses_nobody(world: World) -> None:
    """Whoever could say it is in pain would not pay; unless it is given something."""
    hurt = world._replace(in_pain={d.incarnation: "its faults rise" for d in world.snapshot.domains})
    helped = {
        a.domain
        for a in hurt.plan().actions
        if not isinstance(a, KsmAction) and a.reason.startswith("guest_is")
    }
    offers = [{d.incarnation: dict(d.offers) for d in w.plan().domains} for w in (hurt, world)]
    calm = world._replace(in_pain={})
    for domain in calm.plan().domains:
        if domain.incarnation not in helped:
            assert offers[0][domain.incarnation] == dict(domain.offers)


MEMORY = st.integers(0, 8192).map(lambda size: size * MIB)


@given(MEMORY, MEMORY, st.booleans(), st.booleans(), st.sampled_from(["0%", "8%", "25%"]))
def test_less_memory_more_stall_and_an_emergency_before_never_make_it_calm(
    available: int, less: int, before: bool, stalled: bool, reserve: str
) -> None:
    policy = scenarios.policy({"host": {"reserve": reserve}})

    def judged(available: int, *, before: bool, stalled: bool) -> bool:
        snapshot = scenarios.snapshot(scenarios.host(available=available))
        return is_emergency(snapshot, policy, before=before, stalled=stalled)

    if judged(available, before=before, stalled=stalled):
        assert judged(max(0, available - less), before=before, stalled=stalled)
        assert judged(available, before=True, stalled=stalled)
        assert judged(available, before=before, stalled=True)
    kept = policy.reserve * scenarios.host().total_bytes
    assert judged(available, before=before, stalled=stalled) <= (available < kept)
    assert judged(available, before=False, stalled=False) == (available < kept / 2)
    assert judged(available, before=True, stalled=False) == (available < kept * 0.75)
