"""Waiting reservation requests: the loop frees memory for one after the other, then grants it."""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Callable, Sequence

from overcommit.control.one_controller import Control
from overcommit.control.promising import Freed, grant, note_refusal, refusal_text
from overcommit.control.status import Mode, reservation_json
from overcommit.daemon.controller import Controller
from overcommit.daemon.jobs import Ended
from overcommit.daemon.state import NOTHING_WANTED, Want
from overcommit.errors import HostError, Refused, Unreadable
from overcommit.host.nodes import read_nodes
from overcommit.hypervisor.guest_figures import read_defined
from overcommit.hypervisor.port import Hypervisor
from overcommit.model import events
from overcommit.model.facts import Definition, HostFacts, Snapshot
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import Outcome
from overcommit.plan.obstacles import obstacles_of
from overcommit.plan.promises import Beside, Standing, Wish, more_than, promised, require_allowed, standing
from overcommit.units import format_size
from overcommit.wire.server import Order

_NEVER = Monotonic(math.inf)
_LONG_AGO = Monotonic(-math.inf)
_MOST_WAITING = 8
_PROGRESS_SECONDS = 5.0
_LAST_SECONDS = 240.0
"""How long actions that were started in time may run after the request's timeout."""
_GONE = "the client has disconnected"
_STOPPING = "overcommitd is stopping"


@dataclasses.dataclass(slots=True)
class _Waiting:
    """A waiting request. Actions that were started from ``aimed_at`` (monotonic) on are for it."""

    order: Order
    wish: Wish
    hold_seconds: float
    deadline: Monotonic
    aimed_at: Monotonic = _NEVER
    told_at: Monotonic = _LONG_AGO
    outcomes: list[Outcome] = dataclasses.field(default_factory=list)
    lost: bool = False

    @property
    def freed(self) -> Freed:
        return Freed(outcomes=tuple(self.outcomes), lost=self.lost)


