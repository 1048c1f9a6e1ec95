"""What an action works with, and how it reports progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from overcommit.clock import Clock
from overcommit.errors import Gone, HostError
from overcommit.host.cgroup import NO_LIMITS, Limits, read_cgroup, read_limits
from overcommit.host.kernel import Kernel
from overcommit.host.nodes import read_nodes
from overcommit.host.process import read_start_time
from overcommit.host.residency import residency_of
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.facts import CgroupMemory, DomainFacts, Residency, RunState
from overcommit.model.nodes import MemoryNode
from overcommit.records.journal import Generation


class Held(NamedTuple):
    """Bytes of guest RAM in memory, and in swap."""

    resident_bytes: int
    swapped_bytes: int

    def given_up(self, now: Held) -> Held:
        """The bytes that the host no longer holds.

        Memory that went to swap, or came back, only moved: it counts in neither figure.
        """
        freed = max(0, self.resident_bytes - now.resident_bytes)
        gone = self.resident_bytes + self.swapped_bytes - now.resident_bytes - now.swapped_bytes
        return Held(freed, max(0, min(self.swapped_bytes - now.swapped_bytes, gone - freed)))


class NodesNow(NamedTuple):
    """Memory nodes, and the bytes that guests can get on each."""

    nodes: tuple[MemoryNode, ...]
    free_bytes: Mapping[int, int]


def _never() -> None:
    """No reason to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyContext:
    """The outside world of one apply. ``progress`` gets a sentence now and then.

    ``stop_because`` is called regularly; it returns why the work must end early, or None. The current work
    then ends at once and leaves a consistent state. Giving memory back goes on.
    """

    kernel: Kernel
    hypervisor: Hypervisor
    clock: Clock
    generation: Generation
    progress: Callable[[str], None]
    stop_because: Callable[[], str | None] = _never

    def require_alive(self, domain: DomainFacts) -> None:
        """Check that the domain's process is still the same.

        Raises:
            Gone: it is not.
        """
        incarnation = domain.incarnation
        if read_start_time(self.kernel, incarnation.pid) != incarnation.start_time:
            raise Gone(f"domain {domain.name} was restarted")

    def unwilling(self, domain: DomainFacts) -> str | None:
        """Why nothing may be done to the domain now; None: something may.

        A guest that is paused, or busy with a migration or backup, accesses nothing, so all of it would look
        idle.

        Raises:
            HostError: libvirt does not tell.
        """
        uuid = domain.incarnation.uuid
        try:
            state = self.hypervisor.state(uuid)
        except Gone:
            return "the domain has ended"
        if state is not RunState.RUNNING:
            return f"the domain is {state.value} now"
        busy_with = self.hypervisor.busy_with(uuid)
        return f"the domain is busy with {busy_with}" if busy_with else None

    def require_willing(self, domain: DomainFacts) -> None:
        """Check that something may be done to the domain now.

        Raises:
            HostError: nothing may be done to it; the message says why.
            Gone: it was restarted.
        """
        self.require_alive(domain)
        if reason := self.unwilling(domain):
            raise HostError(reason)

    def resident_bytes(self, domain: DomainFacts) -> int:
        """The domain's resident bytes now.

        Raises:
            Gone: the domain has ended; the figure may be of another process with its pid.
        """
        resident = self.kernel.count_resident(domain.incarnation.pid, domain.ram)
        self.require_alive(domain)
        return resident

    def held(self, domain: DomainFacts) -> Held:
        """The domain's bytes in memory and in swap now.

        Raises:
            Gone: the domain has ended; the figures may be of another process with its pid.
            HostError: they cannot be read.
        """
        residency = self._residency(domain)
        self.require_alive(domain)
        return Held(residency.resident_bytes, residency.swapped_bytes)

    def _residency(self, domain: DomainFacts) -> Residency:
        try:
            return residency_of(self.kernel, domain.incarnation.pid, domain.blocks)
        except OSError as error:
            self.require_alive(domain)
            raise HostError(f"cannot read the memory of domain {domain.name}: {error.strerror}") from error

    def limits(self, domain: DomainFacts) -> Limits:
        """The limits of the domain now; none without a cgroup.

        Raises:
            Gone: the domain has ended.
            HostError: its limits cannot be read.
        """
        if domain.cgroup is None:
            return NO_LIMITS
        try:
            return read_limits(self.kernel, domain.cgroup.path, common=domain.cgroup.common)
        except (OSError, ValueError) as error:
            self.require_alive(domain)
            raise HostError(
                f"cannot read the limits of the cgroup of domain {domain.name}: {error}"
            ) from error

    def nodes(self) -> NodesNow:
        """The host's memory nodes now, with the bytes that guests can get there."""
        found, _ = read_nodes(self.kernel)
        return NodesNow(found, {node.nid: node.free_bytes + node.droppable_bytes for node in found})

    def cgroup(self, domain: DomainFacts) -> CgroupMemory | None:
        """The domain's cgroup figures now; None: it has no cgroup.

        Raises:
            Gone: the domain has ended.
            HostError: its cgroup cannot be read.
        """
        try:
            figures = read_cgroup(self.kernel, domain.incarnation.pid)
        except OSError as error:
            self.require_alive(domain)
            raise HostError(f"cannot read the cgroup of domain {domain.name}: {error.strerror}") from error
        self.require_alive(domain)
        return figures
