"""Keeps the bytes written to swap on disks in the last day in the ledger, across restarts."""

from __future__ import annotations

import json
from typing import Any

from overcommit.model.facts import HostFacts
from overcommit.model.moments import Wall
from overcommit.plan.swap_watch import WriteAccount, to_disk
from overcommit.records.ledger import Ledger

KEEP_SECONDS = 300.0
"""The interval of storing it, because a process that is killed stores nothing."""
_NAME = "swap writes"


def keep(ledger: Ledger, host: HostFacts, account: WriteAccount, *, now: Wall) -> None:
    """Store the account with what is needed to continue it. ``now`` is in seconds since the epoch."""
    state = {
        "at": now,
        "boot_id": host.boot_id,
        "to_disk": to_disk(host),
        "by_hour": account.by_hour,
        "into_seconds": account.into_seconds,
        "ahead_bytes": account.ahead_bytes,
    }
    ledger.keep(_NAME, json.dumps(state))


def take_up(ledger: Ledger, host: HostFacts, *, now: Wall) -> WriteAccount | None:
    """The continued account; None: none is stored that can be understood, or it is over.

    Within one boot, writes in between are known from the kernel's counters. After another boot the account
    has only what this one wrote: the last writes of the other are not known.
    """
    kept = ledger.kept(_NAME)
    if kept is None:
        return None
    try:
        state: dict[str, Any] = json.loads(kept)
        account = WriteAccount(
            by_hour=tuple(int(written) for written in state["by_hour"]),
            into_seconds=float(state["into_seconds"]),
            ahead_bytes=int(state["ahead_bytes"]),
        )
        seconds, boot_id, before = now - Wall(float(state["at"])), state["boot_id"], state["to_disk"]
    except (ValueError, TypeError, KeyError):
        return None
    written = to_disk(host)
    if seconds < 0 or written is None or before is None or not account.by_hour:
        return None
    if boot_id == host.boot_id:
        written -= int(before)
    return account.after(max(0, written), seconds)
