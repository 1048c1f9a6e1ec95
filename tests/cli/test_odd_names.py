"""Names that others give, through the whole program: no verb sends one to the terminal as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.testing import FakeGuest, FakeHost, FakeHypervisor
from overcommit.units import GIB, MIB
from tests.cli.conftest import Run
from tests.installed_fakes import put_in_place

POLICY = """
version: 1
host: {reserve: 8%, reclaim: proactive, swap: {max_used: 60%, max_write: 50MiB/s}}
classes: {all: {floor: 20%, cold_after: 20s}}
default_class: all
"""
TITLE, LINES, TURNED = "\x1b]0;mine\x07", "a\nerror: b\rc", "\u202etxt.\u2066"


@pytest.fixture
def policy(tmp_path: Path, mocker: MockerFixture) -> Path:
    free = set(range(25, 100))
    host = FakeHost(
        [
            FakeGuest(TITLE, "uuid-1", 501, 128 * MIB, resident=set(range(100)), hot=set(range(16))),
            FakeGuest(LINES, "uuid-2", 502, 128 * MIB, set(range(100)), hot=set(range(8)), free=free),
            FakeGuest(TURNED, "uuid-3", 503, 128 * MIB, resident=set(range(100)), hot=set(range(16))),
        ],
        total_bytes=2 * GIB,
    )
    mocker.patch("os.geteuid", return_value=0)
    put_in_place(mocker, host)
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def test_no_verb_shows_a_name_as_it_is(run: Run, policy: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(FakeHypervisor, "set_balloon", return_value=None)  # quarantines are shown, too
    by_policy = ("--policy", policy)
    told = ""
    for arguments in (
        ("doctor", *by_policy),
        ("plan", *by_policy),
        ("plan", *by_policy, "--domain", TURNED),
        ("plan", *by_policy, "-o", policy.with_name(f"{TURNED}.json")),
        ("explain", TITLE, *by_policy),
        ("explain", "\x9bnone", *by_policy),
        ("apply", "--yes", *by_policy),
        ("status", *by_policy),
        ("status", "\x9bnone", *by_policy),
        ("history",),
        ("history", "\x9bnone"),
        ("release", LINES),
        ("release", LINES),
        ("release", "\x9bnone"),
        ("reserve", "1MiB", "--for", TITLE, *by_policy),
        ("reserve", "--list"),
        ("restore",),
        ("\x9bnone",),
        ("plan", "--policy", "\x9bnone"),
        ("plan", "--domain", "\x9bnone", *by_policy),
    ):
        ended = run(*arguments)
        for line in (ended.out + ended.err).split("\n"):
            assert line.isprintable(), f"{arguments}: {line!r}"
            assert not line.startswith("error: b"), arguments
        told += ended.out
    assert r"\x1b]0;mine\x07" in told
    assert r"a\nerror: b\rc" in told
    assert r"\u202etxt.\u2066" in told


@pytest.mark.parametrize("verb", [("plan",), ("status",), ("doctor",), ("history",)])
def test_programs_get_names_as_they_are_in_letters_that_every_terminal_has(
    run: Run, policy: Path, verb: tuple[str, ...]
) -> None:
    run("apply", "--yes", "--policy", policy)
    more = () if verb == ("history",) else ("--policy", policy)
    ended = run(*verb, "--json", *more)
    assert ended.out.replace("\n", "").isprintable()
    assert ended.out.isascii()
    assert TURNED in json.dumps(json.loads(ended.out), ensure_ascii=False)
