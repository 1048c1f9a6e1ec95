"""Libvirt over a `FakeHost`."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping

from overcommit.errors import Gone, HostError
from overcommit.hypervisor.domain_xml import CLAIM_NAMESPACE, claim_element
from overcommit.hypervisor.port import DefinedDomain, ListedDomain, Surveyed
from overcommit.model.facts import BalloonStats, RunState
from overcommit.model.moments import Wall
from overcommit.testing.fake_host import (
    DEVICE_BLOCK_BYTES,
    STATISTICS_PERIOD_SECONDS,
    Behaviour,
    FakeGuest,
    FakeHost,
)
from overcommit.units import KIB

DEVICE_ALIAS = "virtiomem0"


class FakeHypervisor:
    """`overcommit.hypervisor.port.Hypervisor`. A guest that is removed from the host is gone here too."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self.not_running: dict[str, str] = {}
        """Definitions of domains that do not run, by name."""
        self.persistent: dict[str, str] = {}
        """Persistent definitions, by UUID. One that is defined is kept as libvirt would print it."""
        self.as_printed: Callable[[str], str] = lambda xml: xml

    def describe(self) -> str:
        """See `Hypervisor.describe`."""
        return "a fake hypervisor"

    def domains(self) -> tuple[ListedDomain, ...]:
        """See `Hypervisor.domains`."""
        return tuple(
            sorted(
                ListedDomain(
                    guest.name,
                    guest.uuid,
                    _state_of(guest),
                    f"/run/libvirt/qemu/{guest.name}.pid",
                    guest.memory_bytes,
                )
                for guest in self._host.guests
            )
        )

    def survey(self, *, now: Wall) -> tuple[Surveyed, ...]:
        """See `Hypervisor.survey`."""
        guests = {guest.uuid: guest for guest in self._host.guests}

        def balloon(guest: FakeGuest) -> BalloonStats | None:
            if guest.paused or guest.balloon_model == "none":
                return None
            try:
                stats = self.balloon(guest.uuid, now=now)
            except HostError:
                return None
            return dataclasses.replace(stats, actual_bytes=stats.actual_bytes + guest.plugged_bytes)

        def read(guest: FakeGuest) -> int | None:
            answers = not guest.paused and guest.behaviour is not Behaviour.HUNG
            return (guest.files.read_bytes if guest.files else 0) if answers else None

        return tuple(
            Surveyed(listed, balloon(guests[listed.uuid]), read(guests[listed.uuid]))
            for listed in self.domains()
        )

    def state(self, uuid: str) -> RunState:
        """See `Hypervisor.state`."""
        return _state_of(self._find(uuid))

    def xml(self, uuid: str) -> str:
        """See `Hypervisor.xml`."""
        guest = self._find(uuid)
        backing = "<memoryBacking><access mode='shared'/></memoryBacking>" if guest.shared else ""
        return (
            f"<domain>{_metadata(guest)}"
            f"<memory unit='KiB'>{guest.memory_bytes // KIB}</memory>{backing}<devices>"
            f"<memballoon model='{guest.balloon_model}' "
            f"freePageReporting='{'on' if guest.free_page_reporting else 'off'}'>"
            f"<stats period='{STATISTICS_PERIOD_SECONDS}'/></memballoon>{_device(guest)}{_channel(guest)}"
            "</devices></domain>"
        )

    def defined(self, name: str) -> str | None:
        """See `Hypervisor.defined`."""
        running = next((guest.uuid for guest in self._host.guests if guest.name == name), None)
        return self.not_running.get(name) if running is None else self.xml(running)

    def defined_domains(self) -> tuple[DefinedDomain, ...]:
        """See `Definitions.defined_domains`."""
        running = {guest.uuid for guest in self._host.guests}
        return tuple(
            sorted(
                DefinedDomain(ET.fromstring(xml).findtext("./name", ""), uuid, uuid in running)  # noqa: S314
                for uuid, xml in self.persistent.items()
            )
        )

    def definition(self, uuid: str, *, secrets: bool = False) -> str | None:
        """See `Definitions.definition`. It has a password only where secrets are asked for."""
        xml = self.persistent.get(uuid)
        return xml if xml is None or secrets else re.sub(r" passwd='[^']*'", "", xml)

    def define(self, xml: str) -> None:
        """See `Definitions.define`."""
        uuid = ET.fromstring(xml).findtext("./uuid", "")  # noqa: S314 - the test's own
        self._host.on_write(f"definition/{uuid}", xml)
        self.persistent[uuid] = self.as_printed(xml)
        self._host.after_write(f"definition/{uuid}", xml)

    def busy_with(self, uuid: str) -> str | None:
        """See `Hypervisor.busy_with`."""
        guest = self._find(uuid)
        return "a broken monitor" if guest.behaviour is Behaviour.HUNG else guest.busy_with

    def balloon(self, uuid: str, *, now: Wall) -> BalloonStats:  # noqa: ARG002 - the port's signature
        """See `Hypervisor.balloon`."""
        guest = self._answering(uuid)
        said = guest.says_balloon_bytes
        actual = guest.balloon_bytes if said is None else said
        if guest.booting_seconds > 0:
            return BalloonStats(actual_bytes=actual, age_seconds=None)
        return BalloonStats(
            actual_bytes=actual,
            age_seconds=guest.report_age_seconds,
            usable_bytes=guest.reported_usable_bytes,
            unused_bytes=max(0, guest.reported_usable_bytes - guest.reported_cache_bytes),
            cache_bytes=guest.reported_cache_bytes,
            total_bytes=guest.size_bytes,
        )

    def set_balloon(self, uuid: str, size_bytes: int) -> None:
        """See `Hypervisor.set_balloon`."""
        guest = self._answering(uuid)
        if guest.behaviour is Behaviour.REFUSING:
            raise HostError(f"libvirt could not set the balloon of {guest.name}: refused")
        self._host.on_write(f"balloon/{guest.name}", str(size_bytes))
        guest.balloon_target_bytes = size_bytes
        self._host.after_write(f"balloon/{guest.name}", str(size_bytes))

    def resize_memory_device(self, uuid: str, alias: str, requested_bytes: int) -> None:
        """See `Hypervisor.resize_memory_device`. As libvirt, it checks the size only."""
        guest = self._answering(uuid)
        unfit = requested_bytes % DEVICE_BLOCK_BYTES or requested_bytes > guest.device_bytes
        refusing = guest.behaviour is Behaviour.REFUSING
        if refusing or alias != DEVICE_ALIAS or not guest.device_bytes or unfit:
            raise HostError(f"libvirt could not resize its memory device {alias} (domain {uuid})")
        self._host.on_write(f"device/{guest.name}", str(requested_bytes))
        guest.requested_bytes = requested_bytes
        self._host.after_write(f"device/{guest.name}", str(requested_bytes))

    def set_claim(self, uuid: str, claim: Mapping[str, int]) -> None:
        """See `Hypervisor.set_claim`."""
        guest = self._answering(uuid)
        self._host.on_write(f"claim/{guest.name}", str(claim))
        guest.claim = dict(claim)
        self._host.after_write(f"claim/{guest.name}", str(claim))

    def ask_agent(self, uuid: str, command: str, *, seconds: int) -> str:
        """See `Hypervisor.ask_agent`."""
        guest = self._find(uuid)
        if guest.paused:
            raise Gone("libvirt could not ask its guest agent: domain is not running")
        if guest.agent is None or not guest.agent.connected:
            wrong = "connected" if guest.agent else "configured"
            raise HostError(f"libvirt could not ask its guest agent: QEMU guest agent is not {wrong}")
        if guest.agent.hangs:
            self._host.advance(seconds)
            raise HostError("libvirt could not ask its guest agent: guest agent didn't respond to command")

        def flushed(path: str, text: str, then: Callable[[], None]) -> None:
            self._host.on_write(f"agent/{guest.name}{path}", text)
            then()
            self._host.after_write(f"agent/{guest.name}{path}", text)

        return guest.agent.answer(command, flushed)

    def _find(self, uuid: str) -> FakeGuest:
        for guest in self._host.guests:
            if guest.uuid == uuid:
                return guest
        raise Gone(f"no domain {uuid}")

    def _answering(self, uuid: str) -> FakeGuest:
        guest = self._find(uuid)
        if guest.behaviour is Behaviour.HUNG:
            raise HostError(f"libvirt did not answer for {guest.name} within 10 s")
        return guest


