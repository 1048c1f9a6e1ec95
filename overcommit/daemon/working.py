"""Collects figures of the controller's own work."""

from __future__ import annotations

from overcommit.daemon.accounting import Accounting
from overcommit.daemon.acting import Acting
from overcommit.daemon.state import Work
from overcommit.daemon.watching import Watching
from overcommit.model.policy import Policy


def work_of(accounting: Accounting, acting: Acting, watching: Watching, policy: Policy) -> Work:
    """The present figures."""
    return Work(
        swap=accounting.swap(policy.swap, granted=acting.granted),
        actions=tuple(acting.tally.document),
        monitor_threads=watching.threads,
    )
