"""Keep the ages of guests' pages: walk their page tables now and then while they are watched."""

from __future__ import annotations

from collections.abc import Sequence

from overcommit.clock import Clock
from overcommit.errors import in_a_line
from overcommit.host.cgroup import reclaims_anonymous_only
from overcommit.host.kernel import Kernel
from overcommit.host.lru_gen import read_generations, walk
from overcommit.model.facts import DomainFacts
from overcommit.model.moments import Monotonic
from overcommit.model.page_ages import PageAges, page_ages

SHORTEST_SECONDS = 5.0
"""Between two walks: one costs some 25 ms of a CPU for a GiB in 4 KiB pages (docs/adr/0027)."""


def interval_for(cold_after: float) -> float:
    """Seconds between walks, so that two intervals tell what was idle for ``cold_after``."""
    return max(SHORTEST_SECONDS, cold_after / 2)


class Ageing:
    """``ages`` are by UUID, as the latest walk of each domain left them; ``why_not`` says why there are none.

    There are none where reclaim cannot be limited to anonymous memory. On Linux 6.12 page-out after walks was
    five times worse than without (docs/adr/0027).

    Whoever else ages the same pages (reclaim does, when memory is short) makes intervals shorter, and no age
    wrong: each generation tells when it was born.
    """

    def __init__(self, kernel: Kernel, clock: Clock) -> None:
        self._kernel = kernel
        self._clock = clock
        self._walked_at: dict[str, Monotonic] = {}
        self.ages: dict[str, PageAges] = {}
        self.why_not: str | None = None

    def poll(self, domains: Sequence[tuple[DomainFacts, float]], *, now: bool = False) -> None:
        """Walk for those for whom it is time, or for all ``now``; each comes with the seconds between walks.

        What was known of others is forgotten.
        """
        at = self._clock.monotonic()
        every = {domain.incarnation.uuid: seconds for domain, seconds in domains if _alone(domain)}
        paths = {
            domain.cgroup.path: domain.incarnation.uuid
            for domain, _ in domains
            if domain.cgroup is not None and domain.incarnation.uuid in every
        }
        self._walked_at = {uuid: since for uuid, since in self._walked_at.items() if uuid in every}
        self.ages = {uuid: ages for uuid, ages in self.ages.items() if uuid in every}
        due = {
            path: uuid
            for path, uuid in paths.items()
            if now or uuid not in self._walked_at or at - self._walked_at[uuid] >= every[uuid]
        }
        if not due:
            return
        self._walked_at |= dict.fromkeys(due.values(), at)
        try:
            before = read_generations(self._kernel, due)
            if before and not reclaims_anonymous_only(self._kernel, next(iter(before))):
                self.why_not = "reclaim cannot be limited to anonymous memory (Linux 6.16)"
                return
            for nodes in before.values():
                for node in nodes:
                    walk(self._kernel, node)
            walked = read_generations(self._kernel, due)
        except (OSError, ValueError) as error:
            self.ages, self.why_not = {}, in_a_line(error)
            return
        self.why_not = None
        for path, nodes in walked.items():
            uuid = due[path]
            self.ages[uuid] = page_ages([node.pages for node in nodes], every[uuid])


def _alone(domain: DomainFacts) -> bool:
    """Whether the pages of its cgroup are its own."""
    return domain.cgroup is not None and not domain.cgroup.shared
