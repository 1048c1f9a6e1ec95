"""Ends a reservation request: grant or refusal, for verbs and the daemon.

Both free memory in their own way, a verb in rounds, the daemon between ticks. `overcommit.plan.promises` says
what is missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from overcommit.control.one_controller import Control
from overcommit.host.memory import read_boot_id
from overcommit.model.history import RESERVE
from overcommit.model.outcome import Outcome, Status
from overcommit.model.past import Reservation
from overcommit.plan.promises import Wish
from overcommit.units import format_duration, format_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """The results of the actions that were started for a reservation.

    ``lost``: the result of some of them is not known.
    """

    outcomes: tuple[Outcome, ...] = ()
    lost: bool = False

    @property
    def bytes(self) -> int:
        """Guest RAM that is no longer resident, as each action read it from the host."""
        return sum(outcome.freed_bytes for outcome in self.outcomes)

    @property
    def changed(self) -> bool:
        """Whether any domain has less than before, or may have."""
        return self.lost or any(outcome.status.changed for outcome in self.outcomes)


def grant(control: Control, wish: Wish, hold_seconds: float, freed: Freed) -> Reservation:
    """Grant the reservation. It is on disk before anybody is told.

    Raises:
        HostError: the disk refuses; nothing is reserved.
    """
    now = control.clock.now()
    reservation = control.ledger.grant(
        wish.size_bytes,
        wish.purpose,
        now=now,
        expires_at=now + hold_seconds,
        boot_id=read_boot_id(control.kernel),
    )
    detail = f"reservation {reservation.id} for {format_duration(hold_seconds)}"
    _note(control, wish, Status.DONE, detail, freed)
    return reservation


def note_refusal(
    control: Control, wish: Wish, missing_bytes: int | None, freed: Freed, obstacles: Sequence[str]
) -> None:
    """Record that it was not granted, and what was freed for it."""
    status = Status.PARTIAL if freed.changed else Status.FAILED
    _note(control, wish, status, "; ".join((refusal_text(wish, missing_bytes), *obstacles)), freed)


def refusal_text(wish: Wish, missing_bytes: int | None) -> str:
    """The sentence of a refusal. ``missing_bytes`` None: not known."""
    sentence = f"{format_size(wish.size_bytes)} is not reserved"
    return sentence if missing_bytes is None else f"{sentence}: {format_size(missing_bytes)} is missing"


def _note(control: Control, wish: Wish, status: Status, detail: str, freed: Freed) -> None:
    event = control.happened(
        RESERVE,
        status,
        detail,
        about=wish.purpose,
        expected_bytes=wish.size_bytes,
        freed_bytes=freed.bytes,
    )
    control.ledger.note(event)
