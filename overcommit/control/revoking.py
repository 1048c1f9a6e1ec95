"""Ends a reservation or a quarantine early, by an operator's order. For the daemon and verbs."""

from __future__ import annotations

from overcommit.control.one_controller import Control
from overcommit.errors import UsageError
from overcommit.host.memory import read_boot_id
from overcommit.model.history import CANCEL, RELEASE
from overcommit.model.outcome import Status
from overcommit.model.past import Quarantine, Reservation
from overcommit.units import format_size


def promises(control: Control) -> tuple[Reservation, ...]:
    """The reservations in force."""
    return control.ledger.reservations(now=control.clock.now(), boot_id=read_boot_id(control.kernel))


def cancel(control: Control, number: int) -> Reservation:
    """End a reservation.

    Raises:
        UsageError: no reservation with that number is in force.
        HostError: the disk refuses; the reservation stays.
    """
    reservation = next((r for r in promises(control) if r.id == number), None)
    if reservation is None:
        raise UsageError(f"no reservation {number} is in force", hint="overcommitctl reserve --list")
    control.ledger.cancel(reservation)
    detail = f"reservation {number} of {format_size(reservation.size_bytes)} taken back"
    control.ledger.note(control.happened(CANCEL, Status.DONE, detail, about=reservation.purpose))
    return reservation


def release(control: Control, who: str) -> tuple[Quarantine, ...]:
    """End the quarantines of a domain, given by name or UUID.

    Raises:
        HostError: the disk refuses; quarantines that were not ended stay.
    """
    found = tuple(
        q for q in control.past(control.clock.now()).quarantines if who in {q.domain.name, q.domain.uuid}
    )
    for quarantine in found:
        detail = f"quarantine ended: {quarantine.reason}"
        event = control.happened(
            RELEASE, Status.DONE, detail, about=quarantine.domain.name, domain=quarantine.domain
        )
        control.ledger.record(event)
    return found
