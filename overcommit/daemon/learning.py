"""Keeps what was learnt of each domain's SLO (`overcommit.slo.Throttle`) in the ledger, across restarts.

Otherwise each restart would exceed the SLO of the same domains again. It belongs to one incarnation of a
domain in one boot.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from overcommit.control.one_controller import Control
from overcommit.daemon.tracked_domain import TrackedDomain
from overcommit.host.memory import read_boot_id
from overcommit.model.facts import Incarnation
from overcommit.model.moments import Wall
from overcommit.model.policy import DomainClass
from overcommit.slo import Learnt, Throttle

KEEP_SECONDS = 300.0
"""The interval of storing unchanged values. Changed limits are stored with the next plan."""
MOST_DOMAINS = 1000
_LONGEST_SECONDS = 86400.0
_NAME, _VERSION = "grips", 1


class _Known(NamedTuple):
    """``at`` is in seconds since the epoch."""

    at: Wall
    learnt: Learnt


class Learning:
    """Loads what an earlier run learnt, and stores what this one learns."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._earlier: dict[Incarnation, _Known] | None = None
        self._kept: dict[Incarnation, tuple[int, float, bool]] = {}
        self._kept_at = control.clock.monotonic()

    def throttle_of(self, incarnation: Incarnation, domain_class: DomainClass) -> Throttle:
        """The limits of a domain that was not tracked before."""
        known = self._not_taken_up().pop(incarnation, None)
        if known is None:
            return Throttle.begin(domain_class)
        return Throttle.resume(domain_class, known.learnt, seconds=self._control.clock.now() - known.at)

    def keep_news(self, tracked: Mapping[Incarnation, TrackedDomain]) -> None:
        """Store the values if limits have changed, or the interval is over."""
        throttling = {incarnation: learnt.throttling for incarnation, learnt in _learnt(tracked).items()}
        since = self._control.clock.monotonic() - self._kept_at
        if throttling != self._kept or (throttling and since >= KEEP_SECONDS):
            self.keep(tracked)

    def keep(self, tracked: Mapping[Incarnation, TrackedDomain]) -> None:
        """Store the values, and for a day those of earlier runs for domains that were not seen yet."""
        now, learnt = self._control.clock.now(), _learnt(tracked)
        self._kept = {incarnation: each.throttling for incarnation, each in learnt.items()}
        self._kept_at = self._control.clock.monotonic()
        known = self._not_taken_up() | {
            incarnation: _Known(now, each) for incarnation, each in learnt.items()
        }
        young = {
            incarnation: each for incarnation, each in known.items() if 0 <= now - each.at < _LONGEST_SECONDS
        }
        newest = heapq.nlargest(MOST_DOMAINS, young.items(), key=lambda item: item[1].at)
        if not newest and self._control.ledger.kept(_NAME) is None:
            return
        state = {
            "version": _VERSION,
            "boot_id": read_boot_id(self._control.kernel),
            "domains": [_to_json(incarnation, each) for incarnation, each in newest],
        }
        self._control.ledger.keep(_NAME, json.dumps(state))

    def _not_taken_up(self) -> dict[Incarnation, _Known]:
        """The values of earlier runs. Those that cannot be understood (of a later version) are ignored."""
        if self._earlier is None:
            kept = self._control.ledger.kept(_NAME)
            self._earlier = _understood(kept, read_boot_id(self._control.kernel)) if kept else {}
        return self._earlier


def _learnt(tracked: Mapping[Incarnation, TrackedDomain]) -> dict[Incarnation, Learnt]:
    of_each = ((incarnation, each.throttle.learnt) for incarnation, each in tracked.items())
    return {incarnation: learnt for incarnation, learnt in of_each if learnt is not None}


def _to_json(incarnation: Incarnation, known: _Known) -> dict[str, Any]:
    return {
        "domain": dataclasses.asdict(incarnation),
        "at": known.at,
        "learnt": dataclasses.asdict(known.learnt),
    }


def _understood(text: str, boot_id: str) -> dict[Incarnation, _Known]:
    try:
        state: dict[str, Any] = json.loads(text)
        if state["version"] != _VERSION or state["boot_id"] != boot_id:
            return {}
        return {
            Incarnation(**each["domain"]): _Known(Wall(float(each["at"])), Learnt(**each["learnt"]))
            for each in state["domains"][:MOST_DOMAINS]
        }
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
