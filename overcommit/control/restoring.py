"""Restores what is changed, including what domains gave on another host, and records it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable

from overcommit.apply.restore import Restored
from overcommit.apply.restore import restore as put_back
from overcommit.control.one_controller import DIED, Control
from overcommit.control.operation import Listener
from overcommit.errors import HostError, JournalFailed, OvercommitError
from overcommit.host.cgroup import read_cgroup
from overcommit.hypervisor.domain_xml import parse_definition
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.history import RESTORE
from overcommit.model.outcome import Status
from overcommit.observe.facts import identify, observe
from overcommit.records.adoption import adoption
from overcommit.records.journal import GuestRecord
from overcommit.units import MIB

NOTHING = Restored(done=(), left=())
Connect = Callable[[], Hypervisor]


def restore(control: Control, connect: Connect, listener: Listener, *, generation: int | None) -> Restored:
    """Undo a generation and all later ones; None: everything, including what domains gave elsewhere.

    It needs no policy, and libvirt only for what guests gave.

    Raises:
        Conflict: another controller is running.
    """
    control.journal.lock()
    try:
        control.note_interrupted(DIED)
        first = () if generation else _damon_first(control)
        unknown = () if generation else _adopt(control, connect, listener)
        result = put_back(
            control.kernel,
            control.journal,
            control.clock,
            connect,
            since=generation or 0,
            progress=listener.progress,
        )
        result = dataclasses.replace(result, done=(*first, *result.done), left=(*unknown, *result.left))
    finally:
        listener.done()
        control.journal.unlock()
    if result != NOTHING:
        status = Status.PARTIAL if result.left or result.under_way else Status.DONE
        not_done = (f"NOT restored: {sentence}" for sentence in result.left)
        detail = "; ".join((*result.done, *result.under_way, *not_done))
        control.ledger.note(control.happened(RESTORE, status, detail))
    return result


def in_swap(control: Control, connect: Connect) -> dict[str, int]:
    """What each guest has in swap now, whatever put it there, from 1 MiB on: bytes by name.

    Restore does not read it back; the guest does. Domains that cannot be read are left out.
    """
    swapped: dict[str, int] = {}
    with contextlib.suppress(OvercommitError, OSError):  # that libvirt is away was said already
        for listed in connect().domains():
            with contextlib.suppress(OvercommitError, OSError):
                group = read_cgroup(control.kernel, identify(control.kernel, listed).pid)
                if group is not None and group.swap_bytes >= MIB:
                    swapped[listed.name] = group.swap_bytes
    return swapped


def _damon_first(control: Control) -> tuple[str, ...]:
    """Return DAMON before waiting for libvirt. A failure is reported when it is tried again."""
    try:
        return control.clean_up_damon()
    except (OvercommitError, OSError):
        return ()


def _adopt(control: Control, connect: Connect, listener: Listener) -> tuple[str, ...]:
    """Record what domains gave elsewhere, so that it can be restored here.

    Returns:
        Sentences about a disk that accepts no record.
    """
    try:
        hypervisor = connect()
        if not _is_news(control, hypervisor):
            return ()
        domains = observe(control.kernel, hypervisor, control.clock).domains
        if any(adoption(domains, control.in_force())):
            with control.opened("restore") as generation:
                control.adopt(generation, domains)
    except JournalFailed as error:
        return (f"what domains gave on other hosts: {error}",)
    except (OvercommitError, OSError) as error:
        listener.say(f"what domains gave on other hosts was not checked: {error}")
    return ()


def _is_news(control: Control, hypervisor: Hypervisor) -> bool:
    """Whether a domain has a claim that is not on record here. No guest is asked, because one might hang."""
    records = (entry.record for entry in control.in_force())
    known = {(record.domain, record.part.what) for record in records if isinstance(record, GuestRecord)}
    for listed in hypervisor.domains():
        with contextlib.suppress(HostError, OSError):
            claim = parse_definition(hypervisor.xml(listed.uuid)).claim
            if claim and not known.issuperset((identify(control.kernel, listed), what) for what in claim):
                return True
    return False
