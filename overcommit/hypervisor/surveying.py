"""One survey of all domains, shared by all that list domains in a tick."""

from __future__ import annotations

from overcommit.clock import Clock
from overcommit.errors import HostError
from overcommit.hypervisor.port import Hypervisor, ListedDomain, Surveyed
from overcommit.model.facts import BalloonStats


class Survey:
    """The latest survey."""

    def __init__(self, hypervisor: Hypervisor, clock: Clock) -> None:
        self._hypervisor = hypervisor
        self._clock = clock
        self._said: dict[str, Surveyed] = {}
        self._error = HostError("libvirt was not asked for its domains")
        self.told: tuple[Surveyed, ...] | None = None
        """None where the hypervisor did not answer."""

    def renew(self) -> None:
        """Ask again. If there is no answer, the methods below raise the reason."""
        self.told, self._said = None, {}
        try:
            self.told = self._hypervisor.survey(now=self._clock.now())
        except HostError as error:
            self._error = error
        else:
            self._said = {each.domain.uuid: each for each in self.told}

    def domains(self) -> tuple[ListedDomain, ...]:
        """The active domains.

        Raises:
            HostError: the hypervisor did not answer.
        """
        if self.told is None:
            raise self._error
        return tuple(each.domain for each in self.told)

    def said(self, uuid: str) -> BalloonStats | None:
        """The statistics of a domain's guest; None where they are not known."""
        return self._said[uuid].balloon if uuid in self._said else None

    def read_bytes(self, uuid: str) -> int | None:
        """The bytes that a domain's disks have read; None where it is not known."""
        return self._said[uuid].read_bytes if uuid in self._said else None
