"""What is done of plans: begun, gone on with, told to end, and remembered."""

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
from overcommit.model.outcome import Outcome
from overcommit.model.part import MemoryPart
from overcommit.model.past import Past
from overcommit.model.plan import Plan
from overcommit.plan.swap_budget import Grant
from overcommit.records.journal import Generation
from overcommit.units import MIB, format_size


def domain_of(action: Action) -> Incarnation | None:
    """The domain that an action is about; None: it is the host's."""
    return None if isinstance(action, KsmAction) else action.domain


def gives(action: Action) -> bool:
    """Whether an action gives a guest memory."""
    return isinstance(action, VirtioMemAction | BalloonAction) and action.relieves


class Acting:
    """The actions at work. ``ended`` is called for each that is over."""

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
    def due(self) -> float | None:
        """When (monotonic) something wants to go on."""
        return self._jobs.due

    @property
    def in_slots(self) -> bool:
        """Whether a kdamond works for one of them."""
        return self._jobs.in_slots

    def of(self, incarnation: Incarnation) -> Action | None:
        """What is at work on a domain."""
        return self._jobs.of(incarnation)

    @property
    def actions(self) -> tuple[Action, ...]:
        """All that is at work."""
        return self._jobs.actions

    def takes_from(self, incarnation: Incarnation) -> bool:
        """Whether something takes memory from a domain now."""
        return self._jobs.takes_from(incarnation)

    def takes_since(self, at: float) -> bool:
        """Whether something takes memory that was begun at that time (monotonic) or later."""
        return self._jobs.takes_since(at)

    def advance(self) -> None:
        """Go on with what is due."""
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
        """Begin what a plan says, as far as there is room.

        ``too_far`` says why an action must not be begun. It looks at all domains, and is asked only of what
        would be begun: there may be as many actions as domains.
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
        """Whether nothing is at work there, nor enough elsewhere, for an action that takes to be begun."""
        at_work = self._jobs.of(domain_of(action))
        return self.room > 0 and at_work is None and (self._watching.can_lend or not needs_slot(action))

    def take(self, action: Action, domain: DomainFacts | None) -> None:
        """Begin an action that takes, if it may be."""
        if self.may_take(action):
            self._begin(action, domain, giving=False)

    def relieve(self, action: Action, domain: DomainFacts | None) -> None:
        """Begin an action that gives; what takes from that domain ends for it."""
        self.stop(domain.incarnation if domain else None, "the guest gets memory")
        self._begin(action, domain, giving=True)

    def give_back(self, past: Past, domains: Mapping[Incarnation, DomainFacts], because: str) -> None:
        """Begin to bring guests back to the size they had before us."""
        for action, domain in _give_back(past, domains, because):
            self.relieve(action, domain)

    def end_claims(self, past: Past, domains: Iterable[DomainFacts]) -> None:
        """Have guests that carry a claim, and have all that it says, be told to keep it.

        What such a one was told last nobody can read: one that was reset, or could not give, would yet.
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
        """End what takes from a domain, orderly and now."""
        ended = self._jobs.stop(incarnation, because)
        if ended is not None:
            self._ended(ended)

    @property
    def room(self) -> int:
        """How many more may take memory at a time."""
        return MOST_AT_ONCE - self._jobs.taking

    @property
    def granted(self) -> Grant:
        """What page-outs at work may still put into swap, and how fast."""
        page_outs = [action for action in self._jobs.actions if isinstance(action, PageoutAction)]
        return Grant(
            room_bytes=sum(action.expected_bytes for action in page_outs),
            bytes_per_second=sum(action.max_bytes_per_second for action in page_outs),
            each={action.domain.uuid: action.expected_bytes for action in page_outs},
        )

    def stop_page_outs(self, because: str) -> None:
        """End all that writes to swap."""
        for action in self._jobs.actions:
            if isinstance(action, PageoutAction):
                self.stop(action.domain, because)

    def stop_all(self, because: str) -> None:
        """End all that takes."""
        for ended in list(self._jobs.stop_all(because)):
            self._ended(ended)

    def close(self, because: str) -> None:
        """End everything: what takes orderly, what gives where it is."""
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
    """What does, for those that can be reached."""
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
    """Progress is of no interest to a log."""
