"""Starts, continues, stops and records the actions of plans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from overcommit.apply.context import ApplyContext
from overcommit.apply.execute import MOST_AT_ONCE, carry_out_one, needs_slot
from overcommit.apply.routines import Routine
from overcommit.control.one_controller import Control
from overcommit.daemon.faults import Boundary
from overcommit.daemon.jobs import Ended, Jobs
from overcommit.daemon.tally import ActionTally
from overcommit.daemon.watching import Watching
from overcommit.hypervisor.port import Hypervisor
from overcommit.model import events
from overcommit.model.action import (
    Action,
    BalloonAction,
    DomainAction,
    KsmAction,
    PageoutAction,
    VirtioMemAction,
)
from overcommit.model.facts import DomainFacts, Incarnation
from overcommit.model.log_event import LogEvent
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import Outcome
from overcommit.model.part import MemoryPart
from overcommit.model.past import Past
from overcommit.model.plan import Plan
from overcommit.plan.swap_budget import Grant
from overcommit.records.journal import Generation
from overcommit.units import MIB, format_size


def domain_of(action: Action) -> Incarnation | None:
    """The domain of an action; None: it is the host's."""
    return None if isinstance(action, KsmAction) else action.domain


def gives(action: Action) -> bool:
    """Whether an action gives a guest memory."""
    return isinstance(action, VirtioMemAction | BalloonAction) and action.relieves


class Acting:
    """The running actions. ``ended`` is called for each that has ended."""

    def __init__(
        self,
        control: Control,
        hypervisor: Hypervisor,
        generation: Generation,
        watching: Watching,
        *,
        ended: Callable[[Ended], None],
    ) -> None:
        self._control = control
        self._hypervisor = hypervisor
        self._generation = generation
        self._watching = watching
        self._tell = ended
        self._jobs = Jobs(control.clock)
        self.tally = ActionTally()

    @property
    def due(self) -> Monotonic | None:
        """When (monotonic) the next action must be continued; None: none."""
        return self._jobs.due

    @property
    def in_slots(self) -> bool:
        """Whether a kdamond runs for one of them."""
        return self._jobs.in_slots

    def of(self, incarnation: Incarnation) -> Action | None:
        """The running action on a domain; None: none."""
        return self._jobs.of(incarnation)

    @property
    def actions(self) -> tuple[Action, ...]:
        """All running actions."""
        return self._jobs.actions

    def takes_from(self, incarnation: Incarnation) -> bool:
        """Whether a running action takes memory from a domain."""
        return self._jobs.takes_from(incarnation)

    def takes_since(self, at: Monotonic) -> bool:
        """Whether a running action that was started at that time (monotonic) or later takes memory."""
        return self._jobs.takes_since(at)

    def advance(self) -> None:
        """Continue the actions that are due."""
        for ended in self._jobs.advance():
            self._ended(ended)

    def carry_out(
        self,
        plan: Plan,
        domains: Mapping[Incarnation, DomainFacts],
        boundary: Boundary,
        *,
        may_give: Callable[[], bool],
        may_take: Callable[[Action], bool],
        too_far: Callable[[Action], str | None],
    ) -> None:
        """Start the actions of a plan, as far as there is room.

        ``too_far`` says why an action must not start. It checks all domains, and so is called only for
        actions that would start: there may be as many actions as domains.
        """
        for action in plan.runnable:
            incarnation = domain_of(action)
            domain = domains[incarnation] if incarnation else None
            with boundary.around(incarnation):
                if gives(action):
                    if may_give():
                        self.relieve(action, domain)
                elif self.may_take(action) and may_take(action):
                    if why := too_far(action):
                        self._control.log.tell(events.action_held(action, why))
                    else:
                        self._begin(action, domain, giving=False)

    def may_take(self, action: Action) -> bool:
        """Whether an action that takes memory may start: none runs on its domain, and few on others."""
        at_work = self._jobs.of(domain_of(action))
        return self.room > 0 and at_work is None and (self._watching.can_lend or not needs_slot(action))

    def take(self, action: Action, domain: DomainFacts | None) -> None:
        """Start an action that takes memory, if it may start."""
        if self.may_take(action):
            self._begin(action, domain, giving=False)

    def relieve(self, action: Action, domain: DomainFacts | None) -> None:
        """Start an action that gives memory. An action that takes from the same domain is stopped for it."""
        self.stop(domain.incarnation if domain else None, "the guest gets memory")
        self._begin(action, domain, giving=True)

    def give_back(self, past: Past, domains: Mapping[Incarnation, DomainFacts], because: str) -> None:
        """Start to return guests to their original sizes."""
        for action, domain in _give_back(past, domains, because):
            self.relieve(action, domain)

    def end_claims(self, past: Past, domains: Iterable[DomainFacts]) -> None:
        """Set the size of guests that have a claim and all that it says, so that they keep it.

        Their last target cannot be read. A guest that was reset, or could not give, might still follow it.
        """
        for domain in domains:
            incarnation, stats = domain.incarnation, domain.balloon
            had = domain.definition.claim.get(MemoryPart(incarnation).what)
            if (
                had is None
                or stats is None
                or self.of(incarnation) is not None
                or past.taken_from(incarnation) > MIB
            ):
                continue
            if had - MIB <= stats.actual_bytes <= had + MIB:
                because = f"it has {format_size(had)} again"
                self.relieve(_to_size(incarnation, had - MIB, had, because), domain)

    def stop(self, incarnation: Incarnation | None, because: str) -> None:
        """Stop the action that takes from a domain, in an orderly way, now."""
        ended = self._jobs.stop(incarnation, because)
        if ended is not None:
            self._ended(ended)

    @property
    def room(self) -> int:
        """How many more actions that take memory may run."""
        return MOST_AT_ONCE - self._jobs.taking

    @property
    def granted(self) -> Grant:
        """What running page-outs may still put into swap, and how fast."""
        page_outs = [action for action in self._jobs.actions if isinstance(action, PageoutAction)]
        return Grant(
            room_bytes=sum(action.expected_bytes for action in page_outs),
            bytes_per_second=sum(action.max_bytes_per_second for action in page_outs),
            each={action.domain.uuid: action.expected_bytes for action in page_outs},
        )

    def stop_page_outs(self, because: str) -> None:
        """Stop all actions that write to swap."""
        for action in self._jobs.actions:
            if isinstance(action, PageoutAction):
                self.stop(action.domain, because)

    def stop_all(self, because: str) -> None:
        """Stop all actions that take memory."""
        for ended in list(self._jobs.stop_all(because)):
            self._ended(ended)

    def close(self, because: str) -> None:
        """Stop all actions: those that take in an orderly way, those that give where they are."""
        self.stop_all(because)
        self._jobs.close()

    def _begin(self, action: Action, domain: DomainFacts | None, *, giving: bool) -> None:
        slot = None
        if self._jobs.of(domain.incarnation if domain else None) is not None:
            return
        if needs_slot(action):
            slot = self._watching.borrow()
            if slot is None:
                return

        def start(stop_because: Callable[[], str | None]) -> Routine[Outcome]:
            context = ApplyContext(
                kernel=self._control.kernel,
                hypervisor=self._hypervisor,
                clock=self._control.clock,
                generation=self._generation,
                progress=_no_log,
                stop_because=stop_because,
            )
            return carry_out_one(context, self._watching.pool, action, domain, slot=slot or 0)

        self._control.log.tell(events.action_started(action))
        self._jobs.begin(action, start, slot=slot, gives=giving)
        self.advance()

    def _ended(self, ended: Ended) -> None:
        self.tally.add(ended)
        if ended.slot is not None:
            self._watching.give_back(ended.slot)
        self._control.log.tell(_event_of(ended))
        self._tell(ended)


