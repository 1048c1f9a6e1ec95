"""Keeps an ordered pause in the ledger, across restarts."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from overcommit.model.moments import Wall
from overcommit.records.ledger import Ledger

_NAME, _VERSION = "pause", 1


class Pause(NamedTuple):
    """The seconds that are left, None: until an order to resume; and the user who ordered it."""

    seconds: float | None
    uid: int


def keep(ledger: Ledger, pause: Pause, *, now: Wall) -> bool:
    """Store a pause that begins ``now`` (seconds since the epoch).

    Returns:
        Whether the disk accepted it.
    """
    return ledger.keep(_NAME, json.dumps({"version": _VERSION, "at": now, **pause._asdict()}))


def end(ledger: Ledger) -> bool:
    """Remove the stored pause, by order.

    Returns:
        Whether the disk accepted that.
    """
    return ledger.keep(_NAME, json.dumps(None))


def take_up(ledger: Ledger, *, now: Wall) -> Pause | None:
    """The rest of the stored pause; None: it is over, there was none, or it cannot be understood.

    A clock that was set back does not make it longer than it was ordered.
    """
    kept = ledger.kept(_NAME)
    if kept is None:
        return None
    try:
        state: dict[str, Any] = json.loads(kept)
        if state["version"] != _VERSION:
            return None
        uid, seconds = int(state["uid"]), state["seconds"]
        left = None if seconds is None else float(seconds) - max(0.0, now - Wall(float(state["at"])))
    except (ValueError, TypeError, KeyError):
        return None
    return Pause(left, uid) if left is None or left > 0 else None
