"""A plan file that anybody wrote: refused, or no more than the policy allows at the moment it is applied.

What is forged has the right digest: it is a plain checksum, and anybody can make one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from overcommit.errors import OvercommitError
from overcommit.model.action import (
    KSM_SETTINGS,
    BalloonAction,
    KsmAction,
    PageoutAction,
    VirtioMemAction,
    frees,
)
from overcommit.model.plan import Plan
from overcommit.model.policy import ReclaimMode
from overcommit.model.ranges import Range, intersect, total_size
from overcommit.plan import document
from overcommit.plan.authority import excesses
from overcommit.plan.case import bounds_of, guest_bytes, used_bytes, worthwhile
from overcommit.plan.freshness import require_fresh
from tests.properties.hosts import World, emergencies, worlds

HOSTILE: tuple[Any, ...] = (
    *(0, 1, -1, 1 << 20, 1 << 40, 1 << 62, 1 << 63, 1 << 64, 0.0, 1.0, -0.5, 1e308, True, False, None),
    *(
        float("nan"),
        float("inf"),
        "",
        "x",
        "run",
        "../../../etc/shadow",
        "\u202e",
        "a" * 5000,
        [],
        {},
        [[1, 2]],
    ),
)


def signed(data: dict[str, Any]) -> str:
    """With the digest that belongs to it."""
    data = {key: value for key, value in data.items() if key != "digest"}
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
    return json.dumps({**data, "digest": digest})


def leaves(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something can be put."""
    if path:
        yield path
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield from leaves(data[key], (*path, key))


def put(data: Any, path: tuple[Any, ...], value: Any) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def consistent(data: dict[str, Any]) -> None:
    """Sums as they should be, as whoever forges a plan would see to."""
    for action in data["actions"]:
        if action.get("kind") == "pageout" and all(
            isinstance(action.get(key), int) for key in ("before_bytes", "after_bytes")
        ):
            action["expected_bytes"] = action["before_bytes"] - action["after_bytes"]


def require_within(world: World, plan: Plan) -> None:
    """What the policy allows, said once more in other words."""
    facts = {domain.incarnation: domain for domain in world.snapshot.domains}
    for action in plan.runnable:
        if isinstance(action, KsmAction):
            assert world.policy.ksm
            assert {name for name, _ in action.settings} <= set(KSM_SETTINGS)
            continue
        domain = facts[action.domain]
        of = world.policy.class_of(domain)
        floor, ceiling = bounds_of(domain, of)
        own = [a for a in plan.runnable if not isinstance(a, KsmAction) and a.domain == action.domain]
        taken = sum(frees(a) for a in own if not getattr(a, "relieves", False))
        assert taken <= max(worthwhile(ceiling), of.step * ceiling)
        if isinstance(action, PageoutAction):
            assert action.after_bytes >= floor
            assert action.max_bytes_per_second <= world.policy.swap.max_write_bytes_per_second
            assert action.psi_some_limit <= of.objective.psi_some
            spans = [Range(piece.start, piece.end) for piece in action.pieces]
            assert total_size(intersect(spans, domain.ram)) == total_size(spans)
            assert all(a.end <= b.start for a, b in pairwise(spans))
        if isinstance(action, BalloonAction | VirtioMemAction) and not action.relieves:
            assert domain.balloon is not None
            change = sum(
                a.after_bytes - a.before_bytes for a in own if isinstance(a, BalloonAction | VirtioMemAction)
            )
            left = guest_bytes(domain.definition, domain.balloon) + change
            assert left >= floor
            assert left >= used_bytes(domain.definition, domain.balloon)
        if isinstance(action, BalloonAction):
            assert action.after_bytes <= domain.definition.base_bytes


@given(worlds() | emergencies())
def test_an_honest_plan_is_read_back_and_goes_no_further_than_it_may(world: World) -> None:
    plan = world.plan()
    assert document.loads(document.dumps(plan), "p.json") == plan
    assert (
        list(
            excesses(
                plan.runnable,
                world.snapshot,
                world.policy,
                world.past,
                emergency=world.emergency,
            )
        )
        == []
    )


@settings(max_examples=60)
@given(worlds(), st.data())
def test_a_forged_plan_is_refused_or_within_the_policy(world: World, data: st.DataObject) -> None:
    plan = world.plan()
    assume(plan.actions)
    forged = json.loads(document.dumps(plan))
    for _ in range(data.draw(st.integers(1, 4))):
        paths: list[Any] = list(leaves(forged))
        inside = [path for path in paths if path[0] == "actions"]
        of_an_action: bool = data.draw(st.booleans())
        path = data.draw(st.sampled_from(inside if inside and of_an_action else paths))
        old = at(forged, path)
        values: st.SearchStrategy[Any] = st.sampled_from(HOSTILE)
        if isinstance(old, int) and not isinstance(old, bool):
            values |= st.integers(0, 2 * abs(old) + 1)
        elif isinstance(old, float):
            values |= st.floats(0, 1e6)
        put(forged, path, data.draw(values))
    if data.draw(st.booleans()) and isinstance(forged.get("actions"), list):
        forged["actions"] = [a for a in forged["actions"] if isinstance(a, dict)]
        consistent(forged)
    try:
        read = document.loads(signed(forged), "p.json")
        require_fresh(read, world.snapshot, world.policy, world.past)
    except OvercommitError:
        return
    require_within(world, read)


@settings(max_examples=60)
@given(worlds(ReclaimMode.PROACTIVE), st.data())
def test_a_plan_forged_with_all_sums_right_is_refused_or_within_the_policy(
    world: World, data: st.DataObject
) -> None:
    """Not by its text, but as a plan: nothing of it looks odd."""
    plan = world.plan()
    assume(plan.runnable)
    index = data.draw(st.integers(0, len(plan.actions) - 1))
    action = dataclasses.replace(plan.actions[index], blocked=None)
    if isinstance(action, PageoutAction):
        keep = data.draw(st.integers(0, action.before_bytes))
        shift = data.draw(st.sampled_from([0, 0, -(1 << 30), 1 << 40]))
        pieces = tuple(
            p._replace(start=p.start + shift, end=p.end + shift, resident_bytes=action.before_bytes - keep)
            for p in action.pieces[:1]
        )
        limit = data.draw(st.sampled_from([action.psi_some_limit, 1.0]))
        forged: Any = dataclasses.replace(
            action,
            after_bytes=keep,
            expected_bytes=action.before_bytes - keep,
            pieces=pieces,
            psi_some_limit=limit,
        )
    elif isinstance(action, BalloonAction | VirtioMemAction):
        after = data.draw(st.integers(0, 2 * action.before_bytes))
        forged = dataclasses.replace(
            action, after_bytes=after, expected_bytes=max(0, action.before_bytes - after)
        )
    elif isinstance(action, KsmAction):
        pairs = st.tuples(st.sampled_from([*KSM_SETTINGS, "../run", "sleep_millisecs"]), st.text(max_size=4))
        forged = dataclasses.replace(action, settings=tuple(data.draw(st.lists(pairs, max_size=3))))
    else:
        forged = dataclasses.replace(action, after_bytes=data.draw(st.integers(0, 1 << 40)))
    actions = (*plan.actions[:index], forged, *plan.actions[index + 1 :])
    forged_plan = dataclasses.replace(plan, actions=actions)
    try:
        read = document.loads(document.dumps(forged_plan), "p.json")
        require_fresh(read, world.snapshot, world.policy, world.past)
    except OvercommitError:
        return
    require_within(world, read)