def _give_back(
    past: Past, domains: Mapping[Incarnation, DomainFacts], because: str
) -> Iterator[tuple[DomainAction, DomainFacts]]:
    """The actions that return memory, for the domains that can be reached."""
    for left in past.balloons:
        domain = domains.get(left.domain)
        if domain and domain.balloon and domain.balloon.actual_bytes < left.baseline_bytes:
            actual = domain.balloon.actual_bytes
            yield _to_size(left.domain, actual, left.baseline_bytes, because), domain
    for blocks in past.devices:
        domain = domains.get(blocks.domain)
        device = domain.definition.device(blocks.part.device) if domain else None
        if domain and device and device.requested_bytes < blocks.baseline_bytes:
            yield (
                VirtioMemAction(
                    id="",
                    domain=blocks.domain,
                    device=device.alias,
                    block_bytes=device.block_bytes,
                    before_bytes=device.requested_bytes,
                    after_bytes=blocks.baseline_bytes,
                    expected_bytes=0,
                    reason="released",
                    because=because,
                    risk=_RISK,
                ),
                domain,
            )


def _to_size(incarnation: Incarnation, before: int, after: int, because: str) -> BalloonAction:
    return BalloonAction(
        id="",
        domain=incarnation,
        before_bytes=before,
        after_bytes=after,
        expected_bytes=0,
        reason="released",
        because=because,
        risk=_RISK,
    )


_RISK = "the host must have this much memory free"


def _event_of(ended: Ended) -> LogEvent:
    if ended.outcome is not None and ended.error is None:
        return events.action_ended(ended.outcome)(ended.outcome)
    return events.action_interrupted(ended.action, str(ended.error or "left where it was"))


def _no_log(_sentence: str) -> None:
    """Progress is not logged."""
