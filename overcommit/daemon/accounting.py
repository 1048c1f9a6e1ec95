"""The host's figures between ticks, and the verdict on its swap."""

from __future__ import annotations

import dataclasses

from overcommit.control.one_controller import Control
from overcommit.daemon import write_account
from overcommit.host.memory import read_host
from overcommit.host.setaside import read_arc
from overcommit.host.swap import read_areas, read_traffic
from overcommit.model.accounts import Arc
from overcommit.model.facts import HostFacts
from overcommit.model.policy import SwapBudget
from overcommit.plan.swap_budget import NO_GRANT, Grant, SwapVerdict
from overcommit.plan.swap_watch import SwapWatch


class Accounting:
    """Reads the host, and tracks its swap over the readings.

    ``swapoff``: swap was being turned off between the last two readings. The kernel then reads all swapped
    memory back, and promotions that guests cause cannot be told apart.
    """

    def __init__(self, control: Control) -> None:
        self._kernel = control.kernel
        self._clock = control.clock
        self._ledger = control.ledger
        self._swap: SwapWatch | None = None
        self._host: HostFacts | None = None
        self.swapoff = False
        self._read_at = self._kept_at = self._clock.monotonic()

    def read(self) -> HostFacts:
        """What a tick needs of the host.

        Raises:
            OSError: a file that is required cannot be read.
            HostError, KeyError, ValueError: a file that is required is malformed.
        """
        host = read_host(self._kernel)
        areas, _ = read_areas(self._kernel, host.swap)
        host = dataclasses.replace(host, swap=areas, swap_traffic=read_traffic(self._kernel), arc=self._arc())
        self.swapoff = _turned_off(self._host, host)
        self._host = host
        now = self._clock.monotonic()
        if self._swap is None:
            account = write_account.take_up(self._ledger, host, now=self._clock.now())
            self._swap = SwapWatch.begin(host, account)
        else:
            self._swap = self._swap.after(host, now - self._read_at)
        self._read_at = now
        if now - self._kept_at >= write_account.KEEP_SECONDS:
            self.keep()
        return host

    def _arc(self) -> Arc | None:
        """ZFS's cache; None where it cannot be read, and then it is not counted on."""
        try:
            return read_arc(self._kernel)
        except (OSError, ValueError):
            return None

    def keep(self) -> None:
        """Store the day's account of writes to swap, so that it outlives this process."""
        self._kept_at = self._clock.monotonic()
        if self._swap is not None:
            write_account.keep(self._ledger, self._swap.since, self._swap.account, now=self._clock.now())

    def swap(self, budget: SwapBudget, *, granted: Grant = NO_GRANT, at_once: int = 1) -> SwapVerdict | None:
        """What page-outs may do beside the running ones; None before the first reading."""
        if self._swap is None:
            return None
        return self._swap.verdict(budget, granted=granted, at_once=at_once)


def _turned_off(before: HostFacts | None, now: HostFacts) -> bool:
    """Whether swap was being turned off. A quick swapoff is visible only as an area that is gone."""
    was = {area.path for area in before.swap} if before else set()
    return bool(
        now.swap_leaving_bytes
        or (before and before.swap_leaving_bytes)
        or was - {area.path for area in now.swap}
    )
