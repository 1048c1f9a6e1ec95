"""What a domain's persistent definition lacks for overcommit, and the smallest edit that adds it. Pure."""

from __future__ import annotations

import enum
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from overcommit.errors import Unreadable
from overcommit.hypervisor.domain_xml import parse_definition
from overcommit.hypervisor.ownership import Manager, manager_of
from overcommit.hypervisor.xml_text import Edit, Element, XmlText
from overcommit.model.facts import Definition

PERIOD_SECONDS = 5
"""The interval in which QEMU asks the guest for its memory statistics."""
_DEVICES = ("domain", "devices")
_BALLOON = (*_DEVICES, "memballoon")
_AGENT = "org.qemu.guest_agent.0"
_CHANNEL = ("<channel type='unix'>", f"  <target type='virtio' name='{_AGENT}'/>", "</channel>")
_BEFORE_CHANNELS = {"serial", "parallel", "console", "channel"}
_STATISTICS = f"<stats period='{PERIOD_SECONDS}'/>"


class Lack(enum.Enum):
    """A missing element. The values are part of the JSON output."""

    BALLOON = "balloon device"
    REPORTING = "free page reporting"
    AUTODEFLATE = "autodeflate"
    STATISTICS = "statistics period"
    AGENT = "guest agent channel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """A definition, what it lacks, and the definition with that added.

    ``after`` equals ``before`` where nothing has to change. ``notes`` are sentences for the operator.
    """

    before: str
    after: str
    lacks: tuple[Lack, ...]
    notes: tuple[str, ...]
    manager: Manager | None


def readiness(xml: str, *, anyway: bool = False) -> Readiness:
    """What an inactive definition lacks.

    Args:
        xml: the definition as libvirt prints it.
        anyway: add a balloon also where the operator chose none (``model='none'``).

    Raises:
        Unreadable: it is not a domain definition, or has something that is not known.
    """
    definition, text = parse_definition(xml), XmlText(xml)
    manager = manager_of(ET.fromstring(xml))  # noqa: S314 - libvirtd's, and parsed just now
    devices = next(iter(text.find(*_DEVICES)), None)
    if devices is None or not devices.children:
        raise Unreadable("the definition has no devices")
    balloon = next(iter(text.find(*_BALLOON)), None)
    chosen_none = balloon is not None and balloon.attributes.get("model") == "none"
    left_out = chosen_none and not anyway
    useless = _useless(definition)
    lacks: list[Lack] = []
    if not left_out:
        lacks += _of_balloon(definition, balloon, chosen_none=chosen_none, reporting=useless is None)
    if not _has_agent(devices):
        lacks.append(Lack.AGENT)
    edits: list[Edit] = []
    if not left_out:
        edits += _balloon_edits(text, devices, balloon, lacks)
    if Lack.AGENT in lacks:
        edits += _channel_edits(text, devices)
    return Readiness(
        before=xml,
        after=text.edited(edits),
        lacks=tuple(lacks),
        notes=tuple(_notes(definition, useless, left_out=left_out)),
        manager=manager,
    )


def _useless(definition: Definition) -> str | None:
    """Why reporting frees nothing on the host: QEMU cannot discard pinned memory. None: it does."""
    if definition.locked:
        return "its memory is locked (<locked/>)"
    if definition.hugepages:
        return "its memory is in huge pages, which only their pool gets back"
    if definition.passthrough:
        return f"it has {definition.passthrough[0]}, which pins its memory"
    if definition.launch_security:
        return f"its memory is encrypted ({definition.launch_security})"
    return None


def _of_balloon(
    definition: Definition, balloon: Element | None, *, chosen_none: bool, reporting: bool
) -> list[Lack]:
    there = {
        Lack.BALLOON: balloon is not None and not chosen_none,
        Lack.REPORTING: definition.free_page_reporting or not reporting,
        Lack.AUTODEFLATE: definition.autodeflate,
        Lack.STATISTICS: definition.stats_period_seconds > 0,
    }
    return [lack for lack, has in there.items() if not has]


def _has_agent(devices: Element) -> bool:
    return any(
        part.path[-1] == "target"
        and part.attributes.get("type") == "virtio"
        and part.attributes.get("name") == _AGENT
        for channel in devices.children
        if channel.path[-1] == "channel"
        for part in channel.children
    )


def _balloon_edits(text: XmlText, devices: Element, balloon: Element | None, lacks: list[Lack]) -> list[Edit]:
    """The edits of the balloon, in libvirt's order of attributes, so that libvirt prints them the same."""
    switches = {Lack.AUTODEFLATE: "autodeflate", Lack.REPORTING: "freePageReporting"}
    on = {name: "on" for lack, name in switches.items() if lack in lacks}
    if balloon is None:
        attributes = "".join(f" {name}='{value}'" for name, value in on.items())
        lines = (f"<memballoon model='virtio'{attributes}>", f"  {_STATISTICS}", "</memballoon>")
        return text.with_last_child(devices, lines)
    had = balloon.attributes
    values = {"model": "virtio" if Lack.BALLOON in lacks else had.get("model", "virtio")}
    values |= {
        name: on.get(name, had.get(name, "")) for name in switches.values() if name in on or name in had
    }
    edits = text.with_attributes(balloon, values) if on or Lack.BALLOON in lacks else []
    if Lack.STATISTICS in lacks:
        statistics = balloon.child("stats")
        edits += (
            text.with_first_child(balloon, (_STATISTICS,))
            if statistics is None
            else text.with_attributes(statistics, {"period": str(PERIOD_SECONDS)})
        )
    return edits


def _channel_edits(text: XmlText, devices: Element) -> list[Edit]:
    """The edit that adds a channel where libvirt prints channels: after others, and after consoles."""
    before = [child for child in devices.children if child.path[-1] in _BEFORE_CHANNELS]
    return text.behind(before[-1], _CHANNEL) if before else text.with_last_child(devices, _CHANNEL)


def _notes(definition: Definition, useless: str | None, *, left_out: bool) -> list[str]:
    notes = []
    if left_out:
        notes.append(
            "it has <memballoon model='none'/>: somebody chose to have no balloon. Free page reporting needs "
            "one. --anyway adds it"
        )
    elif definition.balloon_model == "none":
        notes.append("it has no balloon device. Free page reporting needs one")
    if useless is not None:
        notes.append(f"{useless}: free page reporting would give the host nothing, and stays as it is")
    elif definition.windows and not left_out:
        notes.append(
            "a Windows guest: free page reporting works only if its virtio-win balloon driver supports it"
        )
    return notes
