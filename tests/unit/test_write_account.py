"""What was written to swap in a day, over restarts of the daemon and of the host (rule S7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from overcommit.daemon.write_account import keep, take_up
from overcommit.model.moments import Wall
from overcommit.plan.swap_watch import WriteAccount, to_disk
from overcommit.records.ledger import Ledger
from overcommit.units import GIB, MIB
from tests.unit.test_swap_watch import HOUR, disk, reading, zram

AT = Wall(1_000_000.0)
ACCOUNT = WriteAccount(by_hour=(GIB, 2 * GIB), into_seconds=600.0, ahead_bytes=5)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path, warn=lambda said: pytest.fail(said))


def test_nothing_was_kept(ledger: Ledger) -> None:
    assert take_up(ledger, reading(disk()), now=AT) is None


def test_what_was_written_while_no_daemon_ran_is_counted(ledger: Ledger) -> None:
    keep(ledger, reading(disk(), out=10 * GIB), ACCOUNT, now=AT)
    same = take_up(ledger, reading(disk(), out=10 * GIB), now=AT)
    assert same == ACCOUNT.after(0, 0.0)
    later = take_up(ledger, reading(disk(), out=13 * GIB), now=AT + HOUR)
    assert later == ACCOUNT.after(3 * GIB, HOUR)
    assert later.written_bytes == 6 * GIB - 5


def test_after_a_boot_it_is_what_this_boot_wrote(ledger: Ledger) -> None:
    keep(ledger, reading(disk(), out=10 * GIB), ACCOUNT, now=AT)
    after = take_up(ledger, reading(disk(), out=GIB, boot="boot-2"), now=AT + HOUR)
    assert after == ACCOUNT.after(GIB, HOUR)


def test_what_is_over_or_unknown_is_not_gone_on_with(ledger: Ledger) -> None:
    keep(ledger, reading(disk(), out=GIB), ACCOUNT, now=AT)
    assert take_up(ledger, reading(disk(), out=GIB), now=AT - 1) is None, "the clock was set back"
    assert take_up(ledger, reading(disk(), out=None), now=AT) is None
    over = take_up(ledger, reading(disk(), out=GIB), now=AT + 30 * HOUR)
    assert over is not None
    assert over.written_bytes == 0
    keep(ledger, reading(disk(), out=None), ACCOUNT, now=AT)
    assert take_up(ledger, reading(disk(), out=GIB), now=AT) is None


@pytest.mark.parametrize("rubbish", ["", "[1]", "{}", '{"by_hour": 7}', "null", '{"by_hour": ["x"]}'])
def test_rubbish_is_no_account(ledger: Ledger, rubbish: str) -> None:
    ledger.keep("swap writes", rubbish)
    assert take_up(ledger, reading(disk()), now=AT) is None


def test_zram_wears_no_disk() -> None:
    assert to_disk(reading(zram(written=MIB), out=GIB)) == 0
    assert to_disk(reading(zram(written=MIB), disk(), out=GIB)) == GIB - MIB
    assert to_disk(reading(disk(), out=None)) is None
