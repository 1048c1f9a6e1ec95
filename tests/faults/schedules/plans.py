"""What plans may say of a host (S2, S6, S8), judged by the host itself and not by what a daemon saw of it."""

from __future__ import annotations

from collections.abc import Mapping

from overcommit.model.action import Action, BalloonAction, KsmAction, PageoutAction, VirtioMemAction
from overcommit.model.facts import Incarnation
from overcommit.model.plan import DomainPlan, Plan
from overcommit.model.policy import Actuator
from overcommit.testing import Behaviour, FakeGuest, FakeHost
from overcommit.testing.fake_host import BOOT_SECONDS
from overcommit.units import MIB
from tests.faults.daemon import incarnation
from tests.faults.schedules.broken import Broken

STALE_SECONDS = 6.0
"""Older figures of a guest, who is asked every other second, are none."""
_SIZE = (BalloonAction, VirtioMemAction)
NEEDED_BY: dict[str, tuple[type[Action], ...]] = {
    "/stat": (BalloonAction, VirtioMemAction, PageoutAction),
    "/smaps": (BalloonAction, VirtioMemAction, PageoutAction),
    "/pagemap": (BalloonAction, VirtioMemAction, PageoutAction),
    "/memory.stat": (PageoutAction,),
    "/memory.pressure": (PageoutAction,),
    "/proc/swaps": (PageoutAction,),
}
"""What may be taken only where files of such names can be read, of a domain, its process or the host."""
NEEDED_TO_PLAN = ("/proc/meminfo",)


def takes(action: Action) -> bool:
    """Whether it takes memory from a domain."""
    if isinstance(action, KsmAction):
        return False
    return not (isinstance(action, _SIZE) and action.relieves)


def barred(guest: FakeGuest) -> str | None:
    """Why nobody may touch a guest, None: nothing stands against it."""
    if guest.paused:
        return "it is paused"
    return "its monitor hangs" if guest.behaviour is Behaviour.HUNG else guest.busy_with


def judge_plan(
    plan: Plan,
    host: FakeHost,
    *,
    resident: Mapping[Incarnation, int],
    unreadable: str | None,
    age_seconds: float,
) -> None:
    """Compare a plan that is ``age_seconds`` old with the host; nothing but time has passed since.

    ``resident`` is what was resident of each guest when it was looked at, ``unreadable`` how the names of
    files end that could not be read all the while.

    Raises:
        Broken: it does what it must not.
    """
    if unreadable in NEEDED_TO_PLAN:
        raise Broken(f"S2: a plan without {unreadable}")
    guests = {incarnation(guest): guest for guest in host.guests}
    for action in plan.runnable:
        if isinstance(action, KsmAction):
            continue
        guest = guests.get(action.domain)
        if guest is None:
            raise Broken(f"S2: {type(action).__name__} on {action.domain.name}, which does not run")
        if takes(action) and isinstance(action, NEEDED_BY.get(unreadable or "", ())):
            raise Broken(f"S2: {type(action).__name__} on {guest.name} without {unreadable}")
        if why := _unfit(action, guest, age_seconds):
            raise Broken(f"S6: {type(action).__name__} on {guest.name}: {why}")
        if not 0 <= action.expected_bytes <= resident.get(action.domain, 0):
            raise Broken(f"S8: {action.expected_bytes // MIB} MiB are expected of {guest.name}")
    for domain in plan.domains:
        _require_reasons(domain, guests.get(domain.incarnation))


def _unfit(action: Action, guest: FakeGuest, age_seconds: float) -> str | None:
    """Why an action must not be in a plan."""
    if why := barred(guest):
        return why
    if not isinstance(action, _SIZE):
        return None
    if guest.balloon_model == "none":
        return "it has no balloon"
    if takes(action) and guest.booting_seconds > 0 and BOOT_SECONDS - guest.booting_seconds > age_seconds:
        return "it boots"
    if takes(action) and (guest.report_age_seconds or 0.0) - age_seconds > STALE_SECONDS:
        return "its figures are old"
    return None


def _require_reasons(domain: DomainPlan, guest: FakeGuest | None) -> None:
    name = domain.incarnation.name
    if not min(domain.floor_bytes, domain.actual_bytes) <= domain.target_bytes <= domain.ceiling_bytes:
        raise Broken(f"S8: {name} is to have {domain.target_bytes // MIB} MiB")
    for actuator, verdict in domain.eligible.items():
        if not verdict.ok and not verdict.reason:
            raise Broken(f"S6: {name} is skipped for {actuator.value}, and nobody says why")
    if guest is None:
        return
    unfit = set(domain.eligible) if barred(guest) else set()
    unfit -= {Actuator.FREE_PAGE_REPORTING}
    if guest.balloon_model == "none":
        unfit |= {Actuator.BALLOON, Actuator.VIRTIO_MEM} & set(domain.eligible)
    for actuator in unfit:
        if domain.eligible[actuator].ok:
            raise Broken(f"S6: {name} is said to be fit for {actuator.value}")
