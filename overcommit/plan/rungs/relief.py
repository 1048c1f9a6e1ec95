"""Relief: a short guest gets back what its balloon or blocks gave before, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from overcommit.model.action import GUEST_IN_PAIN, GUEST_IS_SHORT, BalloonAction, VirtioMemAction
from overcommit.model.facts import BalloonStats
from overcommit.model.guest_reserve import guest_reserve, short_below
from overcommit.model.part import MemoryPart
from overcommit.model.past import Left, Past
from overcommit.model.policy import Actuator
from overcommit.plan.case import Case, guest_bytes, used_bytes
from overcommit.units import MIB, format_size, round_up

_RISK = "the host must have this much memory free"


class Need(NamedTuple):
    """The size that a guest should have, and why. ``reason`` is for programs."""

    size_bytes: int
    reason: str
    because: str


def need_of(case: Case, stats: BalloonStats) -> Need | None:
    """What the guest needs; None: it is not short.

    It is short by `short_below`, and gets as much as `balloon.inflate` would leave it. A guest under pressure
    gets all that was taken, whatever its figures, because its need is not known. In an emergency only a guest
    near its own OOM gets memory.
    """
    ceiling, definition = case.bounds.ceiling_bytes, case.domain.definition
    if case.pain is not None and not case.emergency:
        return Need(ceiling, GUEST_IN_PAIN, case.pain)
    reserve, used = guest_reserve(ceiling), used_bytes(definition, stats)
    size = guest_bytes(definition, stats)
    if size - used >= short_below(reserve, near_oom=case.emergency):
        return None
    because = f"the guest has only {format_size(size - used)} available of {format_size(size)}"
    return Need(used + reserve, GUEST_IS_SHORT, because)


def relieve(case: Case, past: Past) -> Iterator[VirtioMemAction | BalloonAction]:
    """The actions that give the domain memory: from its balloon first, and the rest in blocks.

    ``past`` is the domain's own.
    """
    stats, left, given = case.domain.balloon, past.left_of(MemoryPart(case.domain.incarnation)), 0
    need = need_of(case, stats) if stats is not None else None
    if stats is None or need is None:
        return
    if left is not None and case.may(Actuator.BALLOON):
        deflated = deflate(case, stats, left, need)
        if deflated is not None:
            given = deflated.after_bytes - deflated.before_bytes
            yield deflated
    if case.may(Actuator.VIRTIO_MEM):
        yield from plug(case, stats, past.devices, need, given=given)


def deflate(case: Case, stats: BalloonStats, left: Left, need: Need) -> BalloonAction | None:
    """Give memory from the balloon; None: nothing to give."""
    definition = case.domain.definition
    wanted = round_up(need.size_bytes - definition.plugged_bytes)
    target = min(wanted, left.baseline_bytes, definition.base_bytes)
    if target < stats.actual_bytes + MIB:
        return None
    return BalloonAction(
        id="",
        domain=case.domain.incarnation,
        before_bytes=stats.actual_bytes,
        after_bytes=target,
        expected_bytes=0,
        reason=need.reason,
        because=f"{need.because}; overcommit took memory from it in generation {left.generation}",
        risk=_RISK,
    )


def plug(
    case: Case, stats: BalloonStats, left: Iterable[Left], need: Need, *, given: int
) -> Iterator[VirtioMemAction]:
    """Give blocks, where the balloon gives ``given`` bytes already."""
    definition = case.domain.definition
    missing = need.size_bytes - guest_bytes(definition, stats) - given
    for was in left:
        device = definition.device(was.part.device)
        if device is None or not device.resized or not device.block_bytes:
            continue
        most = min(was.baseline_bytes, device.size_bytes) - device.current_bytes
        # Rounded down, because the balloon would take the excess again; but one block if it needs less.
        wanted = missing // device.block_bytes or int(missing > 0 and given == 0)
        blocks = min(wanted, most // device.block_bytes)
        if blocks <= 0:
            continue
        plugged = blocks * device.block_bytes
        missing, given = missing - plugged, given + plugged
        yield VirtioMemAction(
            id="",
            domain=case.domain.incarnation,
            device=device.alias,
            block_bytes=device.block_bytes,
            before_bytes=device.current_bytes,
            after_bytes=device.current_bytes + plugged,
            expected_bytes=0,
            reason=need.reason,
            because=f"{need.because}; overcommit took blocks from it in generation {was.generation}",
            risk=_RISK,
        )
