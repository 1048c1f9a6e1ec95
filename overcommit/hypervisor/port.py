"""The port to a hypervisor. Behind it libvirt's KiB become bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from overcommit.model.facts import BalloonStats, RunState
from overcommit.model.moments import Wall


class ListedDomain(NamedTuple):
    """A running domain in the hypervisor's list, without asking its monitor.

    ``maximum_bytes`` is the most that the guest may have now, plugged memory included.
    """

    name: str
    uuid: str
    state: RunState
    pid_file: str
    maximum_bytes: int


class Surveyed(NamedTuple):
    """A running domain with its guest's statistics.

    ``balloon`` is None where its QEMU could not be asked at once, or the guest is paused. In a survey,
    libvirt includes plugged memory in ``actual_bytes``. ``read_bytes`` were read by its disks since QEMU
    started, by QEMU's count; None likewise.
    """

    domain: ListedDomain
    balloon: BalloonStats | None
    read_bytes: int | None = None


class Hypervisor(Protocol):
    """A connection. Every call is bounded in time.

    Raises (all calls):
        Gone: the domain no longer runs.
        HostError: the hypervisor refused, or did not answer in time.
    """

    def describe(self) -> str:
        """Version and address, for people."""
        ...

    def domains(self) -> tuple[ListedDomain, ...]:
        """The active domains, sorted by name."""
        ...

    def survey(self, *, now: Wall) -> tuple[Surveyed, ...]:
        """The active domains with their guests' statistics, sorted by name: one call for all domains."""
        ...

    def state(self, uuid: str) -> RunState:
        """The run state of one domain, without asking its monitor or about other domains."""
        ...

    def xml(self, uuid: str) -> str:
        """The live definition."""
        ...

    def defined(self, name: str) -> str | None:
        """The definition that a domain of that name starts with, running or not; None: no such domain."""
        ...

    def busy_with(self, uuid: str) -> str | None:
        """What the domain is busy with (a migration, a save, a hang of its monitor); None: nothing."""
        ...

    def balloon(self, uuid: str, *, now: Wall) -> BalloonStats:
        """The balloon's size and the guest's statistics; ``now`` is host time since the epoch."""
        ...

    def set_balloon(self, uuid: str, size_bytes: int) -> None:
        """Ask the guest to shrink or grow to ``size_bytes``. A return does not mean success."""
        ...

    def resize_memory_device(self, uuid: str, alias: str, requested_bytes: int) -> None:
        """Ask the guest for a size of a virtio-mem device, a multiple of its block size.

        A return does not mean success. The live definition shows the size that the guest has reached.
        """
        ...

    def set_claim(self, uuid: str, claim: Mapping[str, int]) -> None:
        """Replace the claim in the live domain's metadata (`Definition.claim`)."""
        ...

    def ask_agent(self, uuid: str, command: str, *, seconds: int) -> str:
        """The guest agent's answer to a command of its protocol, both JSON. Marks the domain as tainted.

        An agent's refusal is a HostError with the agent's text.
        """
        ...


class DefinedDomain(NamedTuple):
    """A domain with a persistent definition.

    ``active``: it runs, with the definition that it was started with.
    """

    name: str
    uuid: str
    active: bool


class Definitions(Protocol):
    """The persistent definitions, which apply from the next start. Every call is bounded in time.

    Raises (all calls):
        HostError: the hypervisor refused, or did not answer in time.
    """

    def defined_domains(self) -> tuple[DefinedDomain, ...]:
        """The domains with a persistent definition, sorted by name. A transient domain has none."""
        ...

    def definition(self, uuid: str, *, secrets: bool = False) -> str | None:
        """The persistent definition; None where there is no such domain.

        ``secrets`` includes passwords, without which it cannot be defined again. It needs a connection that
        may write.
        """
        ...

    def define(self, xml: str) -> None:
        """Set the definition from the next start on. A running domain does not change."""
        ...
