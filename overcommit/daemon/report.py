"""Makes the sentence of a tick, and the status document."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from overcommit.clock import Clock
from overcommit.control.status import Mode, Service, status_document
from overcommit.daemon.state import DomainState, State
from overcommit.model.action import name_of, subject_of
from overcommit.model.facts import Incarnation
from overcommit.model.moments import Monotonic
from overcommit.model.plan import HostPlan
from overcommit.model.policy import ReclaimMode
from overcommit.plan.main_job import briefly
from overcommit.plan.swap_budget import SwapVerdict
from overcommit.units import counted

_MOST_NAMED = 3
_UNSEEN = "has not seen the host yet"


Domains = Mapping[Incarnation, DomainState]


def sentence_of(state: State, domains: Domains, now: Monotonic) -> str:
    """The daemon's state in a sentence, without figures that change all the time."""
    return "; ".join(_parts(state, domains, now))


def state_sentence(state: State, domains: Domains, now: Monotonic) -> str:
    """The same for the log, without what has its own events there (`overcommit.daemon.changes`)."""
    mode, plan = state.mode_state.mode(now), state.plan
    parts = [mode.value, *_ordered(state, mode)]
    parts.insert(1, counted(len(domains), "domain") if plan else _UNSEEN)
    return "; ".join(parts)


def missing_bytes(state: State) -> int:
    """The bytes that are missing of the host's reserve; 0: none, or not known yet."""
    return _missing_bytes(state, state.plan.host) if state.plan else 0


def _parts(state: State, domains: Domains, now: Monotonic) -> Iterator[str]:
    mode = state.mode_state.mode(now)
    reason = state.mode_state.reason(now)
    why = stopped_by(state, now) if mode is Mode.ACTIVE else None
    if why is not None:
        yield briefly(why)
    yield f"{mode.value}: {reason}" if reason else mode.value
    if state.emergency:
        yield "EMERGENCY: less than half of the reserve is left"
    plan = state.plan
    if plan is None:
        yield _UNSEEN
        return
    yield counted(len(domains), "domain")
    at_work = [f"{name_of(action)} {subject_of(action)}" for action in state.at_work]
    if at_work:
        yield f"running: {_some(at_work)}"
    yield from _ordered(state, mode)
    resting = [incarnation.name for incarnation, each in domains.items() if each.rests]
    if resting:
        yield f"throttled: {_some(sorted(resting))}"
    faulty = [incarnation.name for incarnation, each in domains.items() if each.faulty]
    if faulty:
        yield f"left alone after an error: {_some(sorted(faulty))}"
    if _missing_bytes(state, plan.host) and not state.emergency:
        yield "the host is below its reserve"
    if state.policy.reclaim is ReclaimMode.OFF and why is None:
        yield "the policy says reclaim: off"
    if state.policy_refused:
        yield "the policy on disk is refused; the old one stays in force"


def _ordered(state: State, mode: Mode) -> Iterator[str]:
    """What it would do by its mode, and what it does for a waiting request."""
    if mode is Mode.OBSERVE and state.plan and state.plan.runnable:
        yield f"would: {_some([f'{name_of(a)} {subject_of(a)}' for a in state.plan.runnable])}"
    if state.frees:
        yield "frees memory for a reservation"


def _missing_bytes(state: State, host: HostPlan) -> int:
    """The bytes that the host is short of.

    A plan for a waiting request counts memory that is not reserved yet.
    """
    promised = min(host.reserved_bytes, sum(each.size_bytes for each in state.past.reservations))
    return max(0, host.reserve_bytes + promised - host.available_bytes)


def stopped_by(state: State, now: Monotonic) -> str | None:
    """What stops page-out, the daemon's mode first; None: nothing does."""
    plan = state.plan
    return state.mode_state.why_not(now) or (plan.stopped if plan else None)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def status_of(
    state: State,
    domains: Domains,
    clock: Clock,
    sentence: str,
    counted: Mapping[str, Any] | None = None,
) -> Callable[[], dict[str, Any]] | None:
    """A function that makes the status document of the present state, at any time and in any thread.

    None before the first reading. ``counted`` is what was done so far.
    """
    if state.snapshot is None:
        return None
    now, wall = clock.monotonic(), clock.now()
    mode, until = state.mode_state.mode(now), state.mode_state.paused_until
    ends_at = None
    if mode is Mode.PAUSED and until is not None and until < Monotonic(math.inf):
        ends_at = wall + (until - now)
    service = Service(
        pid=os.getpid(),
        mode=mode,
        tick=state.ticks,
        sentence=sentence,
        reason=state.mode_state.reason(now),
        until=ends_at,
        stopped=stopped_by(state, now),
        ticked_at=wall,
        planned_at=state.plan.created_at if state.plan else None,
        work=counted,
        swap_budget=_swap_budget(state.work.swap),
        policy_refused=state.policy_refused,
    )
    return functools.partial(
        status_document,
        state.snapshot,
        state.policy,
        state.past,
        state.generations,
        service=service,
        standings={incarnation: each.standing for incarnation, each in domains.items()},
    )


def _swap_budget(verdict: SwapVerdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "room_bytes": verdict.room_bytes,
        "bytes_per_second": verdict.bytes_per_second,
        "spent": verdict.spent,
    }
