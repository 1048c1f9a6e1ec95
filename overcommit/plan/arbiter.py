"""Decides how much each domain gives, within the host's budgets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from overcommit.model.action import (
    Action,
    BalloonAction,
    DemotionAction,
    DomainAction,
    GuestReclaimAction,
    PageoutAction,
    ReportingAction,
    VirtioMemAction,
    frees,
)
from overcommit.model.facts import HostFacts, Incarnation
from overcommit.model.plan import HostPlan
from overcommit.model.policy import Policy, ReclaimMode
from overcommit.plan.case import Case, spare_bytes, worthwhile
from overcommit.plan.limits import Place, Room, Rooms, memory_place, memory_rooms, swap_place, swap_rooms
from overcommit.plan.rungs.pageout import coldest
from overcommit.plan.sharing import Burden, share
from overcommit.plan.swap_budget import SwapVerdict
from overcommit.units import MIB


class Candidate(NamedTuple):
    """A domain with the actions that it could give, in the order of the ladder, and those that it needs."""

    case: Case
    offers: tuple[DomainAction, ...]
    reliefs: tuple[VirtioMemAction | BalloonAction, ...] = ()


def arbitrate(
    candidates: Sequence[Candidate],
    host: HostFacts,
    account: HostPlan,
    policy: Policy,
    swap: SwapVerdict,
    *,
    emergency: bool = False,
) -> list[DomainAction]:
    """The actions of a plan: first short guests are helped, then memory is taken.

    A proactive policy takes from each domain what its class allows per plan. A policy on pressure takes
    what the host is short of by its ``account``, plus what the guests are given, shared among the domains.
    Guests get no more than the account has available. ``swap`` bounds page-outs. In an ``emergency`` no step
    bounds what one plan takes, and domains with the highest cost come first (`overcommit.plan.sharing`).
    """
    if policy.reclaim is ReclaimMode.OFF:
        return []
    # An emergency helps only guests that are near their own OOM. They may use more of the reserve.
    room = max(
        0, account.available_bytes - round(policy.reserve * host.total_bytes) // (4 if emergency else 2)
    )
    given = list(_relieve(candidates, room, host))
    allowance = _Allowance(
        swap, swap_rooms((candidate.case.domain for candidate in candidates), swap.granted)
    )
    most = [_most(candidate, stepwise=not emergency) for candidate in candidates]
    if policy.reclaim is ReclaimMode.PROACTIVE:
        return [
            *given,
            *(a for c, limit in zip(candidates, most, strict=True) for a in allowance.take(c, limit)),
        ]
    # Guests that the host cannot help yet are helped by the next plan, from the reserve that this one fills.
    need = account.short_bytes + sum(a.after_bytes - a.before_bytes for a in given if a.blocked is None)
    paid = _share_out(candidates, most, allowance, need, policy.idle_tax)
    if any(action.blocked for actions in paid.values() for action in actions):
        _make_room_in_swap(candidates, paid)
    order = list(paid) if emergency else sorted(paid)
    return [*given, *(action for index in order for action in paid[index])]


_Relief = VirtioMemAction | BalloonAction


def _relieve(candidates: Sequence[Candidate], room: int, host: HostFacts) -> Iterable[_Relief]:
    """The reliefs for which the host has memory. Half of its reserve is for them.

    Where there is too little, a guest that needs less than an equal part gets all of it, and the others share
    the rest. Room below limits of cgroups and on memory nodes is shared the same way.
    """
    reliefs = [
        (memory_place(candidate.case.domain, host), action)
        for candidate in candidates
        for action in candidate.reliefs
    ]
    below = memory_rooms((candidate.case.domain for candidate in candidates), host)
    wanted = [action.after_bytes - action.before_bytes for _, action in reliefs]
    granted: list[_Relief] = [action for _, action in reliefs]
    order = sorted(range(len(reliefs)), key=lambda index: wanted[index])
    for done, index in enumerate(order):
        place, action = reliefs[index]
        unit = _unit(action)
        part = max(room // (len(reliefs) - done), unit)
        size = min(wanted[index], part // unit * unit, room // unit * unit)
        bound = below.room(place, [reliefs[later][0] for later in order[done + 1 :]])
        if bound is not None and (bound.size_bytes < size or bound.size_bytes < unit):
            size = bound.size_bytes // unit * unit
            granted[index] = _given_less(action, size, bound)
        else:
            granted[index] = _given(action, size)
        room -= size
        below.take(place, size)
    return granted


def _given(action: _Relief, size: int) -> _Relief:
    if size < _unit(action):
        return dataclasses.replace(action, blocked="the host has no memory left to give")
    return dataclasses.replace(action, after_bytes=action.before_bytes + size)


def _given_less(action: _Relief, size: int, bound: Room) -> _Relief:
    """The relief cut to what a limit leaves, with the limit named."""
    if size < _unit(action):
        return dataclasses.replace(action, blocked=f"its limit is reached ({bound.why})")
    because = f"{action.because}; more is not possible ({bound.why})"
    return dataclasses.replace(action, after_bytes=action.before_bytes + size, because=because)


def _most(candidate: Candidate, *, stepwise: bool) -> int:
    """The most bytes that one plan may take from a domain."""
    ceiling, offered = candidate.case.bounds.ceiling_bytes, sum(frees(action) for action in candidate.offers)
    if not stepwise:
        return offered
    return min(offered, max(worthwhile(ceiling), int(candidate.case.domain_class.step * ceiling)))


def within_step(candidate: Candidate, offer: DomainAction, *, stepwise: bool) -> bool:
    """Whether an offer is still worth doing within the domain's step."""
    if isinstance(offer, DemotionAction | GuestReclaimAction):
        return True
    return _gain(_limited(offer, _most(candidate, stepwise=stepwise))) > 0


