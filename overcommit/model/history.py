"""The history of what this program did: one event for the end of each action, restore and reservation."""

from __future__ import annotations

from dataclasses import dataclass

from overcommit.model.action import KsmAction, name_of, subject_of
from overcommit.model.facts import Incarnation
from overcommit.model.moments import Wall
from overcommit.model.outcome import Fault, Outcome, Status

RESTORE = "restore"
"""Changes were restored."""
RESERVE = "reserve"
"""Memory was reserved, or could not be."""
CANCEL = "cancel"
"""A reservation was cancelled."""
RELEASE = "release"
"""An operator ended a domain's quarantine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event at ``at`` (seconds since the epoch), of one run of the program.

    ``kind`` is an action's name, or one of the words above. ``about`` names the domain also where its
    incarnation is not known. ``generation`` is None where there is nothing to restore. For an action
    ``before_bytes`` and ``planned_bytes`` are the plan's, ``reached_bytes`` is the size at which the balloon
    or device was left; None: not measured.
    """

    at: Wall
    boot_id: str
    run: str
    kind: str
    status: Status
    about: str | None = None
    domain: Incarnation | None = None
    generation: int | None = None
    fault: Fault | None = None
    before_bytes: int | None = None
    planned_bytes: int | None = None
    reached_bytes: int | None = None
    expected_bytes: int | None = None
    freed_bytes: int | None = None
    moved_bytes: int | None = None
    promoted_pages: int | None = None
    seconds: float | None = None
    because: str = ""
    detail: str = ""
    policy_digest: str | None = None


def event_of(
    outcome: Outcome, *, at: Wall, boot_id: str, run: str, generation: int, policy_digest: str
) -> Event:
    """The event of an action's end.

    It has a generation only where `restore` can undo it: memory that a guest gave, and KSM.
    """
    action = outcome.action
    lasting = outcome.left_at_bytes is not None or isinstance(action, KsmAction)
    return Event(
        at=at,
        boot_id=boot_id,
        run=run,
        kind=name_of(action),
        status=outcome.status,
        about=subject_of(action),
        domain=None if isinstance(action, KsmAction) else action.domain,
        generation=generation if lasting else None,
        fault=outcome.fault,
        before_bytes=action.before_bytes,
        planned_bytes=action.after_bytes,
        reached_bytes=outcome.left_at_bytes,
        expected_bytes=action.expected_bytes,
        freed_bytes=outcome.freed_bytes,
        moved_bytes=outcome.moved_bytes,
        promoted_pages=outcome.promoted_pages,
        seconds=outcome.seconds,
        because=action.because,
        detail=outcome.detail,
        policy_digest=policy_digest,
    )
