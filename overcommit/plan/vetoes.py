"""Reasons against an actuator from earlier runs, and changes that somebody else made since.

Each ``past`` here is that of one domain (`Past.by_domain`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from overcommit.display import command, display_name
from overcommit.model.facts import DomainFacts
from overcommit.model.moments import Wall
from overcommit.model.part import parts_of
from overcommit.model.past import Left, Past
from overcommit.model.plan import Drift, Verdict, refusal
from overcommit.model.policy import Actuator, DomainClass
from overcommit.model.restraint import Restraint
from overcommit.units import MIB, format_duration, format_size

BALLOON_SIZE = "balloon size"


def drifts(domain: DomainFacts, past: Past) -> Iterator[Drift]:
    """The parts of the domain's memory that are not at the size at which this program left them."""
    for left, found in _moved(domain, past):
        yield Drift(
            domain=domain.incarnation,
            what=BALLOON_SIZE if left.part.device is None else f"size of {left.part.what}",
            left_bytes=left.size_bytes,
            found_bytes=found,
            generation=left.generation,
        )


def owned_by_others(domain: DomainFacts, past: Past) -> dict[Actuator, Verdict]:
    """The actuators that somebody else has used on the domain since this program did."""
    verdicts: dict[Actuator, Verdict] = {}
    for left, found in _moved(domain, past):
        of_balloon = left.part.device is None
        if of_balloon and domain.definition.autodeflate and found > left.size_bytes:
            continue  # a guest may take memory back itself (deflate-on-oom)
        did = "moved its balloon" if of_balloon else "resized its virtio-mem"
        verdicts[Actuator.BALLOON if of_balloon else Actuator.VIRTIO_MEM] = refusal(
            f"somebody else {did} since, from {format_size(left.size_bytes)} to {format_size(found)}",
            f"only one may own it; to end our claim: overcommitctl restore {left.generation}",
        )
    return verdicts


def _moved(domain: DomainFacts, past: Past) -> Iterator[tuple[Left, int]]:
    """The changes whose part has another size now, with that size.

    A balloon's size is exact to a MiB; the size that is requested of a device is exact.
    """
    sizes = dict(parts_of(domain)) if past.left else {}
    for left in past.left:
        found, tolerance = sizes.get(left.part), MIB if left.part.device is None else 0
        if found is not None and abs(found - left.size_bytes) > tolerance:
            yield left, found


def quarantined(domain: DomainFacts, now: Wall, past: Past) -> dict[Actuator, Verdict]:
    """The actuators in quarantine, with which nothing is taken. Giving memory back is allowed."""
    return {
        quarantine.actuator: refusal(
            f"in quarantine for {format_duration(quarantine.until - now)} more: {quarantine.reason}",
            "it ends by itself; to end it now: "
            + command("overcommitctl", "release", display_name(domain.incarnation)),
        )
        for quarantine in past.quarantines
        if quarantine.until > now
    }


def held_to(domain_class: DomainClass, restraint: Restraint | None) -> DomainClass:
    """The class with the present limits on the domain, which are never looser than the class."""
    if restraint is None:
        return domain_class
    return dataclasses.replace(
        domain_class,
        cold_after_seconds=max(domain_class.cold_after_seconds, restraint.cold_after_seconds),
        step=domain_class.step * min(1.0, restraint.step_share),
        cache_after_seconds=max(domain_class.cache_after_seconds, restraint.cache_after_seconds),
    )


def restrained(actuators: Iterable[Actuator], restraint: Restraint | None) -> dict[Actuator, Verdict]:
    """The actuators with which nothing is taken while taking is paused."""
    if restraint is None:
        return {}
    if restraint.why_not is not None:
        hint = "it ends by itself after a while without pressure"
        verdict = refusal(f"throttled: {restraint.why_not}", hint)
        return {actuator: verdict for actuator in actuators if actuator is not Actuator.FREE_PAGE_REPORTING}
    if restraint.why_no_guest_memory is not None:
        verdict = refusal(f"throttled: {restraint.why_no_guest_memory}", "it ends by itself")
        return {a: verdict for a in actuators if a in {Actuator.VIRTIO_MEM, Actuator.BALLOON}}
    return {}