def _burden(candidate: Candidate, most: int) -> Burden:
    case = candidate.case
    domain, heat, ceiling = case.domain, case.heat, case.bounds.ceiling_bytes
    resident = domain.residency.resident_bytes if domain.residency else 0
    idle = max((heat.cold_bytes or 0) if heat else 0, spare_bytes(domain))
    return Burden(
        shares=case.domain_class.weight * ceiling,
        active_bytes=max(0, resident - idle),
        idle_bytes=min(idle, resident),
        most_bytes=most,
        least_bytes=worthwhile(ceiling),
    )


def _share_out(
    candidates: Sequence[Candidate], most: Sequence[int], allowance: _Allowance, need: int, tax: float
) -> dict[int, list[DomainAction]]:
    """Take the domains' parts, highest cost first. What one domain cannot give, the others do."""
    burdens = [_burden(candidate, limit) for candidate, limit in zip(candidates, most, strict=True)]
    paid: dict[int, list[DomainAction]] = {}
    missing = need
    for index, part in share(need, burdens, tax=tax):
        paid[index] = allowance.take(candidates[index], part)
        missing -= _worth(paid[index])
    for index, limit in share(sum(most), burdens, tax=tax):
        if missing < worthwhile(0):
            break
        before = paid.get(index, [])
        allowance.put_back(before)
        again = allowance.take(candidates[index], min(limit, _worth(before) + missing))
        missing -= _worth(again) - _worth(before)
        paid[index] = again
    return paid


def _make_room_in_swap(candidates: Sequence[Candidate], paid: dict[int, list[DomainAction]]) -> None:
    """Where page-out waits for room in swap, have guests give up unneeded memory that they have there.

    Only the next plan counts on that room, when it has been read back as free.
    """
    for index, candidate in enumerate(candidates):
        for offer in candidate.offers:
            if isinstance(offer, BalloonAction) and offer.expected_swap_bytes and not offer.expected_bytes:
                paid.setdefault(index, []).insert(0, offer)


def _gain(action: _Taking) -> int:
    """The bytes that justify the action: memory, or room in swap."""
    return action.expected_bytes + (action.expected_swap_bytes if isinstance(action, BalloonAction) else 0)


def _worth(actions: Iterable[Action]) -> int:
    return sum(frees(action) for action in actions if action.blocked is None)


_Taking = ReportingAction | VirtioMemAction | BalloonAction | PageoutAction


