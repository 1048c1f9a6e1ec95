"""Demotion: idle memory to a slower memory node. Recall: memory in use back."""

from __future__ import annotations

from overcommit.model.action import DemotionAction
from overcommit.model.heat import ColdPiece, Heat
from overcommit.plan.case import Case
from overcommit.plan.rungs.pageout import idle_text
from overcommit.units import format_size


def demote(
    case: Case, heat: Heat, node: int, there: int, moving: int, pieces: tuple[ColdPiece, ...]
) -> DemotionAction:
    """The action for chosen pieces, of which ``there`` bytes are on the node already."""
    return DemotionAction(
        id="",
        domain=case.domain.incarnation,
        node=node,
        before_bytes=there,
        after_bytes=there + moving,
        expected_bytes=moving,
        cold_after_seconds=heat.cold_after_seconds,
        max_bytes_per_second=case.policy.swap.max_write_bytes_per_second,
        psi_some_limit=case.domain_class.objective.psi_some,
        pieces=pieces,
        reason="idle_memory",
        because=idle_text(heat),
        risk="a page that is needed again is slower to reach, and may stay slower; the floor does not "
        "apply, because nothing leaves memory",
    )


def recall(case: Case, heat: Heat, node: int, near: int, there: int, recalled: int) -> DemotionAction:
    """The reverse, to node ``near``."""
    return DemotionAction(
        id="",
        domain=case.domain.incarnation,
        node=node,
        recall_to=near,
        before_bytes=there,
        after_bytes=there - recalled,
        expected_bytes=recalled,
        cold_after_seconds=heat.cold_after_seconds,
        max_bytes_per_second=case.policy.swap.max_write_bytes_per_second,
        psi_some_limit=case.domain_class.objective.psi_some,
        pieces=(),
        reason="memory_in_use",
        because=f"{format_size(there)} is on node {node}; at most "
        f"{format_size((heat.cold_bytes or 0) + heat.warm_bytes)} of the domain is not hot",
        risk=f"node {near} gets fuller, also with pages that were needed only once",
    )