def _state_of(guest: FakeGuest) -> RunState:
    return RunState.PAUSED if guest.paused else RunState.RUNNING


def _metadata(guest: FakeGuest) -> str:
    """The metadata element as libvirt prints it, with its namespace."""
    if not guest.claim:
        return ""
    element = claim_element(guest.claim).replace("<claim", f"<claim xmlns='{CLAIM_NAMESPACE}'", 1)
    return f"<metadata>{element}</metadata>"


def _device(guest: FakeGuest) -> str:
    if not guest.device_bytes:
        return ""
    sizes = {
        "size": guest.device_bytes,
        "block": DEVICE_BLOCK_BYTES,
        "requested": guest.requested_bytes,
        "current": guest.plugged_bytes,
    }
    target = "".join(f"<{name} unit='KiB'>{size // KIB}</{name}>" for name, size in sizes.items())
    return f"<memory model='virtio-mem'><target>{target}</target><alias name='{DEVICE_ALIAS}'/></memory>"


def _channel(guest: FakeGuest) -> str:
    if guest.agent is None:
        return ""
    state = "connected" if guest.agent.connected else "disconnected"
    return (
        "<channel type='unix'>"
        f"<target type='virtio' name='org.qemu.guest_agent.0' state='{state}'/></channel>"
    )
