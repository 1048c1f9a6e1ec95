"""Why page-out, the main mechanism, is stopped for all domains. All reports use this one function. Pure."""

from __future__ import annotations

import re

from overcommit.model.facts import HostFacts
from overcommit.model.policy import Actuator, Policy, ReclaimMode
from overcommit.plan.swap_budget import SwapVerdict

_FIGURE = re.compile(r"(?<![\w/])\d[\w.%]*(?: (?:[KMGTP]i)?B\b(?:/s)?| ms\b)?")
_NOTHING = "NOTHING IS PAGED OUT"


def stopped(host: HostFacts, policy: Policy, swap: SwapVerdict) -> str | None:
    """Why nothing is paged out from any domain, in a sentence; None: it is not stopped, or not wanted.

    Room that is used up by page-outs under way is not a reason.
    """
    if all(Actuator.PAGEOUT not in each.actuators for each in policy.classes.values()):
        return None
    if policy.reclaim is ReclaimMode.OFF:
        return f"{_NOTHING}: the policy says reclaim: off"
    if host.swap_unread is not None:
        return f"{_NOTHING}: the host's swap cannot be read: {host.swap_unread}"
    if host.swap_total_bytes == 0:
        return f"{_NOTHING}: the host has no swap; add zram or a swap device"
    return f"{_NOTHING}: {swap.spent}" if swap.spent else None


def briefly(sentence: str) -> str:
    """The sentence without its figures, which change all the time."""
    return _FIGURE.sub("...", sentence)
