"""What an executor works with and what it tells while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from overcommit.clock import Clock
from overcommit.errors import Gone, HostError
from overcommit.host.cgroup import read_cgroup
from overcommit.host.kernel import Kernel
from overcommit.host.process import read_start_time
from overcommit.hypervisor.port import Hypervisor
from overcommit.journal import Generation
from overcommit.model.facts import CgroupMemory, DomainFacts, Residency


@dataclass(frozen=True, slots=True, kw_only=True)
class Worksite:
    """The outside world of one apply; ``progress`` gets a sentence now and then."""

    kernel: Kernel
    hypervisor: Hypervisor
    clock: Clock
    generation: Generation
    progress: Callable[[str], None]

    def require_alive(self, domain: DomainFacts) -> None:
        """Raise `Gone` unless the domain's process is still the one we know."""
        incarnation = domain.incarnation
        if read_start_time(self.kernel, incarnation.pid) != incarnation.start_time:
            raise Gone(f"domain {domain.name} was restarted")

    def residency(self, domain: DomainFacts) -> Residency:
        """What the host holds of the domain now.

        Raises:
            Gone: the domain left; what was read may be somebody else's, who got its pid.
        """
        residency = self.kernel.residency(domain.incarnation.pid, domain.ram)
        self.require_alive(domain)
        return residency

    def cgroup(self, domain: DomainFacts) -> CgroupMemory | None:
        """The domain's cgroup figures now.

        Raises:
            Gone: the domain left.
            HostError: its cgroup cannot be read.
        """
        try:
            figures = read_cgroup(self.kernel, domain.incarnation.pid)
        except OSError as error:
            self.require_alive(domain)
            raise HostError(f"cannot read the cgroup of domain {domain.name}: {error.strerror}") from error
        self.require_alive(domain)
        return figures
