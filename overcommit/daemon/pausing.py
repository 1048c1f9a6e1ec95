"""A pause by order, kept over restarts in the ledger: it was not the process that was to rest."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from overcommit.records.ledger import Ledger

_NAME, _VERSION = "pause", 1


class Pause(NamedTuple):
    """How long it lasts yet, None: until an order to resume; and who ordered it."""

    seconds: float | None
    uid: int


def keep(ledger: Ledger, pause: Pause, *, now: float) -> bool:
    """Keep one that begins ``now`` (seconds since the epoch); whether the disk took it."""
    return ledger.keep(_NAME, json.dumps({"version": _VERSION, "at": now, **pause._asdict()}))


def end(ledger: Ledger) -> bool:
    """It is over by order; whether the disk took that."""
    return ledger.keep(_NAME, json.dumps(None))


def take_up(ledger: Ledger, *, now: float) -> Pause | None:
    """What is left of it; None: it is over, there was none, or what was kept cannot be understood.

    A clock that was set back makes it no longer than it was ordered to be.
    """
    kept = ledger.kept(_NAME)
    if kept is None:
        return None
    try:
        state: dict[str, Any] = json.loads(kept)
        if state["version"] != _VERSION:
            return None
        uid, seconds = int(state["uid"]), state["seconds"]
        left = None if seconds is None else float(seconds) - max(0.0, now - float(state["at"]))
    except (ValueError, TypeError, KeyError):
        return None
    return Pause(left, uid) if left is None or left > 0 else None
