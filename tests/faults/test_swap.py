"""Swap that takes too long, or was written enough, is left alone, and named (S7)."""

from __future__ import annotations

import pytest

from overcommit.errors import StalePlan
from overcommit.model.action import PageoutAction
from overcommit.model.plan import Plan
from overcommit.units import MIB
from tests.faults.conftest import Installation


def on_disk(installation: Installation, seconds_per_read: float) -> Plan:
    """A plan after a watch in which 4 MiB of the other guest's hot memory came back from a disk."""
    host = installation.host
    host.swap_device, host.swap_encrypted, host.swap_seconds_per_read = "dm-0", True, seconds_per_read
    host.guests[1].hot |= set(range(4))
    host.page_out(host.guests[1], range(4), 4 * MIB)
    return installation.plan()


def pageouts(plan: Plan) -> list[PageoutAction]:
    return [action for action in plan.actions if isinstance(action, PageoutAction)]


def test_a_disk_that_showed_itself_slow_during_the_watch_gets_no_more(installation: Installation) -> None:
    plan = on_disk(installation, 0.048)
    assert {action.blocked for action in pageouts(plan)} == {
        "swap on /dev/dm-0 is slow: 48 ms per read, the policy allows 20 ms"
    }
    installation.apply(plan)
    assert installation.host.swap_used_bytes == 0


def test_a_fast_disk_does_and_no_whole_day_is_known(installation: Installation) -> None:
    plan = on_disk(installation, 0.002)
    assert pageouts(plan)
    assert all(action.blocked is None for action in pageouts(plan))
    (note,) = [note for note in plan.notes if "swap" in note]
    assert note.startswith("the writes to swap on /dev/dm-0 are known for the last ")
    installation.apply(plan)
    assert installation.host.swap_used_bytes > 0


def test_a_plan_is_stale_when_zram_has_reached_its_limit_since(installation: Installation) -> None:
    plan = installation.plan()
    assert pageouts(plan)
    installation.host.zram_limit_bytes = MIB
    with pytest.raises(StalePlan, match=r"swap has room for only .* its mem_limit is 1\.0 MiB"):
        installation.apply(plan)