class Reserving:
    """Requests in the order of their arrival. The first one is worked on."""

    def __init__(
        self,
        control: Control,
        controller: Controller,
        hypervisor: Hypervisor,
        *,
        publish: Callable[[], None],
    ) -> None:
        self._control = control
        self._controller = controller
        self._hypervisor = hypervisor
        self._publish = publish
        self._defined: dict[str, Definition | None] = {}
        self._waiting: deque[_Waiting] = deque()
        controller.tell_ends_to(self._heard)

    def ask(self, order: Order) -> None:
        """Take a request. It is answered when it is granted, cannot be granted, or its time is over."""
        if len(self._waiting) >= _MOST_WAITING:
            order.fail("too many reservations are waiting", "try again when one of them has ended")
            return
        said = order.arguments
        waiting = _Waiting(
            order=order,
            wish=Wish(size_bytes=said["size_bytes"], purpose=said.get("purpose")),
            hold_seconds=said["hold_seconds"],
            deadline=self._control.clock.monotonic() + said["timeout_seconds"],
        )
        try:
            self._look_up(waiting)
        except Unreadable as error:
            order.fail(str(error), error.hint, exit_code=error.exit_code)
            return
        except HostError:
            pass  # libvirt may answer again in time, as with the plan
        if self._hopeless(waiting, self._standing(waiting)):
            return
        self._waiting.append(waiting)
        self._aim()

    def after_tick(self) -> None:
        """Grant what is available now, and give up requests whose time is over."""
        while self._waiting and self._decided(self._waiting[0]):
            self._waiting.popleft()
        if not self._waiting:
            self._defined = {}
        self._aim()

    def close(self) -> None:
        """End all waiting requests."""
        for waiting in self._waiting:
            waiting.order.fail(_STOPPING)
            self._note_end(waiting, _STOPPING)
        self._waiting.clear()

    def _heard(self, ended: Ended) -> None:
        """Record the result of an action that was started for the first request."""
        first = self._waiting[0] if self._waiting else None
        if first is None or ended.gives or ended.begun_at < first.aimed_at:
            return
        if ended.outcome is None:
            first.lost = True
        else:
            first.outcomes.append(ended.outcome)

    def _aim(self) -> None:
        """Let plans free what the first request lacks, and a little more."""
        first = self._waiting[0] if self._waiting else None
        standing = self._standing(first) if first else None
        if first is None or standing is None:  # nobody knows yet whether it can be granted at all
            self._controller.want(NOTHING_WANTED)
            return
        now = self._control.clock.monotonic()
        if now >= first.deadline:
            self._controller.want(Want(purpose=first.wish.purpose, reservation=None))
            return
        size = standing.wanted.size_bytes + more_than(standing.missing_bytes)
        reservation = dataclasses.replace(standing.wanted, size_bytes=size)
        self._controller.want(Want(purpose=first.wish.purpose, reservation=reservation))
        if first.aimed_at > now:
            first.aimed_at = now
            self._controller.replan_soon()

    def _standing(self, waiting: _Waiting) -> Standing | None:
        """What the request lacks, by the present free memory; None before the first plan.

        Where a slice bounds free memory, memory of the host outside of the slice does not count.
        """
        state = self._controller.state
        plan, host, snapshot = state.plan, state.host, state.snapshot
        if plan is None or snapshot is None:
            return None
        budget = plan.host.budget
        grown = host.mem_available_bytes - snapshot.host.mem_available_bytes if host else 0
        if budget.limit is not None:
            grown = min(0, grown)
        now = dataclasses.replace(
            plan.host,
            available_bytes=max(0, plan.host.available_bytes + grown),
            reserved_bytes=promised(  # also since the latest plan
                state.past.reservations, snapshot.domains, now=self._control.clock.now()
            ),
            budget=dataclasses.replace(budget, free_now_bytes=max(0, budget.free_now_bytes + grown)),
        )
        try:
            self._look_up(waiting)
        except HostError:
            return None
        reservations = state.past.reservations
        defined = {name: found for name, found in self._defined.items() if found is not None}
        beside = Beside(reservations=reservations, defined=defined)
        return standing(waiting.wish, now, self._now(snapshot, host), beside)

    def _look_up(self, waiting: _Waiting) -> None:
        """Read the definitions of domains that affect a request, each once."""
        names = Beside.names(waiting.wish, self._controller.state.past.reservations) - self._defined.keys()
        found = read_defined(self._hypervisor, sorted(names))
        self._defined |= {name: found.get(name) for name in names}

    def _now(self, snapshot: Snapshot, latest: HostFacts | None) -> Snapshot:
        """The snapshot with the present memory of each node."""
        if not snapshot.host.nodes:
            return snapshot
        nodes, _ = read_nodes(self._control.kernel)
        host = dataclasses.replace(snapshot.host, nodes=nodes)
        if latest is not None:
            host = dataclasses.replace(host, mem_available_bytes=latest.mem_available_bytes)
        return dataclasses.replace(snapshot, host=host)

    def _decided(self, waiting: _Waiting) -> bool:
        """Whether the request was answered."""
        now, standing = self._control.clock.monotonic(), self._standing(waiting)
        if waiting.order.gone:
            self._note_end(waiting, _GONE)
            return True
        if self._hopeless(waiting, standing):
            return True
        if standing is not None and not standing.missing_bytes:
            self._grant(waiting)
            return True
        if now >= waiting.deadline and not self._may_still_end(waiting, now):
            self._refuse(waiting, standing, self._obstacles(now))
            return True
        if now - waiting.told_at >= _PROGRESS_SECONDS:
            waiting.told_at = now
            missing = None if standing is None else standing.missing_bytes
            text = "looking" if missing is None else f"{format_size(missing)} are missing"
            why_not = self._controller.state.mode_state.why_not(now)
            sentence = f"{text}; {why_not}" if why_not else text
            waiting.order.progress({"sentence": sentence, "missing_bytes": missing})
        return False

    def _may_still_end(self, waiting: _Waiting, now: Monotonic) -> bool:
        """Whether an action that was started for it in time is still running."""
        return now < waiting.deadline + _LAST_SECONDS and self._controller.takes_since(waiting.aimed_at)

    def _hopeless(self, waiting: _Waiting, standing: Standing | None) -> bool:
        """Whether nothing that is possible in its time could help, and the request was refused for that.

        A loss may end in time, and is waited for. An operator's order is not.
        """
        try:
            require_allowed(self._controller.state.policy)
            if standing is None or not standing.missing_bytes:
                return False
            if standing.refusal is not None:
                raise standing.refusal
        except Refused as refusal:
            if self._changed(waiting).changed:
                self._refuse(waiting, standing, [str(refusal)])
            else:
                waiting.order.fail(str(refusal), refusal.hint)
            return True
        now = self._control.clock.monotonic()
        if self._controller.state.mode_state.mode(now) in {Mode.OBSERVE, Mode.PAUSED}:
            self._refuse(waiting, standing, self._obstacles(now))
            return True
        return False

    def _grant(self, waiting: _Waiting) -> None:
        """Grant it. The reservation is on disk and in the status before anybody is told."""
        try:
            reservation = grant(self._control, waiting.wish, waiting.hold_seconds, waiting.freed)
        except HostError as error:
            waiting.order.fail(str(error), error.hint, exit_code=error.exit_code)
            return
        self._controller.look_back()
        self._controller.replan_soon()
        self._control.log.tell(
            events.reservation_granted(reservation.id, reservation.size_bytes, reservation.purpose)
        )
        self._publish()
        waiting.order.reply(
            {
                "granted": True,
                "reservation": reservation_json(reservation),
                "freed_bytes": waiting.freed.bytes,
            }
        )

    def _obstacles(self, now: Monotonic) -> list[str]:
        state = self._controller.state
        plan, why_not = state.plan, state.mode_state.why_not(now)
        return [why_not] if why_not else list(obstacles_of(plan)) if plan else []

    def _refuse(self, waiting: _Waiting, standing: Standing | None, obstacles: Sequence[str]) -> None:
        self._note_refusal(waiting, standing, obstacles)
        waiting.order.reply(
            {
                "granted": False,
                "missing_bytes": waiting.wish.size_bytes if standing is None else standing.missing_bytes,
                "freed_bytes": waiting.freed.bytes,
                "obstacles": list(obstacles),
                "changed": self._changed(waiting).changed,
            }
        )

    def _note_end(self, waiting: _Waiting, why: str) -> None:
        """Record that the request has ended. A request that was never worked on is not recorded."""
        if waiting.aimed_at < _NEVER:
            self._note_refusal(waiting, self._standing(waiting), [why])

    def _note_refusal(self, waiting: _Waiting, standing: Standing | None, obstacles: Sequence[str]) -> None:
        missing = None if standing is None else standing.missing_bytes
        wish = waiting.wish
        note_refusal(self._control, wish, missing, self._changed(waiting), obstacles)
        why = "; ".join((refusal_text(wish, missing), *obstacles))
        self._control.log.tell(events.reservation_refused(wish.size_bytes, wish.purpose, why))

    def _changed(self, waiting: _Waiting) -> Freed:
        """What was freed. A running action may have changed something that is not known yet."""
        at_work = self._controller.takes_since(waiting.aimed_at)
        return dataclasses.replace(waiting.freed, lost=waiting.lost or at_work)
