"""The current limits on reclaim from a domain, set by its SLO samples."""

from __future__ import annotations

from dataclasses import dataclass

GUEST_REBOOTS = "the guest reboots"
"""The sentence for people, in a plan, a status and an outcome."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restraint:
    """The current limits on taking memory from a domain. Giving memory back is never limited.

    Memory is cold after ``cold_after_seconds``, which is never less than the class's value. ``step_share``
    (0..1) is the part of the class's step, and of the policy's write rate, that one plan may use. ``why_not``
    is why nothing is taken at all; None: something may be. ``sentence`` states the domain's SLO state for
    people. File cache counts as unused after ``cache_after_seconds`` at least. ``why_no_guest_memory`` is why
    the guest itself gives nothing.
    """

    cold_after_seconds: float
    step_share: float
    why_not: str | None
    sentence: str
    cache_after_seconds: float = 0.0
    why_no_guest_memory: str | None = None
