"""The host's own figures from tick to tick, and what they say of its swap."""

from __future__ import annotations

import dataclasses

from overcommit.clock import Clock
from overcommit.host.kernel import Kernel
from overcommit.host.memory import read_host
from overcommit.host.swap import read_areas, read_traffic
from overcommit.model.facts import HostFacts
from overcommit.model.policy import SwapBudget
from overcommit.plan.swap_budget import NO_GRANT, Grant, SwapVerdict
from overcommit.plan.swap_watch import SwapWatch


class Accounting:
    """Reads the host, and follows its swap over the readings."""

    def __init__(self, kernel: Kernel, clock: Clock) -> None:
        self._kernel = kernel
        self._clock = clock
        self._swap: SwapWatch | None = None
        self._read_at = clock.monotonic()

    def read(self) -> HostFacts:
        """What a tick needs of the host.

        Raises:
            OSError: a file without which nothing can be decided cannot be read.
            HostError, KeyError, ValueError: or does not say what it should.
        """
        host = read_host(self._kernel)
        areas, _ = read_areas(self._kernel, host.swap)
        host = dataclasses.replace(host, swap=areas, swap_traffic=read_traffic(self._kernel))
        now = self._clock.monotonic()
        self._swap = self._swap.after(host, now - self._read_at) if self._swap else SwapWatch.begin(host)
        self._read_at = now
        return host

    def swap(self, budget: SwapBudget, *, granted: Grant = NO_GRANT, at_once: int = 1) -> SwapVerdict | None:
        """What page-outs may do beside those at work; None before the first reading."""
        if self._swap is None:
            return None
        return self._swap.verdict(budget, granted=granted, at_once=at_once)
