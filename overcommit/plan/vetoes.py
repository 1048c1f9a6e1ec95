"""What earlier runs have to say against an actuator, and what was changed since by somebody else.

Every ``past`` here is that of one domain (`Past.by_domain`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from overcommit.model.facts import DomainFacts
from overcommit.model.past import LeftBalloon, Past
from overcommit.model.plan import Drift, Verdict, refusal
from overcommit.model.policy import Actuator, DomainClass
from overcommit.model.restraint import Restraint
from overcommit.shown import command, whom
from overcommit.units import MIB, format_duration, format_size

BALLOON_SIZE = "balloon size"


def drift_of(domain: DomainFacts, past: Past) -> Drift | None:
    """Whether the domain's balloon is not where we left it."""
    left = left_balloon(past)
    if left is None or domain.balloon is None:
        return None
    if abs(domain.balloon.actual_bytes - left.size_bytes) <= MIB:
        return None
    return Drift(
        domain=domain.incarnation,
        what=BALLOON_SIZE,
        left_bytes=left.size_bytes,
        found_bytes=domain.balloon.actual_bytes,
        generation=left.generation,
    )


def device_drifts(domain: DomainFacts, past: Past) -> Iterator[Drift]:
    """The domain's virtio-mem devices of which something else is requested than we left."""
    for left in past.devices:
        device = domain.definition.device(left.device)
        if device is not None and device.requested_bytes != left.size_bytes:
            yield Drift(
                domain=domain.incarnation,
                what=f"size of device {left.device}",
                left_bytes=left.size_bytes,
                found_bytes=device.requested_bytes,
                generation=left.generation,
            )


def left_balloon(past: Past) -> LeftBalloon | None:
    """The domain's balloon, as we left it."""
    return next(iter(past.balloons), None)


def owned_by_others(domain: DomainFacts, past: Past) -> dict[Actuator, Verdict]:
    """The actuators that somebody else has used on the domain since we did."""
    found: dict[Actuator, Verdict] = {}
    if moved := _moved_by_others(domain, past):
        found[Actuator.BALLOON] = moved
    for drift in device_drifts(domain, past):
        found[Actuator.VIRTIO_MEM] = refusal(
            f"somebody else resized its virtio-mem since, from {format_size(drift.left_bytes)} "
            f"to {format_size(drift.found_bytes)}",
            f"only one may own it: overcommitctl restore {drift.generation} ends our claim",
        )
    return found


def quarantined(domain: DomainFacts, now: float, past: Past) -> dict[Actuator, Verdict]:
    """The actuators with which nothing more may be taken for a while; giving back is not barred."""
    return {
        quarantine.actuator: refusal(
            f"in quarantine for {format_duration(quarantine.until - now)} more: {quarantine.reason}",
            f"it ends by itself; {command('overcommitctl', 'release', whom(domain.incarnation))} ends it now",
        )
        for quarantine in past.quarantines
        if quarantine.until > now
    }


def held_to(domain_class: DomainClass, restraint: Restraint | None) -> DomainClass:
    """The class as a controller that follows the domain uses it now: never more boldly."""
    if restraint is None:
        return domain_class
    return dataclasses.replace(
        domain_class,
        cold_after_seconds=max(domain_class.cold_after_seconds, restraint.cold_after_seconds),
        step=domain_class.step * min(1.0, restraint.step_share),
        cache_after_seconds=max(domain_class.cache_after_seconds, restraint.cache_after_seconds),
    )


def restrained(actuators: Iterable[Actuator], restraint: Restraint | None) -> dict[Actuator, Verdict]:
    """The actuators with which nothing more may be taken as long as the domain rests."""
    if restraint is None:
        return {}
    if restraint.why_not is not None:
        remedy = "it ends by itself, once the domain has been at ease for a while"
        verdict = refusal(f"it rests: {restraint.why_not}", remedy)
        return {actuator: verdict for actuator in actuators if actuator is not Actuator.FREE_PAGE_REPORTING}
    if restraint.why_no_guest_memory is not None:
        verdict = refusal(f"it rests: {restraint.why_no_guest_memory}", "it ends by itself")
        return {a: verdict for a in actuators if a in {Actuator.VIRTIO_MEM, Actuator.BALLOON}}
    return {}


def _moved_by_others(domain: DomainFacts, past: Past) -> Verdict | None:
    """A guest may take memory back itself (deflate-on-oom); every other move was somebody's decision."""
    drift = drift_of(domain, past)
    if drift is None or (domain.definition.autodeflate and drift.found_bytes > drift.left_bytes):
        return None
    return refusal(
        f"somebody else moved its balloon since, from {format_size(drift.left_bytes)} "
        f"to {format_size(drift.found_bytes)}",
        f"only one may own it: overcommitctl restore {drift.generation} ends our claim",
    )