class _Allowance:
    """What page-outs may still put into swap (rule S7). ``below`` are the limits of cgroups."""

    def __init__(self, swap: SwapVerdict, below: Rooms) -> None:
        self._room = swap.room_bytes
        self._full = swap.bound
        self._below = below
        self._places: dict[Incarnation, Place] = {}

    def take(self, candidate: Candidate, limit: int) -> list[DomainAction]:
        """At most ``limit`` bytes of what a domain offers, by the cheapest mechanisms that have them.

        Page-out without room in swap is in the plan, blocked.
        """
        taken: list[DomainAction] = []
        kept = 0
        for offer in candidate.offers:
            if isinstance(offer, DemotionAction | GuestReclaimAction):
                taken.append(offer)
                continue
            if isinstance(offer, BalloonAction):
                # The offer assumes that the blocks are unplugged. Where some stay, more may be resident.
                offer = dataclasses.replace(offer, expected_bytes=offer.expected_bytes - kept)
            wanted = _limited(offer, limit)
            left_over = bool(taken) and _gain(wanted) < worthwhile(0)
            if left_over or _gain(wanted) <= 0:
                if isinstance(offer, VirtioMemAction):
                    kept += offer.before_bytes - offer.after_bytes - offer.expected_bytes
                continue
            granted = self._swap_out(candidate, wanted) if isinstance(wanted, PageoutAction) else wanted
            if granted.blocked is None:
                limit -= granted.expected_bytes
            taken.append(granted)
        return taken

    def _swap_out(self, candidate: Candidate, wanted: PageoutAction) -> PageoutAction:
        """As much of the page-out as there is room for in swap; blocked, where that is too little."""
        place, most, why = swap_place(candidate.case.domain), self._room, self._full
        bound = self._below.room(place)
        if bound is not None and bound.size_bytes < most:
            most, why = bound.size_bytes, f"other page-outs use up what {bound.why} leaves"
        granted = _coldest_of(wanted, most)
        if granted.expected_bytes < min(wanted.expected_bytes, worthwhile(0)):
            return dataclasses.replace(wanted, blocked=why)
        self._places[wanted.domain] = place
        self._room -= granted.expected_bytes
        self._below.take(place, granted.expected_bytes)
        return granted

    def put_back(self, actions: Iterable[Action]) -> None:
        """Return the room of actions that are not done after all."""
        for action in actions:
            if isinstance(action, PageoutAction) and action.blocked is None:
                self._room += action.expected_bytes
                self._below.take(self._places[action.domain], -action.expected_bytes)


def _limited(action: _Taking, most: int) -> _Taking:
    """The same action for at most ``most`` bytes."""
    if action.expected_bytes <= most:
        return action
    if isinstance(action, ReportingAction):
        return dataclasses.replace(action, after_bytes=action.before_bytes - most, expected_bytes=most)
    if not isinstance(action, PageoutAction):
        # Rounding the new size up keeps whole blocks or MiB, and the gain within what is wanted.
        unit = _unit(action)
        surplus = -(-(action.expected_bytes - most) // unit) * unit
        if isinstance(action, BalloonAction) and action.expected_swap_bytes:
            action = dataclasses.replace(
                action, expected_swap_bytes=max(0, action.expected_swap_bytes - surplus)
            )
        return dataclasses.replace(
            action,
            after_bytes=action.after_bytes + surplus,
            expected_bytes=action.expected_bytes - surplus,
        )
    return _coldest_of(action, most)


def _coldest_of(action: PageoutAction, most: int) -> PageoutAction:
    """The same page-out of at most ``most`` bytes."""
    if action.expected_bytes <= most:
        return action
    pieces = coldest(action.pieces, most)
    kept = sum(piece.resident_bytes for piece in pieces)
    return dataclasses.replace(
        action, pieces=pieces, after_bytes=action.before_bytes - kept, expected_bytes=kept
    )


def _unit(action: VirtioMemAction | BalloonAction) -> int:
    """The bytes in whole multiples of which the action resizes."""
    return action.block_bytes if isinstance(action, VirtioMemAction) else MIB
