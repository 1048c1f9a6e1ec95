"""One tick: read, judge, plan, start actions. Level-triggered: no decision depends on an event.

Most ticks are cheap: the host's account, each domain's counters, and the monitors' windows. Everything is
read and planned anew every minute, and at once when the host or a guest is short, or an action has ended.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping

from overcommit.control.one_controller import Control
from overcommit.control.planning import Decision, complete, decide
from overcommit.daemon.accounting import Accounting
from overcommit.daemon.acting import Acting, domain_of
from overcommit.daemon.collecting import collect_for
from overcommit.daemon.faults import Boundary
from overcommit.daemon.jobs import Ended
from overcommit.daemon.judging import Terms, emergency_now, evidence_of, is_short, knows_cold_now, paged_out
from overcommit.daemon.learning import Learning
from overcommit.daemon.losses import Losses
from overcommit.daemon.mode_state import Loss, ModeState
from overcommit.daemon.pageout_backoff import PageoutBackoff
from overcommit.daemon.policy_file import PolicyFile
from overcommit.daemon.standings import domain_states
from overcommit.daemon.state import LOOK_ONLY, NOTHING_WANTED, DomainState, State, TickRequest, Want
from overcommit.daemon.tick_reading import read_for_tick
from overcommit.daemon.timetable import PLAN_SECONDS, Timetable
from overcommit.daemon.tracked_domain import TrackedDomain
from overcommit.daemon.watching import Watching
from overcommit.daemon.working import work_of
from overcommit.errors import Busy, HostError, JournalFailed, OvercommitError
from overcommit.hypervisor.port import Hypervisor
from overcommit.hypervisor.surveying import Survey
from overcommit.model import events
from overcommit.model.action import Action
from overcommit.model.facts import HostFacts, Incarnation, Snapshot
from overcommit.model.moments import Monotonic
from overcommit.model.past import NOTHING_PAST, Past
from overcommit.model.plan import Plan
from overcommit.model.policy import Policy
from overcommit.model.restraint import GUEST_REBOOTS
from overcommit.observe.facts import observe
from overcommit.records.journal import Generation, GenerationSummary


class Controller:
    """The state between ticks. It ends with the process. What must outlive that is in the journal."""

    def __init__(
        self,
        control: Control,
        hypervisor: Hypervisor,
        generation: Generation,
        policy_file: PolicyFile,
        *,
        mode_state: ModeState,
        take_over: bool,
    ) -> None:
        self._control = control
        self._hypervisor = hypervisor
        self._generation = generation
        self._policy_file = policy_file
        self._past: Past = NOTHING_PAST
        self._decision: Decision | None = None
        self._past_known = False
        self._timetable = Timetable()
        self._release_at = Monotonic(-math.inf)
        self._observed = True
        self._accounting = Accounting(control)
        self._learning = Learning(control)
        self._survey = Survey(hypervisor, control.clock)
        self._watching = Watching(control, self._survey, generation, take_over=take_over)
        self._acting = Acting(control, hypervisor, generation, self._watching, ended=self._ended)
        self._boundary = Boundary(control.clock, control.log.tell)
        self._losses = Losses(control, generation, mode_state, stop=self._acting.stop_all)
        self._tracked: dict[Incarnation, TrackedDomain] = {}
        self._host: HostFacts | None = None
        self._ticks = 0
        self._emergency = False
        self._want = NOTHING_WANTED
        self._listener: Callable[[Ended], None] = lambda _ended: None
        self._snapshot: Snapshot | None = None
        self._generations: tuple[GenerationSummary, ...] = ()
        self._stalled = False
        self._backoff = PageoutBackoff()

    @property
    def state(self) -> State:
        """The present state."""
        return State(
            ticks=self._ticks,
            mode_state=self._losses.mode_state,
            policy=self._policy,
            policy_refused=self._policy_file.refused,
            host=self._host,
            snapshot=self._snapshot,
            plan=self._plan,
            past=self._past,
            generations=self._generations,
            emergency=self._emergency,
            frees=self._want.reservation is not None,
            at_work=self._acting.actions,
            work=work_of(self._accounting, self._acting, self._watching, self._policy),
        )

    def domain_states(self) -> Mapping[Incarnation, DomainState]:
        """The present state of each domain."""
        return domain_states(self._tracked, self._boundary, self._acting, self._past, self._plan)

    @property
    def _policy(self) -> Policy:
        return self._policy_file.policy

    @property
    def _plan(self) -> Plan | None:
        return self._decision.plan if self._decision else None

    def pause(self, until: Monotonic | None) -> None:
        """Take nothing until that time (monotonic); None: until `resume`."""
        self._losses.pause(until)

    def resume(self) -> None:
        """End a pause."""
        self._losses.resume()

    def want(self, want: Want) -> None:
        """Let plans free memory for a waiting request, from the next plan on."""
        self._want = want

    def tell_ends_to(self, listener: Callable[[Ended], None]) -> None:
        """Call ``listener`` for each action that has ended."""
        self._listener = listener

    def read_policy(self) -> None:
        """Start to read the policy again; see `policy_is_read`."""
        self._policy_file.begin()

    def policy_is_read(self) -> bool:
        """Whether the new policy is ready, so that a tick that asks for it does not wait."""
        return self._policy_file.ready()

    @property
    def due(self) -> Monotonic | None:
        """When (monotonic) the next action must be continued; None: none."""
        return self._acting.due

    def takes_since(self, at: Monotonic) -> bool:
        """Whether a running action that was started at that time (monotonic) or later takes memory."""
        return self._acting.takes_since(at)

    def tick(self, request: TickRequest = LOOK_ONLY) -> None:
        """Run one tick. A failure is in the mode state, and tried again in the next tick."""
        self._ticks += 1
        now = self._control.clock.monotonic()
        self._past_known &= not self._losses.check_clock()
        replan = (request.new_policy and self._read_policy()) or request.replan
        self._read_host()
        self._survey.renew()
        collect_for(len(self._survey.told or self._tracked))
        self._take_samples()
        self._look()
        if replan or self._wants_plan(now):
            self._plan_anew(now)
        elif request.show and not self._timetable.is_fresh(now):
            self._plan_anew(now, act=False)
        if self._losses.mode_state.gives_back(now) and now >= self._release_at:
            self._release_at = now + PLAN_SECONDS
            self._know_past()
            because = self._losses.mode_state.reason(now) or ""
            pasts = self._past.by_domain()
            for incarnation in [incarnation for incarnation in self._tracked if incarnation in pasts]:
                with self._boundary.around(incarnation):
                    latest = {incarnation: self._tracked[incarnation].latest}
                    self._acting.give_back(pasts[incarnation], latest, because)

    def advance(self) -> None:
        """Continue the actions that are due. Call it between ticks, when `due` says so."""
        self._acting.advance()

    def replan_soon(self) -> None:
        """Ask for another plan."""
        self._timetable.soon()

    @property
    def has_fresh_plan(self) -> bool:
        """Whether the latest plan is recent enough to be shown."""
        return self._timetable.is_fresh(self._control.clock.monotonic())

    def stalled(self) -> None:
        """Record that all tasks of the host waited for memory just now (PSI full)."""
        self._stalled = True

    def look_back(self) -> None:
        """Read the ledger and the journal again, after they were changed."""
        self._past = self._control.past(self._control.clock.now())
        self._generations = self._control.journal.generations()
        self._past_known = True

    def close(self, because: str) -> None:
        """Stop all actions in an orderly way, and return DAMON. What guests gave stays.

        Raises:
            HostError: DAMON could not be returned; `restore` tries again.
        """
        self._acting.close(because)
        self._accounting.keep()
        self._learning.keep(self._tracked)
        self._watching.close()

    def _read_host(self) -> None:
        try:
            self._host = self._accounting.read()
        except (OSError, HostError, KeyError, ValueError) as error:
            self._losses.lose(Loss.HOST, str(error))
            return
        if self._observed:
            self._losses.regain(Loss.HOST)
        verdict = self._accounting.swap(self._policy.swap)
        if verdict is not None and verdict.halt is not None:
            self._acting.stop_page_outs(verdict.halt)

    def _take_samples(self) -> None:
        """Sample each domain. Nothing is taken in this tick from domains beyond their SLO."""
        for incarnation, tracked in list(self._tracked.items()):
            with self._boundary.around(incarnation):
                self._take_sample(incarnation, tracked)
        for incarnation in self._boundary.hopeless():
            with self._boundary.around(incarnation):
                self._give_up(incarnation, "it rests")

    def _take_sample(self, incarnation: Incarnation, tracked: TrackedDomain) -> None:
        said, read = self._survey.said(incarnation.uuid), self._survey.read_bytes(incarnation.uuid)
        tick_reading = read_for_tick(self._control.kernel, self._control.clock, tracked.domain, said, read)
        if tick_reading is None:
            self.replan_soon()
            return
        taken, taking = self._past.taken_from(incarnation), self._acting.takes_from(incarnation)
        tracked.add_sample(tick_reading, taken_bytes=taken, taking=taking, swapoff=self._accounting.swapoff)
        why_not = self._boundary.why_not(incarnation) or tracked.throttle.why_not
        if why_not is not None and taking:
            self._acting.stop(incarnation, why_not)
        if tracked.boots or (taken and tracked.silent):
            self._give_up(incarnation, GUEST_REBOOTS)
        if taken and (tracked.short or tracked.suffers):
            self._acting.stop(incarnation, "the guest is short of memory")
            self._timetable.at_once()

    def _give_up(self, incarnation: Incarnation, because: str) -> None:
        if self._losses.mode_state.may_give:
            self._acting.stop(incarnation, because)
            self._know_past()
            self._acting.give_back(self._past, {incarnation: self._tracked[incarnation].latest}, because)

    def _look(self) -> None:
        """Add the monitors' new windows."""
        try:
            self._watching.poll()
        except JournalFailed as error:
            self._losses.lose(Loss.DISK, str(error))
        except Busy as error:
            self._lose_damon(str(error))
        except HostError as error:
            self._losses.lose(Loss.LIBVIRT, str(error))
        except (OvercommitError, OSError) as error:  # its slots may be gone at any moment
            self._lose_damon(str(error))

    def _wants_plan(self, now: Monotonic) -> bool:
        domains = self._snapshot.domains if self._snapshot else ()
        short = self._host is not None and is_short(self._host, domains, self._policy)
        # The next plan notices what is available again.
        asked = short or bool(self._losses.mode_state.lost) or knows_cold_now(self._tracked, self._watching)
        return self._timetable.is_due(now, asked=asked)

    def _plan_anew(self, now: Monotonic, *, act: bool = True) -> None:
        self._timetable.planned(now, carried_out=act)
        try:
            snapshot = observe(self._control.kernel, self._hypervisor, self._control.clock, self._survey.told)
        except HostError as error:
            self._losses.lose(Loss.LIBVIRT, str(error))
            return
        except OSError as error:
            self._observed = False
            self._losses.lose(Loss.HOST, str(error))
            return
        self._observed = True
        self._losses.regain(Loss.LIBVIRT)
        self._losses.check_disk()
        self._follow(snapshot)
        snapshot = complete(snapshot, self._hypervisor, self._policy, migration=self._watching.migration)
        self._host, self._snapshot = snapshot.host, snapshot
        self._control.tidy(self._generation, snapshot.domains, at_rest=not self._acting.actions)
        self.look_back()  # what it has ends by itself, too, and verbs beside us write to the ledger
        for domain in snapshot.domains if act and self._losses.mode_state.may_give else ():
            with self._boundary.around(domain.incarnation):
                self._acting.end_claims(self._past, (domain,))
        self._learning.keep_news(self._tracked)
        self._decision = self._decide(snapshot)
        self._snapshot = snapshot = snapshot.without_places
        for domain in snapshot.domains:
            if (tracked := self._tracked.get(domain.incarnation)) is not None:
                tracked.domain = domain
        if act:
            self._act(self._decision, snapshot, now)

    def _know_past(self) -> None:
        if not self._past_known:
            self.look_back()

    def _follow(self, snapshot: Snapshot) -> None:
        """Track each running incarnation, and monitor it."""
        alive = {domain.incarnation: domain for domain in snapshot.domains}
        self._backoff.keep(alive)
        self._boundary.keep(alive)
        for gone in self._tracked.keys() - alive.keys():
            del self._tracked[gone]
        for incarnation, domain in alive.items():
            with self._boundary.around(incarnation):
                if incarnation in self._tracked:
                    for event in self._tracked[incarnation].see(domain):
                        self._control.log.tell(event)
                else:
                    throttle = self._learning.throttle_of(incarnation, self._policy.class_of(domain))
                    self._tracked[incarnation] = TrackedDomain(domain=domain, throttle=throttle)
        try:
            self._watching.age(paged_out(snapshot.domains, self._policy))
            self._watching.follow(snapshot.domains, busy=self._acting.in_slots)
        except JournalFailed as error:
            self._losses.lose(Loss.DISK, str(error))
        except (OvercommitError, OSError) as error:  # its slots may be gone at any moment
            self._lose_damon(str(error))
        else:
            self._losses.regain(Loss.DAMON)

    def _decide(self, snapshot: Snapshot) -> Decision:
        self._emergency = emergency_now(snapshot, self._policy, before=self._emergency, stalled=self._stalled)
        self._stalled = False
        acting, swap = self._acting, self._policy.swap
        terms = Terms(
            policy=self._policy,
            past=self._past,
            wanted_for=self._want.purpose,
            swap=self._accounting.swap(swap, granted=acting.granted, at_once=max(1, acting.room)),
            emergency=self._emergency,
        )
        evidence = evidence_of(self._tracked, self._watching, self._boundary, terms)
        decision = decide(snapshot, self._policy, self._past, evidence, reserving=self._want.reservation)
        for left_out in decision.plan.left_out:
            self._boundary.failed(left_out.domain, left_out.why)
        return decision

    def _act(self, decision: Decision, snapshot: Snapshot, now: Monotonic) -> None:
        needed = self._emergency or self._want.reservation is not None

        def may_take(action: Action) -> bool:
            rests = self._boundary.why_not(domain_of(action))  # whatever emergency there is
            willing = needed or not self._backoff.waits(action, now)
            return not rests and self._losses.may_take and willing

        self._acting.carry_out(
            decision.plan,
            {domain.incarnation: domain for domain in snapshot.domains},
            self._boundary,
            may_give=lambda: self._losses.mode_state.may_give,
            may_take=may_take,
            too_far=lambda action: decision.excess(action, snapshot),
        )

    def _ended(self, ended: Ended) -> None:
        """Note the end of an action. The next mechanism may follow, so everything is read again."""
        self._past_known = False
        self.replan_soon()
        if isinstance(ended.error, JournalFailed):
            self._losses.lose(Loss.DISK, str(ended.error))
        if ended.fault and (incarnation := domain_of(ended.action)) is not None:
            self._boundary.failed(incarnation, str(ended.error))
        if ended.outcome is not None:
            self._backoff.ended(ended.outcome, self._control.clock.monotonic())
            self._control.note(ended.outcome, self._generation, self._policy)
        self._control.note_interrupted(str(ended.error or "left where it was"), ended.action)
        self._listener(ended)

    def _lose_damon(self, why: str) -> None:
        """Record that DAMON is lost. What is left of it is returned, and claimed again when possible."""
        self._losses.lose(Loss.DAMON, why)
        with contextlib.suppress(HostError, OSError):
            self._watching.close()

    def _read_policy(self) -> bool:
        """Whether another policy is in force now. The domains' SLO samples stay valid under it."""
        changed = self._policy_file.read_again()
        if self._policy_file.refused:
            self._control.log.tell(events.policy_refused(self._policy_file.refused))
        elif changed:
            self._control.log.tell(events.policy_in_force(self._policy.source))
            self._acting.stop_all("another policy is in force")
        for tracked in self._tracked.values():
            tracked.throttle = tracked.throttle.under(self._policy.class_of(tracked.domain))
        return changed
