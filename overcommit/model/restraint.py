"""How far a domain may be reclaimed from at present, by what it has felt so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Restraint:
    """What taking from a domain is held to; giving back to it is never restrained.

    Memory is cold after ``cold_after_seconds``, which is never less than its class says. ``step_share``
    (0..1) is how much of the class's step, and of the policy's write rate, one plan may use. ``why_not``:
    nothing is taken at all for now, and why. ``sentence`` says where the domain stands, for people. Cache is
    unused after ``cache_after_seconds`` at least; ``why_no_guest_memory``: the guest itself gives nothing.
    """

    cold_after_seconds: float
    step_share: float
    why_not: str | None
    sentence: str
    cache_after_seconds: float = 0.0
    why_no_guest_memory: str | None = None
