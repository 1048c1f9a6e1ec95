"""What the program needs of a hypervisor; libvirt's KiB become bytes behind this line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from overcommit.model.facts import BalloonStats, RunState


class ListedDomain(NamedTuple):
    """A running domain as the hypervisor lists it, without asking its monitor.

    ``maximum_bytes`` is what the guest may have now, plugged memory included.
    """

    name: str
    uuid: str
    state: RunState
    pid_file: str
    maximum_bytes: int


class Surveyed(NamedTuple):
    """A running domain, and what its guest says.

    ``balloon`` is None where its QEMU could not be asked at once, or the guest is paused. Its
    ``actual_bytes`` have the plugged memory in them, as libvirt counts where it tells of all. ``read_bytes``
    its disks have read since its QEMU began, by QEMU's own count; None likewise.
    """

    domain: ListedDomain
    balloon: BalloonStats | None
    read_bytes: int | None = None


class Hypervisor(Protocol):
    """A connection; every call is bounded in time.

    Raises (all calls):
        Gone: the domain is not running any more.
        HostError: the hypervisor refused, or did not answer in time.
    """

    def describe(self) -> str:
        """Version and address, for people."""
        ...

    def domains(self) -> tuple[ListedDomain, ...]:
        """The active domains, sorted by name."""
        ...

    def survey(self, *, now: float) -> tuple[Surveyed, ...]:
        """The active domains with what their guests say, sorted by name: one call, however many there are."""
        ...

    def state(self, uuid: str) -> RunState:
        """Whether one domain runs now, without asking its monitor nor about any other."""
        ...

    def xml(self, uuid: str) -> str:
        """The live definition."""
        ...

    def defined(self, name: str) -> str | None:
        """What a domain of that name is started by, whether it runs or not; None where there is none."""
        ...

    def busy_with(self, uuid: str) -> str | None:
        """What the domain is busy with (a migration, a save, a hang of its monitor), None when it is free."""
        ...

    def balloon(self, uuid: str, *, now: float) -> BalloonStats:
        """The balloon's size and the guest's statistics; ``now`` is host time since the epoch."""
        ...

    def set_balloon(self, uuid: str, size_bytes: int) -> None:
        """Ask the guest to live with ``size_bytes``. Returning says nothing about success."""
        ...

    def resize_memory_device(self, uuid: str, alias: str, requested_bytes: int) -> None:
        """Ask the guest for so much of a virtio-mem device; a multiple of its block.

        Returning says nothing about success: the definition has what the guest has reached.
        """
        ...

    def set_claim(self, uuid: str, claim: Mapping[str, int]) -> None:
        """Have the live domain's metadata carry a claim (`Definition.claim`) instead of the one there."""
        ...

    def ask_agent(self, uuid: str, command: str, *, seconds: int) -> str:
        """The guest agent's answer to a command of its protocol, both as JSON; marks the domain as tainted.

        What an agent refuses is a HostError with its own words.
        """
        ...


class DefinedDomain(NamedTuple):
    """A domain that has a persistent definition. ``active``: it runs now, by what it was started with."""

    name: str
    uuid: str
    active: bool


class Definitions(Protocol):
    """The persistent definitions: what each domain's next start begins with. Every call is bounded in time.

    Raises (all calls):
        HostError: the hypervisor refused, or did not answer in time.
    """

    def defined_domains(self) -> tuple[DefinedDomain, ...]:
        """The domains with a persistent definition, sorted by name. A transient domain has none."""
        ...

    def definition(self, uuid: str, *, secrets: bool = False) -> str | None:
        """The persistent definition; None where there is no such domain.

        ``secrets``: with passwords, as it must be to be defined again; for connections that may write.
        """
        ...

    def define(self, xml: str) -> None:
        """Have this be the definition from the next start on. A running domain goes on as it is."""
        ...
