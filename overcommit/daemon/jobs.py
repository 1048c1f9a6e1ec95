"""Running actions: each continues a step at a time, between ticks, and can be stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from overcommit.apply.routines import Routine
from overcommit.clock import Clock
from overcommit.errors import UNCONTAINED, HostError, OvercommitError, in_a_line
from overcommit.model.action import Action, KsmAction
from overcommit.model.facts import Incarnation
from overcommit.model.moments import Monotonic
from overcommit.model.outcome import Outcome

_MOST_STEPS_TO_END = 100
"""The most steps that an action gets at once after it was told to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A job that has ended: its outcome, or the error that prevented the journal from being written.

    ``fault``: the error was unexpected, and belongs to that domain. ``begun_at`` is monotonic time.
    """

    action: Action
    begun_at: Monotonic
    gives: bool
    slot: int | None
    outcome: Outcome | None
    error: OvercommitError | None
    fault: bool = False


class _Stop:
    """Why a job must stop; None while it may continue."""

    def __init__(self) -> None:
        self.because: str | None = None

    def __call__(self) -> str | None:
        return self.because


@dataclass(slots=True)
class _Job:
    action: Action
    slot: int | None
    steps: Routine[Outcome]
    stop: _Stop
    begun_at: Monotonic
    due: Monotonic
    gives: bool

    def ended(
        self, outcome: Outcome | None = None, error: OvercommitError | None = None, *, fault: bool = False
    ) -> Ended:
        """The job as one that has ended."""
        return Ended(
            action=self.action,
            begun_at=self.begun_at,
            gives=self.gives,
            slot=self.slot,
            outcome=outcome,
            error=error,
            fault=fault,
        )


def _key(action: Action) -> Incarnation | None:
    return None if isinstance(action, KsmAction) else action.domain


class Jobs:
    """The running jobs: at most one per domain, and one for the host (its domain is None)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._jobs: dict[Incarnation | None, _Job] = {}

    def begin(
        self,
        action: Action,
        start: Callable[[Callable[[], str | None]], Routine[Outcome]],
        *,
        slot: int | None,
        gives: bool,
    ) -> None:
        """Start an action.

        ``start`` gets a function that says why to stop, and returns the action's steps.

        ``gives``: it gives memory to the domain.
        """
        stop, now = _Stop(), self._clock.monotonic()
        self._jobs[_key(action)] = _Job(action, slot, start(stop), stop, begun_at=now, due=now, gives=gives)

    def of(self, domain: Incarnation | None) -> Action | None:
        """The running action on a domain; None: none."""
        job = self._jobs.get(domain)
        return job.action if job else None

    def takes_from(self, domain: Incarnation) -> bool:
        """Whether a running action takes memory from it."""
        job = self._jobs.get(domain)
        return job is not None and not job.gives

    @property
    def actions(self) -> tuple[Action, ...]:
        """All running actions."""
        return tuple(job.action for job in self._jobs.values())

    def takes_since(self, at: Monotonic) -> bool:
        """Whether a running action that was started at that time (monotonic) or later takes memory."""
        return any(not job.gives and job.begun_at >= at for job in self._jobs.values())

    @property
    def taking(self) -> int:
        """The number of running actions that take memory."""
        return sum(not job.gives for job in self._jobs.values())

    @property
    def in_slots(self) -> bool:
        """Whether one of them has a DAMON slot."""
        return any(job.slot is not None for job in self._jobs.values())

    @property
    def due(self) -> Monotonic | None:
        """When (monotonic) the next one must be continued; None: none."""
        return min((job.due for job in self._jobs.values()), default=None)

    def advance(self) -> Iterator[Ended]:
        """Continue each one that is due. Yields those that have ended."""
        now = self._clock.monotonic()
        for key in [key for key, job in self._jobs.items() if job.due <= now]:
            if key not in self._jobs:
                continue  # what came of another one had it stopped
            ended = self._go_on(key)
            if ended is not None:
                yield ended

    def stop(self, domain: Incarnation | None, because: str) -> Ended | None:
        """Stop a job now, in an orderly way; None: there is none, or it gives memory and continues."""
        job = self._jobs.get(domain)
        if job is None or job.gives:
            return None
        job.stop.because = because
        for _ in range(_MOST_STEPS_TO_END):
            ended = self._go_on(domain)
            if ended is not None:
                return ended
        del self._jobs[domain]
        _let_go(job)  # it does not listen: as if we had died, and restore knows the way back
        return job.ended()

    def stop_all(self, because: str) -> Iterator[Ended]:
        """Stop all that take memory. Those that give are left where they are."""
        for key in list(self._jobs):
            ended = self.stop(key, because)
            if ended is not None:
                yield ended

    def close(self) -> None:
        """Leave all running jobs where they are."""
        for job in self._jobs.values():
            _let_go(job)
        self._jobs.clear()

    def _go_on(self, key: Incarnation | None) -> Ended | None:
        job = self._jobs[key]
        outcome = error = None
        fault = False
        try:
            job.due = self._clock.monotonic() + next(job.steps)
            return None
        except StopIteration as end:
            outcome = end.value
        except OvercommitError as failure:
            error = failure
        except OSError as failure:
            error = HostError(f"{failure.filename or 'the host'}: {failure.strerror}")
        except UNCONTAINED:
            raise
        except Exception as failure:  # noqa: BLE001 - the boundary: what is of one domain ends no other's job
            error, fault = HostError(in_a_line(failure)), True
        del self._jobs[key]
        return job.ended(outcome, error, fault=fault)


def _let_go(job: _Job) -> None:
    """Leave the job where it is. What it cannot put in order is in the journal."""
    with contextlib.suppress(OvercommitError, OSError):
        job.steps.close()
