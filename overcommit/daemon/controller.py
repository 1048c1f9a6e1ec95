"""One tick: look, judge, plan, set going what the plan says. Level-triggered: nothing depends on events.

A tick is cheap as a rule: the host's account, each domain's counters, and what the monitors saw. Everything
is observed and planned anew every minute, and at once when the host or a guest is short, when something
ended, or when somebody orders it. For whoever only asks, it is planned and nothing more.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable

from overcommit.apply.lever import REBOOTS
from overcommit.control.one_controller import Control
from overcommit.daemon.accounting import Accounting
from overcommit.daemon.acting import Acting, domain_of
from overcommit.daemon.collecting import collect_for
from overcommit.daemon.faults import Boundary
from overcommit.daemon.followed import Followed
from overcommit.daemon.footing import Footing, Loss
from overcommit.daemon.jobs import Ended
from overcommit.daemon.judging import emergency_now, host_heat, is_short, judge_all, knows_cold_now
from overcommit.daemon.learning import Learning
from overcommit.daemon.patience import Patience
from overcommit.daemon.policy_file import PolicyFile
from overcommit.daemon.pulse import take_pulse
from overcommit.daemon.timetable import PLAN_SECONDS, Timetable
from overcommit.daemon.wall_clock import WallClock
from overcommit.daemon.watching import Watching
from overcommit.errors import Busy, HostError, JournalFailed, OvercommitError, Refused
from overcommit.hypervisor.port import Hypervisor
from overcommit.hypervisor.surveying import Survey
from overcommit.model.action import Action
from overcommit.model.facts import HostFacts, Incarnation, Snapshot
from overcommit.model.past import NOTHING_PAST, Past, Reservation
from overcommit.model.plan import Plan
from overcommit.model.policy import Policy
from overcommit.observe.agent import ask_agents
from overcommit.observe.facts import observe
from overcommit.plan.authority import excesses
from overcommit.plan.planner import make_plan
from overcommit.plan.promises import aimed
from overcommit.records.journal import Generation, GenerationSummary

_CLOCK_HOLD_SECONDS = 60.0


class Controller:
    """The state between ticks. It ends with the process: what must outlive that is in the journal."""

    def __init__(
        self,
        control: Control,
        hypervisor: Hypervisor,
        generation: Generation,
        policy_file: PolicyFile,
        *,
        footing: Footing,
        take_over: bool,
        say: Callable[[str], None],
    ) -> None:
        self._control = control
        self._hypervisor = hypervisor
        self._generation = generation
        self.policy_file = policy_file
        self._say = say
        self.past: Past = NOTHING_PAST
        """What earlier plans left, as far as it is known to this tick."""
        self._basis = policy_file.policy, NOTHING_PAST
        self._past_known = False
        self._timetable = Timetable()
        self._release_at = -math.inf
        self._observed = True
        self._wall_clock = WallClock(control.clock)
        self._accounting = Accounting(control)
        self._learning = Learning(control)
        self._survey = Survey(hypervisor, control.clock)
        self.watching = Watching(control, self._survey, generation, take_over=take_over)
        self.acting = Acting(control, hypervisor, generation, self.watching, ended=self._ended, say=say)
        self.boundary = Boundary(control.clock, say)
        self.footing = footing
        self.followed: dict[Incarnation, Followed] = {}
        self.host: HostFacts | None = None
        self.plan: Plan | None = None
        self.ticks = 0
        self.emergency = False
        self.wanted: Reservation | None = None
        """What somebody waits for to be promised, and counts as promised meanwhile."""
        self.wanted_for: str | None = None  # the domain that it is for: nothing is taken from that
        self.told: Callable[[Ended], None] = lambda _ended: None  # whoever counts what was freed
        self.snapshot: Snapshot | None = None
        self.generations: tuple[GenerationSummary, ...] = ()
        self._stalled = False
        self._patience = Patience()

    @property
    def policy(self) -> Policy:
        """The one in force."""
        return self.policy_file.policy

    def tick(self, *, replan: bool = False, show: bool = False, new_policy: bool = False) -> None:
        """Go round once. What cannot be done is in `footing`, and tried again next time.

        ``show``: somebody wants to see a plan, and nothing is to be begun for that.
        """
        self.ticks += 1
        now = self._control.clock.monotonic()
        self._check_clock(now)
        replan = (new_policy and self._read_policy()) or replan
        self._read_host(now)
        self._survey.renew()
        collect_for(len(self._survey.told or self.followed))
        self._feel()
        self._look(now)
        if replan or self._wants_plan(now):
            self._plan_anew(now)
        elif show and not self._timetable.is_fresh(now):
            self._plan_anew(now, act=False)
        if self.footing.gives_back(now) and now >= self._release_at:
            self._release_at = now + PLAN_SECONDS
            self._know_past()
            because = self.footing.reason(now) or ""
            pasts = self.past.by_domain()
            for who in [who for who in self.followed if who in pasts]:
                with self.boundary.around(who):
                    self.acting.give_back(pasts[who], {who: self.followed[who].latest}, because)

    def step(self) -> None:
        """Go on with what is at work; to be called between ticks, when `acting.due` says so."""
        self.acting.step()

    def replan_soon(self) -> None:
        """Something calls for another plan."""
        self._timetable.soon()

    @property
    def has_fresh_plan(self) -> bool:
        """Whether the latest plan will do for whoever wants to see one."""
        return self._timetable.is_fresh(self._control.clock.monotonic())

    def stalled(self) -> None:
        """The host as a whole waited for memory just now."""
        self._stalled = True

    def look_back(self) -> None:
        """Read again what the ledger and the journal have, after they were changed."""
        self.past = self._control.past(self._control.clock.now())
        self.generations = self._control.journal.generations()
        self._past_known = True

    def close(self, because: str) -> None:
        """End what is at work, orderly, and give DAMON back. What guests gave stays as it is.

        Raises:
            HostError: DAMON could not be given back; `restore` tries again.
        """
        self.acting.close(because)
        self._accounting.keep()
        self._learning.keep(self.followed)
        self.watching.close()

    # --- looking ---

    def _check_clock(self, now: float) -> None:
        """Stop taking for a while when the wall clock jumped: ages of statistics and leases hang on it."""
        if why := self._wall_clock.jumped():
            self._lose(Loss.CLOCK, why, now, anew=True)
            self._past_known = False
        elif (lost := self.footing.lost.get(Loss.CLOCK)) and now - lost.since >= _CLOCK_HOLD_SECONDS:
            self.footing = self.footing.regained(Loss.CLOCK)

    def _read_host(self, now: float) -> None:
        try:
            self.host = self._accounting.read()
        except (OSError, HostError, KeyError, ValueError) as error:
            self._lose(Loss.HOST, str(error), now)
            return
        if self._observed:
            self.footing = self.footing.regained(Loss.HOST)
        verdict = self._accounting.swap(self.policy.swap)
        if verdict is not None and verdict.halt is not None:
            self.acting.stop_page_outs(verdict.halt)

    def _feel(self) -> None:
        """Take each domain's pulse; those that feel too much are let alone in this tick, not the next."""
        for who, followed in list(self.followed.items()):
            with self.boundary.around(who):
                self._feel_one(who, followed)
        for who in self.boundary.hopeless():
            with self.boundary.around(who):
                self._give_up(who, "it rests")

    def _feel_one(self, who: Incarnation, followed: Followed) -> None:
        said, read = self._survey.said(who.uuid), self._survey.read_bytes(who.uuid)
        pulse = take_pulse(self._control.kernel, self._control.clock, followed.domain, said, read)
        if pulse is None:
            self.replan_soon()
            return
        taken, taking = self.past.taken_from(who), self.acting.takes_from(who)
        followed.feel(pulse, taken_bytes=taken, taking=taking, swapoff=self._accounting.swapoff)
        why_not = self.boundary.why_not(who) or followed.grip.why_not
        if why_not is not None and taking:
            self.acting.stop(who, why_not)
        if followed.boots or (taken and followed.silent):
            self._give_up(who, REBOOTS)
        if taken and (followed.short or followed.suffers):
            self.acting.stop(who, "the guest is short of memory")
            self._timetable.at_once()

    def _give_up(self, who: Incarnation, because: str) -> None:
        if self.footing.may_give:
            self.acting.stop(who, because)
            self._know_past()
            self.acting.give_back(self.past, {who: self.followed[who].latest}, because)

    def _look(self, now: float) -> None:
        """Take in what the monitors saw."""
        try:
            self.watching.look()
        except JournalFailed as error:
            self._lose(Loss.DISK, str(error), now)
        except Busy as error:
            self._lose_damon(str(error), now)
        except HostError as error:
            self._lose(Loss.LIBVIRT, str(error), now)
        except (OvercommitError, OSError) as error:  # its slots may be gone at any moment
            self._lose_damon(str(error), now)

    # --- planning ---

    def _wants_plan(self, now: float) -> bool:
        domains = self.snapshot.domains if self.snapshot else ()
        short = self.host is not None and is_short(self.host, domains, self.policy)
        # What was lost and is there again is noticed by a plan.
        asked = short or bool(self.footing.lost) or knows_cold_now(self.followed, self.watching)
        return self._timetable.is_due(now, asked=asked)

    def _plan_anew(self, now: float, *, act: bool = True) -> None:
        self._timetable.planned(now, carried_out=act)
        try:
            snapshot = observe(self._control.kernel, self._hypervisor, self._control.clock, self._survey.told)
        except HostError as error:
            self._lose(Loss.LIBVIRT, str(error), now)
            return
        except OSError as error:
            self._observed = False
            self._lose(Loss.HOST, str(error), now)
            return
        self._observed = True
        self.footing = self.footing.regained(Loss.LIBVIRT)
        self._require_disk(now)
        self._follow(snapshot, now)
        snapshot = ask_agents(snapshot, self._hypervisor, self.policy)
        snapshot = dataclasses.replace(
            snapshot, host=dataclasses.replace(snapshot.host, migration=self.watching.migration)
        )
        self.host, self.snapshot = snapshot.host, snapshot
        self._control.tidy(self._generation, snapshot.domains, at_rest=not self.acting.actions)
        self.look_back()  # what it has ends by itself, too, and verbs beside us write to the ledger
        for domain in snapshot.domains if act and self.footing.may_give else ():
            with self.boundary.around(domain.incarnation):
                self.acting.end_claims(self.past, (domain,))
        self._learning.keep_news(self.followed)
        self.plan = self._make_plan(snapshot)
        self.snapshot = snapshot = snapshot.without_places
        for domain in snapshot.domains:
            if (followed := self.followed.get(domain.incarnation)) is not None:
                followed.domain = domain
        if act:
            self._act(self.plan, snapshot, now)

    def _know_past(self) -> None:
        if not self._past_known:
            self.look_back()

    def _follow(self, snapshot: Snapshot, now: float) -> None:
        """Know each life that runs, and have it watched."""
        alive = {domain.incarnation: domain for domain in snapshot.domains}
        self._patience.keep(alive)
        self.boundary.keep(alive)
        for gone in self.followed.keys() - alive.keys():
            del self.followed[gone]
        for who, domain in alive.items():
            with self.boundary.around(who):
                if who in self.followed:
                    for sentence in self.followed[who].see(domain):
                        self._say(sentence)
                else:
                    grip = self._learning.grip_of(who, self.policy.class_of(domain))
                    self.followed[who] = Followed(domain=domain, grip=grip)
        try:
            self.watching.follow(snapshot.domains, busy=self.acting.in_slots)
        except JournalFailed as error:
            self._lose(Loss.DISK, str(error), now)
        except (OvercommitError, OSError) as error:  # its slots may be gone at any moment
            self._lose_damon(str(error), now)
        else:
            self.footing = self.footing.regained(Loss.DAMON)

    def _make_plan(self, snapshot: Snapshot) -> Plan:
        self.emergency = emergency_now(snapshot, self.policy, before=self.emergency, stalled=self._stalled)
        self._stalled = False
        judged = judge_all(
            self.followed,
            self.watching,
            self.policy,
            self.boundary,
            self.past,
            wanted_for=self.wanted_for,
            boldly=self.emergency,
        )
        policy, past = self._basis = aimed(self.policy, self.past, self.wanted)
        plan = make_plan(
            snapshot,
            judged.heats,
            policy,
            host_heat(self.watching, snapshot.host, policy),
            past=past,
            restraints=judged.restraints,
            swap=self._accounting.swap(
                policy.swap, granted=self.acting.granted, at_once=max(1, self.acting.room)
            ),
            in_pain=judged.pains,
            emergency=self.emergency,
        )
        for left_out in plan.left_out:
            self.boundary.failed(left_out.domain, left_out.why)
        return plan

    def _act(self, plan: Plan, snapshot: Snapshot, now: float) -> None:
        needed = self.emergency or self.wanted is not None

        def may_take(action: Action) -> bool:
            rests = self.boundary.why_not(domain_of(action))  # whatever emergency there is
            willing = needed or not self._patience.waits(action, now)
            return not rests and self.footing.may_take(now) and willing

        def too_far(action: Action) -> str | None:
            return next(excesses((action,), snapshot, *self._basis, emergency=self.emergency), None)

        self.acting.carry_out(
            plan,
            {domain.incarnation: domain for domain in snapshot.domains},
            self.boundary,
            may_give=lambda: self.footing.may_give,
            may_take=may_take,
            too_far=too_far,
        )

    def _ended(self, ended: Ended) -> None:
        """Look anew: the next rung may have its turn."""
        self._past_known = False
        self.replan_soon()
        if isinstance(ended.error, JournalFailed):
            self._lose(Loss.DISK, str(ended.error), self._control.clock.monotonic())
        if ended.fault and (who := domain_of(ended.action)) is not None:
            self.boundary.failed(who, str(ended.error))
        if ended.outcome is not None:
            self._patience.ended(ended.outcome, self._control.clock.monotonic())
            self._control.note(ended.outcome, self._generation, self.policy)
        self._control.note_interrupted(str(ended.error or "left where it was"), ended.action)
        self.told(ended)

    # --- state ---

    def _lose(self, loss: Loss, why: str, now: float, *, anew: bool = False) -> None:
        if anew:
            self.footing = self.footing.regained(loss)
        first, self.footing = loss not in self.footing.lost, self.footing.without(loss, why, now)
        if first:
            self.acting.stop_all(f"{loss.value} is lost: {why}")

    def _lose_damon(self, why: str, now: float) -> None:
        """All of it: what is left of ours is given back, and claimed anew when that can be."""
        self._lose(Loss.DAMON, why, now)
        with contextlib.suppress(HostError, OSError):
            self.watching.close()

    def _require_disk(self, now: float) -> None:
        """Whether the journal can be read, and takes records again; that is asked only when it did not."""
        try:
            self._control.require_whole(self._generation if Loss.DISK in self.footing.lost else None)
        except (JournalFailed, Refused) as error:
            self._lose(Loss.DISK, str(error), now)
        else:
            self.footing = self.footing.regained(Loss.DISK)

    def _read_policy(self) -> bool:
        """Whether another policy is in force now; what domains have felt so far they feel under it too."""
        changed = self.policy_file.read_again()
        if self.policy_file.refused:
            self._say(f"the policy stays as it is, for what is there now is none: {self.policy_file.refused}")
        elif changed:
            self._say(f"policy {self.policy.source} is in force now")
            self.acting.stop_all("another policy is in force")
        for followed in self.followed.values():
            followed.grip = followed.grip.under(self.policy.class_of(followed.domain))
        return changed
