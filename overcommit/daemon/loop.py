"""The loop: wait, take orders, continue actions, tick. It notifies the service manager after each tick."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

from overcommit import __version__
from overcommit.control.one_controller import Control
from overcommit.control.revoking import cancel, release
from overcommit.control.status import quarantine_json, reservation_json
from overcommit.daemon import pausing
from overcommit.daemon.changes import Changes
from overcommit.daemon.controller import Controller
from overcommit.daemon.minutes import Minutes
from overcommit.daemon.notify import ServiceManager
from overcommit.daemon.pausing import Pause
from overcommit.daemon.report import sentence_of, status_of
from overcommit.daemon.reserving import Reserving
from overcommit.daemon.state import TickRequest
from overcommit.daemon.tally import ThreadTimes, TickTally
from overcommit.daemon.wakes import Wakes
from overcommit.damon.sysfs import busy_deadline_of
from overcommit.errors import HostError, OvercommitError
from overcommit.hypervisor.port import Hypervisor
from overcommit.model import events
from overcommit.model.moments import Monotonic
from overcommit.model.plan import Plan
from overcommit.model.wake import Wake, WakeKind
from overcommit.plan import document
from overcommit.records.room import MOST_BYTES
from overcommit.units import format_duration
from overcommit.wire.clients import Document
from overcommit.wire.protocol import Verb
from overcommit.wire.server import Order

TICK_SECONDS = 5.0
_READING_SECONDS = 0.5
"""The interval of checks whether a policy has been read."""
_SOONEST_SECONDS = 1.0
"""The least time between two ticks, whatever wakes the loop."""
_DAMON_SECONDS = 2.0
"""The longest total wait of one round for a locked DAMON. Short guests wait that long."""
_NEWS = {
    WakeKind.LIFECYCLE,
    WakeKind.REBOOT,
    WakeKind.DEVICE,
    WakeKind.METADATA,
    WakeKind.CONNECTION,
    WakeKind.EMERGENCY,
}
"""Wakes that cause another plan. Others only cause a tick."""

_UNKEPT_PAUSE = "but only until a restart: the disk cannot record it"
_UNKEPT_RESUME = "but a restart may pause it again: the disk cannot record this"


class Server(Protocol):
    """What the loop needs of the control socket (`overcommit.wire.server.ControlServer`)."""

    def orders(self) -> Sequence[Order]:
        """The orders since the last call."""
        ...

    def publish(self, status: Document, plan: Document | None, sums: Document | None) -> None:
        """Answer with these documents from now on. ``sums`` is the plan for users who may not give orders.

        A document is made at a request, which may never come, or come in another thread.
        """
        ...

    def tend(self) -> str | None:
        """Why clients are not served; None: they are. See `ControlServer.tend`."""
        ...


class Loop:
    """Runs until a signal stops it."""

    def __init__(
        self,
        control: Control,
        controller: Controller,
        hypervisor: Hypervisor,
        wakes: Wakes,
        server: Server,
        manager: ServiceManager,
    ) -> None:
        self._control = control
        self._controller = controller
        self._wakes = wakes
        self._server = server
        self._manager = manager
        self._minutes: Minutes | None = None
        self._tell = control.log.tell
        self._changes = Changes(control.log.tell)
        self._reserving = Reserving(control, controller, hypervisor, publish=self._publish)
        self._sentence = ""
        self._ticked_at: Monotonic | None = None
        self._early = self._replan = self._show = self._reading = False
        self._planners: list[Order] = []
        self._unserved: str | None = None
        self._published: Plan | None = None
        self._ticks = TickTally()
        self._monitors = ThreadTimes(control.kernel)
        self._journal_bytes: int | None = None
        self._plan_texts: tuple[Document | None, Document | None] = (None, None)
        if pause := pausing.take_up(control.ledger, now=control.clock.now()):
            self._tell(events.paused(self._pause_for(pause), pause.uid, pause.seconds, still=True))

    def keep(self, minutes: Minutes) -> None:
        """Show every state to ``minutes`` from now on, which keeps figures of it."""
        self._minutes = minutes

    def run(self) -> None:
        """Run until a wake says stop.

        Raises:
            HostError: the worker has ended. A process with threads cannot start another one.
        """
        wakes = self._wakes.wait(0.0)
        if any(wake.kind is WakeKind.STOP for wake in wakes):
            return  # it came while all was put together, and nothing is begun any more
        state = self._controller.state
        mode = state.mode_state.mode(self._control.clock.monotonic()).value
        self._tell(events.started(__version__, state.policy.source, mode))
        self._take(wakes)
        self._tick()
        self._manager.ready(self._sentence)
        while self.go_round():
            pass
        self._manager.stopping("giving back")
        self._tell(events.stopping())
        self._reserving.close()

    def go_round(self) -> bool:
        """Wait for the next thing to do, and do it.

        Returns:
            Whether the loop goes on.

        Raises:
            HostError: see `run`.
        """
        wakes = self._wakes.wait(self._pause())
        if any(wake.kind is WakeKind.STOP for wake in wakes):
            return False
        if any(wake.kind is WakeKind.WORKER_ENDED for wake in wakes):
            raise HostError(
                "the process that does all DAMON I/O has died",
                hint="systemctl restart overcommitd; or, to put everything back: overcommitctl restore",
            )
        self._take(wakes)
        with busy_deadline_of(_DAMON_SECONDS):
            for order in self._server.orders():
                self._obey(order)
            self._controller.advance()
            if self._pause_to_tick() <= 0:
                self._tick()
        return True

    def _pause(self) -> float:
        """The seconds until the next tick, or until an action must be continued."""
        due = self._controller.due
        pause = self._pause_to_tick()
        if self._reading:
            pause = min(pause, _READING_SECONDS)
        if due is not None:
            pause = min(pause, due - self._control.clock.monotonic())
        return max(0.0, pause)

    def _pause_to_tick(self) -> float:
        if self._ticked_at is None:
            return 0.0
        wanted = _SOONEST_SECONDS if self._early else TICK_SECONDS
        return self._ticked_at + wanted - self._control.clock.monotonic()

    def _take(self, wakes: Sequence[Wake]) -> None:
        for wake in wakes:
            if wake.kind is WakeKind.POKE:
                continue
            self._early = True
            if wake.kind is WakeKind.RELOAD:
                self._begin_reading()
            if wake.kind is WakeKind.EMERGENCY:
                self._controller.stalled()
            self._replan |= wake.kind in _NEWS

    def _obey(self, order: Order) -> None:
        controller, now = self._controller, self._control.clock.monotonic()
        match order.verb:
            case Verb.PAUSE:
                pause = Pause(order.arguments.get("seconds"), order.peer.uid)
                how = self._pause_for(pause)
                kept = pausing.keep(self._control.ledger, pause, now=self._control.clock.now())
                self._tell(events.paused(how, pause.uid, pause.seconds))
                self._publish()
                order.reply({"sentence": how if kept else f"{how}; {_UNKEPT_PAUSE}"})
            case Verb.RESUME:
                controller.resume()
                kept = pausing.end(self._control.ledger)
                self._tell(events.resumed(order.peer.uid))
                self._replan = self._early = True
                self._publish()
                mode = controller.state.mode_state.mode(now).value
                order.reply({"sentence": mode if kept else f"{mode}; {_UNKEPT_RESUME}"})
            case Verb.RESERVE:
                self._reserving.ask(order)
                self._early = True
            case Verb.CANCEL | Verb.RELEASE:
                self._revoke(order)
            case Verb.TICK if controller.has_fresh_plan:
                order.reply({"sentence": self._sentence})
            case Verb.TICK:
                self._show = self._early = True
                self._planners.append(order)
            case Verb.STATUS | Verb.PLAN:
                order.fail(f"{order.verb.value} is no order")

    def _pause_for(self, pause: Pause) -> str:
        """Take nothing from now on. Returns a text with the duration."""
        now = self._control.clock.monotonic()
        until = None if pause.seconds is None else now + pause.seconds
        self._controller.pause(until)
        return "paused until resumed" if until is None else f"paused for {format_duration(until - now)}"

    def _revoke(self, order: Order) -> None:
        """End the reservation or quarantine of the order. The next status no longer has it."""
        answer: Mapping[str, object]
        uid = order.peer.uid
        try:
            if order.verb is Verb.CANCEL:
                reservation = cancel(self._control, order.arguments["id"])
                answer = {"reservation": reservation_json(reservation)}
                told = events.reservation_cancelled(reservation.id, uid)
            else:
                domain = order.arguments["domain"]
                ended = release(self._control, domain)
                answer = {"released": [quarantine_json(quarantine) for quarantine in ended]}
                told = events.quarantine_released(domain, uid, ended)
            self._controller.look_back()
        except OvercommitError as error:
            order.fail(str(error), error.hint, exit_code=error.exit_code)
            return
        self._tell(told)
        self._controller.replan_soon()
        self._early = True
        self._publish()
        order.reply(answer)

    def _begin_reading(self) -> None:
        self._manager.reloading()
        self._controller.read_policy()
        self._reading = True

    def _tick(self) -> None:
        read = self._reading and self._controller.policy_is_read()
        replan, show = self._replan or read, self._show
        self._early = self._replan = self._show = False
        self._ticked_at = self._control.clock.monotonic()
        before = self._controller.state.plan
        self._controller.tick(TickRequest(replan=replan, show=show, new_policy=read))
        self._count(self._control.clock.monotonic() - self._ticked_at, before)
        self._reserving.after_tick()
        self._publish()
        if read:
            self._reading = False
            self._manager.ready(self._sentence)
        for order in self._planners:
            order.reply({"sentence": self._sentence})
        self._planners.clear()
        unserved = self._server.tend()
        if unserved is None:
            self._manager.alive(self._sentence)
        elif unserved != self._unserved:
            # The watchdog gets no keep-alive, so systemd restarts the daemon. Nothing else can help.
            self._tell(events.socket_silent(unserved))
        self._unserved = unserved
        self._control.log.tend()

    def _count(self, seconds: float, before: Plan | None) -> None:
        """Count a tick. Costly figures are read after each plan, which is once a minute."""
        state = self._controller.state
        planned = state.plan is not before
        self._ticks.add(seconds, planned=planned)
        if planned or self._journal_bytes is None:
            self._journal_bytes = self._control.journal.held_bytes
            self._monitors.read(state.work.monitor_threads)

    def _publish(self) -> None:
        state, domains = self._controller.state, self._controller.domain_states()
        now = self._control.clock.monotonic()
        self._sentence = sentence = sentence_of(state, domains, now)
        self._changes.look(state, domains, now)
        if self._minutes is not None:
            self._minutes.look(state, domains)
        work = {
            "ticks": self._ticks.document,
            "actions": state.work.actions,
            "monitors_cpu_seconds": self._monitors.seconds,
            "journal_bytes": self._journal_bytes,
            "journal_most_bytes": MOST_BYTES,
        }
        status = status_of(state, domains, self._control.clock, sentence, work)
        if status is not None:
            plan = state.plan
            if plan is not None and plan is not self._published:
                self._published = plan
                self._plan_texts = (lambda: _text(plan)), (lambda: _text(plan.without_addresses()))
            self._server.publish(lambda: json.dumps(status()).encode(), *self._plan_texts)


def _text(plan: Plan) -> bytes:
    """A plan in one line. Whoever asks indents it; json is ten times as fast without."""
    return json.dumps(document.to_document(plan)).encode()
