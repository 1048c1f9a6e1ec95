"""Known faults of DAMON by kernel version, and what this program does about them.

A probe would trigger the fault. So the version decides here, against the rule of
`overcommit.damon.capabilities`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

Version = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault that exists from version ``since`` until before ``fixed_in``. All sentences are for people."""

    since: Version
    fixed_in: Version
    what: str
    workaround: str
    hint: str


FAULTS = (
    # "mm/damon/core: fix damon_call() vs kdamond_fn() exit race", 2026; not in any stable series.
    Fault(
        since=(6, 14),
        fixed_in=(7, 1),
        what="a command to a kdamond whose last process ends at the same time hangs, and locks DAMON until "
        "the next boot",
        workaround="each monitor also watches a page of overcommit itself, so it does not end with its "
        "guest; overcommit reads from the tracepoint and sends a kdamond that pages out only on and off",
        hint="boot Linux 7.1 or later; until then use no other DAMON tool that watches processes",
    ),
)


def known_faults(release: str) -> tuple[Fault, ...]:
    """The faults of a kernel by its release (``uname -r``); none where the release has no version."""
    match = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", release)
    if match is None:
        return ()
    version = int(match[1]), int(match[2])
    return tuple(fault for fault in FAULTS if fault.since <= version < fault.fixed_in)
