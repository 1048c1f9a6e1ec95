"""Reservations that somebody waits for: the loop frees memory for one after the other, then promises it."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable

from overcommit.control import Control
from overcommit.daemon.controller import Controller
from overcommit.daemon.socket import Order
from overcommit.daemon.status import Mode, reservation_json
from overcommit.errors import HostError, Refused
from overcommit.host.memory import read_boot_id
from overcommit.model.facts import DomainFacts
from overcommit.model.history import RESERVE
from overcommit.model.outcome import Status
from overcommit.model.past import Reservation
from overcommit.model.plan import Plan
from overcommit.model.policy import ReclaimMode
from overcommit.plan.case import worthwhile
from overcommit.plan.obstacles import obstacles_of
from overcommit.plan.promises import missing_below, promised, require_below, require_possible
from overcommit.units import format_size

_MOST_WAITING = 8
_PROGRESS_SECONDS = 5.0


@dataclasses.dataclass(slots=True)
class _Wish:
    order: Order
    size_bytes: int
    purpose: str | None
    hold_seconds: float
    deadline: float
    available_before: int
    told_at: float = -math.inf


class Reserving:
    """Wishes in the order in which they came; the first one is worked for."""

    def __init__(self, control: Control, controller: Controller, *, publish: Callable[[], None]) -> None:
        self._control = control
        self._controller = controller
        self._publish = publish
        self._waiting: deque[_Wish] = deque()
        self._aimed_at: _Wish | None = None

    def ask(self, order: Order) -> None:
        """Take a wish in; it is answered when it is granted, cannot be, or its time is up."""
        if len(self._waiting) >= _MOST_WAITING:
            order.fail("too many reservations are waited for", "try again when one of them is granted")
            return
        if self._forbidden(order):
            return
        host, said = self._controller.host, order.arguments
        wish = _Wish(
            order=order,
            size_bytes=said["size_bytes"],
            purpose=said.get("purpose"),
            hold_seconds=said["hold_seconds"],
            deadline=self._control.clock.monotonic() + said["timeout_seconds"],
            available_before=host.mem_available_bytes if host else 0,
        )
        if self._hopeless(wish):
            return
        self._waiting.append(wish)
        self._aim()

    def after_tick(self) -> None:
        """Grant what is there by now, and give up what has waited for too long."""
        while self._waiting and self._settled(self._waiting[0]):
            self._waiting.popleft()
        self._aim()

    def close(self) -> None:
        """Nobody waits any longer."""
        for wish in self._waiting:
            wish.order.fail("overcommitd is stopping")
        self._waiting.clear()

    def _aim(self) -> None:
        """Have plans free what the first wish lacks, and a little more: what is cold comes in pieces."""
        first = self._waiting[0] if self._waiting else None
        missing = self._missing(first) if first else None
        self._controller.wanted, self._controller.wanted_for = None, None
        if first is None or missing is None:  # nobody knows yet whether it can be granted at all
            return
        more = max(missing // 2, worthwhile(0)) if missing else 0
        self._controller.wanted, self._controller.wanted_for = self._wanted(first, more), first.purpose
        if first is not self._aimed_at:
            self._aimed_at = first
            self._controller.replan_soon()

    def _wanted(self, wish: _Wish, more: int = 0) -> Reservation:
        held = 0
        for followed in self._controller.followed.values():
            if followed.domain.name == wish.purpose and followed.domain.residency:
                held += followed.domain.residency.resident_bytes
        size = max(0, wish.size_bytes - held) + more
        return Reservation(id=0, purpose=None, size_bytes=size, expires_at=math.inf)

    def _missing(self, wish: _Wish) -> int | None:
        """What is missing for the promise; None before there is a plan to tell by."""
        plan = self._controller.plan
        if plan is None:
            return None
        free = self._free_now(plan) - plan.host.reserve_bytes - self._promised()
        wanted = self._wanted(wish).size_bytes
        snapshot, denied = self._controller.snapshot, 0
        if snapshot is not None:
            denied, _ = missing_below(self._target(wish), snapshot.host, wanted)
        return max(0, wanted - free, denied)

    def _target(self, wish: _Wish) -> DomainFacts | None:
        """The domain that it is for, where it runs."""
        running = (followed.domain for followed in self._controller.followed.values())
        return next((domain for domain in running if domain.name == wish.purpose), None)

    def _promised(self) -> int:
        """What others were promised, also since the latest plan."""
        domains = [followed.domain for followed in self._controller.followed.values()]
        return promised(self._controller.past.reservations, domains, now=self._control.clock.now())

    def _free_now(self, plan: Plan) -> int:
        """What is free at this moment; where a slice bounds it, what the host has more is not the slice's."""
        host, snapshot, budget = self._controller.host, self._controller.snapshot, plan.host.budget
        if host is None or snapshot is None:
            return budget.free_now_bytes
        grown = host.mem_available_bytes - snapshot.host.mem_available_bytes
        return max(0, budget.free_now_bytes + (min(0, grown) if budget.limit is not None else grown))

    def _settled(self, wish: _Wish) -> bool:
        """Whether the wish was answered."""
        now = self._control.clock.monotonic()
        missing = self._missing(wish)
        if wish.order.gone or self._forbidden(wish.order):
            return True
        if missing == 0:
            self._grant(wish)
            return True
        if self._hopeless(wish):
            return True
        if now >= wish.deadline:
            self._refuse(wish, wish.size_bytes if missing is None else missing)
            return True
        if now - wish.told_at >= _PROGRESS_SECONDS:
            wish.told_at = now
            text = "looking" if missing is None else f"{format_size(missing)} are missing"
            why_not = self._controller.footing.why_not(now)
            sentence = f"{text}; {why_not}" if why_not else text
            wish.order.progress({"sentence": sentence, "missing_bytes": missing})
        return False

    def _forbidden(self, order: Order) -> bool:
        """Whether the policy in force forbids it, and the order was answered with that."""
        if self._controller.policy.reclaim is not ReclaimMode.OFF:
            return False
        order.fail("the policy says reclaim: off, and nothing is reserved under that")
        return True

    def _hopeless(self, wish: _Wish) -> bool:
        """Whether nothing that is done in its time could help, and the wish was answered with that.

        What is lost may be there again in time, and is waited for; an operator's order is not.
        """
        plan, missing = self._controller.plan, self._missing(wish)
        if plan is None or not missing:
            return False
        lacking, snapshot = self._wanted(wish).size_bytes, self._controller.snapshot
        try:
            if snapshot is not None:
                require_below(wish.size_bytes, self._target(wish), snapshot.host, lacking)
            require_possible(
                wish.size_bytes,
                lacking_bytes=lacking,
                host=plan.host,
                others_bytes=self._promised(),
            )
        except Refused as refusal:
            wish.order.fail(str(refusal), refusal.hint)
            return True
        if self._controller.footing.mode(self._control.clock.monotonic()) in {Mode.OBSERVE, Mode.PAUSED}:
            self._refuse(wish, missing)
            return True
        return False

    def _grant(self, wish: _Wish) -> None:
        """The promise is on disk, and in the status, before anybody hears of it."""
        now = self._control.clock.now()
        try:
            reservation = self._control.ledger.grant(
                wish.size_bytes,
                wish.purpose,
                now=now,
                expires_at=now + wish.hold_seconds,
                boot_id=read_boot_id(self._control.kernel),
            )
        except HostError as error:
            wish.order.fail(str(error), error.hint, exit_code=error.exit_code)
            return
        self._controller.look_back()
        self._controller.replan_soon()
        self._publish()
        freed = self._freed(wish)
        self._note(wish, Status.DONE, f"reservation {reservation.id}", freed)
        wish.order.reply(
            {"granted": True, "reservation": reservation_json(reservation), "freed_bytes": freed}
        )

    def _refuse(self, wish: _Wish, missing: int) -> None:
        freed = self._freed(wish)
        why_not = self._controller.footing.why_not(self._control.clock.monotonic())
        plan = self._controller.plan
        obstacles = [why_not] if why_not else list(obstacles_of(plan)) if plan else []
        status = Status.PARTIAL if freed else Status.FAILED
        self._note(wish, status, f"{format_size(missing)} were missing", freed)
        wish.order.reply(
            {
                "granted": False,
                "missing_bytes": missing,
                "freed_bytes": freed,
                "obstacles": obstacles,
                "changed": freed > 0,
            }
        )

    def _freed(self, wish: _Wish) -> int:
        """What the host has more than when the wish came."""
        host = self._controller.host
        return max(0, host.mem_available_bytes - wish.available_before) if host else 0

    def _note(self, wish: _Wish, status: Status, detail: str, freed: int) -> None:
        event = self._control.happened(
            RESERVE, status, detail, about=wish.purpose, expected_bytes=wish.size_bytes, freed_bytes=freed
        )
        self._control.ledger.note(event)
