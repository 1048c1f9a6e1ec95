"""A plan that goes further than one made now could is refused, whatever its digest says (S1, S12, S13)."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from overcommit.errors import StalePlan
from overcommit.model.action import BalloonAction, DemotionAction, KsmAction, PageoutAction, VirtioMemAction
from overcommit.model.facts import Snapshot
from overcommit.model.heat import ColdPiece
from overcommit.model.moments import Wall
from overcommit.model.past import NOTHING_PAST, Past, Reservation
from overcommit.model.plan import Plan
from overcommit.model.policy import PageoutActor, Policy, ReclaimMode
from overcommit.plan.authority import excesses
from overcommit.plan.freshness import require_fresh
from overcommit.plan.planner import make_plan
from overcommit.units import GIB, MIB
from tests import scenarios

CLASS = {"standard": {"floor": "50%", "cold_after": "2min", "step": "50%"}}
SAID = scenarios.guest_says(1300 * MIB, actual=2 * GIB)
WEB = scenarios.domain("web", size=2 * GIB, balloon=SAID)
DB = scenarios.domain("db", resident=900 * MIB)
HALVES = [(300.0, 200 * MIB), (0.0, 700 * MIB)]


class Scene:
    """A host, its policy, and the plan that is made for it."""

    def __init__(
        self, host: dict[str, Any], domains: Any, policy: dict[str, Any], past: Past = NOTHING_PAST
    ) -> None:
        self.policy = scenarios.policy({"classes": CLASS, **policy})
        self.now: Snapshot = scenarios.snapshot(scenarios.host(**host), *domains)
        self.past = past
        heat = scenarios.heat(DB, HALVES, watched=300.0, policy=self.policy)
        self.plan = make_plan(self.now, {DB.incarnation.uuid: heat}, self.policy, past=past)

    def forged(self, kind: type, **values: Any) -> Plan:
        """The plan with other values in its action of that kind."""
        assert any(isinstance(action, kind) for action in self.plan.runnable)
        return dataclasses.replace(
            self.plan,
            actions=tuple(
                dataclasses.replace(action, **values) if isinstance(action, kind) else action
                for action in self.plan.actions
            ),
        )

    def refusal(self, plan: Plan, policy: Policy | None = None) -> str:
        """All for which the plan is refused."""
        policy = policy or self.policy
        with pytest.raises(StalePlan) as caught:
            require_fresh(plan, self.now, policy, self.past)
        assert "plan again" in (caught.value.hint or "")
        return "; ".join([str(caught.value), *excesses(plan.runnable, self.now, policy, self.past)])


PLAIN = Scene({}, (WEB, DB), {})
BLOCKS = Scene(
    {},
    (
        scenarios.domain(
            "web",
            size=3 * GIB,
            balloon=scenarios.guest_says(2 * GIB, actual=2 * GIB, plugged=GIB),
            virtio_mem=(scenarios.memory_device("virtiomem0", GIB),),
        ),
    ),
    {},
)
SLOW = Scene(
    {"nodes": (scenarios.node(0, 6 * GIB, 2 * GIB), scenarios.node(1, 2 * GIB, 2 * GIB))},
    (dataclasses.replace(DB, placement={0: 900 * MIB, 1: 0}),),
    {"host": {"cold_node": 1}},
)
MERGING = Scene({"ksm": scenarios.ksm()}, (WEB, DB), {"host": {"ksm": True}})


@pytest.mark.parametrize("scene", [PLAIN, BLOCKS, SLOW, MERGING])
def test_what_was_planned_goes_no_further_than_it_may(scene: Scene) -> None:
    assert scene.plan.runnable
    require_fresh(scene.plan, scene.now, scene.policy, scene.past)


def pieces(**values: Any) -> dict[str, Any]:
    """Those of the plan, the first of them with other values."""
    (action,) = (a for a in PLAIN.plan.runnable if isinstance(a, PageoutAction))
    return {"pieces": (action.pieces[0]._replace(**values), *action.pieces[1:])}


RAM = DB.ram[0]
BEYOND = {"pieces": (ColdPiece(RAM.end - 4096, RAM.end + GIB, 200 * MIB, 300.0),)}


@pytest.mark.parametrize(
    ("scene", "kind", "values", "reason"),
    [
        (PLAIN, BalloonAction, {"after_bytes": 30 * MIB}, "less than its floor of 1.0 GiB"),
        (PLAIN, BalloonAction, {"after_bytes": 1100 * MIB, "expected_bytes": GIB}, "expected to free more"),
        (PLAIN, BalloonAction, {"expected_bytes": 2 * GIB}, "taken at once, its class allows 1.0 GiB"),
        (
            PLAIN,
            PageoutAction,
            {"after_bytes": 400 * MIB, "expected_bytes": 500 * MIB},
            "400 MiB of it would stay in memory, less than its floor of 512 MiB",
        ),
        (PLAIN, PageoutAction, {"after_bytes": 600 * MIB}, "the sizes of its page-out do not add up"),
        (PLAIN, PageoutAction, {"actor": PageoutActor.DAMOS_PADDR}, "is paged out by cold-hint+reclaim"),
        (PLAIN, PageoutAction, {"psi_some_limit": 1.0}, "of its time waiting for memory"),
        (PLAIN, PageoutAction, {"promotions_limit": 1.0}, "read back per minute"),
        (PLAIN, PageoutAction, {"working_set_bytes": 1 << 40}, "it has no more than 1.0 GiB"),
        (PLAIN, PageoutAction, {"max_bytes_per_second": 1 << 40}, "the policy allows 50.0 MiB per second"),
        (PLAIN, PageoutAction, {"max_bytes_per_second": 0}, "the policy allows 50.0 MiB per second"),
        (PLAIN, PageoutAction, {"pieces": ()}, "the pieces are not what would be paged out"),
        (PLAIN, PageoutAction, pieces(start=4096, end=8192 + 200 * MIB), "a piece is not in its guest RAM"),
        (PLAIN, PageoutAction, BEYOND, "a piece is not in its guest RAM"),
        (PLAIN, PageoutAction, pieces(start=RAM.start, end=RAM.start), "are in no order, or overlap"),
        (PLAIN, PageoutAction, pieces(end=RAM.start + 4096), "a piece holds more than its size"),
        (PLAIN, PageoutAction, pieces(idle_seconds=1.0), "a piece was idle for less than 2min"),
        (BLOCKS, VirtioMemAction, {"after_bytes": 4096}, "its device virtiomem0 has blocks of 2.0 MiB"),
        (BLOCKS, VirtioMemAction, {"block_bytes": 4096}, "its device virtiomem0 has blocks of 2.0 MiB"),
        (SLOW, DemotionAction, {"node": 0}, "memory node"),
        (SLOW, DemotionAction, {"expected_bytes": GIB}, "the sizes of its move do not add up"),
        (SLOW, DemotionAction, {"max_bytes_per_second": 1 << 40}, "the policy allows 50.0 MiB per second"),
        (SLOW, DemotionAction, {"cold_after_seconds": 0.0}, "cold only after 2min"),
        (MERGING, KsmAction, {"settings": (("../../../../etc/x", "1"), ("run", "1"))}, "no plan gives it"),
        (MERGING, KsmAction, {"settings": (("sleep_millisecs", "0"), ("run", "1"))}, "no plan gives it"),
        (MERGING, KsmAction, {"settings": (("run", "2"),)}, "run would be set to what no plan sets it to"),
        (MERGING, KsmAction, {"settings": (("run", "1"), ("run", "1"))}, "no plan gives it"),
        (MERGING, KsmAction, {"settings": ()}, "no plan gives it"),
        (
            MERGING,
            KsmAction,
            {"settings": (("pages_to_scan", "4000000000"), ("run", "1"))},
            "pages_to_scan would be set to what no plan sets it to",
        ),
    ],
)  # fmt: skip
def test_what_goes_further_is_refused(scene: Scene, kind: type, values: dict[str, Any], reason: str) -> None:
    assert reason in scene.refusal(scene.forged(kind, **values))


def test_what_the_policy_does_not_want_now_is_refused() -> None:
    merging = dataclasses.replace(MERGING.policy, ksm=False)
    assert "does not start KSM" in MERGING.refusal(MERGING.plan, merging)
    off = dataclasses.replace(PLAIN.policy, reclaim=ReclaimMode.OFF)
    assert "reclaim: off" in PLAIN.refusal(PLAIN.plan, off)
    pressed = dataclasses.replace(PLAIN.policy, reclaim=ReclaimMode.ON_PRESSURE)
    assert "only what the host is short of. That is 0 B now" in PLAIN.refusal(PLAIN.plan, pressed)
    wanted = Reservation(id=0, purpose=None, size_bytes=8 * GIB, expires_at=Wall(math.inf))
    require_fresh(PLAIN.plan, PLAIN.now, pressed, Past(reservations=(wanted,)))


def test_a_guest_gets_back_no_more_than_was_taken_from_it() -> None:
    reduced = scenarios.domain("web", size=2 * GIB, resident=GIB, balloon=scenarios.guest_says(0, actual=GIB))
    scene = Scene({}, (reduced, DB), {})
    (balloon,) = (a for a in PLAIN.plan.runnable if isinstance(a, BalloonAction))
    relief = dataclasses.replace(
        balloon, domain=reduced.incarnation, before_bytes=GIB, after_bytes=2 * GIB, expected_bytes=0, id="1"
    )
    plan = dataclasses.replace(scene.plan, actions=(relief,))
    assert "it would be given 2.0 GiB, it had 0 B before" in scene.refusal(plan)


@pytest.mark.parametrize(
    "times",
    [
        {"expires_at": scenarios.NOW + 1e9},
        {"created_at": scenarios.NOW + 300, "expires_at": scenarios.NOW + 900},
    ],
)
def test_no_plan_lives_longer_than_plans_do(times: Any) -> None:
    assert "its times are not valid" in PLAIN.refusal(dataclasses.replace(PLAIN.plan, **times))


def test_a_plan_for_an_emergency_is_of_that_moment() -> None:
    assert "emergency" in PLAIN.refusal(dataclasses.replace(PLAIN.plan, emergency=True))
