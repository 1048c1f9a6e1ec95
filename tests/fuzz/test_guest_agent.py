"""What a guest's agent answers: any text is a name of ours, a number, or a refusal; no daemon ends by it."""

from __future__ import annotations

import base64
import collections
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from overcommit.errors import HostError
from overcommit.hypervisor.guest_agent import GuestAgent
from overcommit.testing import FakeAgent, FakeGuest, FakeHost, FakeHypervisor
from overcommit.testing.fake_agent import Flushed
from overcommit.units import MIB
from tests.faults.daemon import Disk, World

POLICY = """
version: 1
host: {reserve: 8%}
classes:
  all:
    {floor: 20%, cold_after: 20s, actuators: [free_page_reporting, balloon],
     guest_help: [compaction, damon_reclaim]}
default_class: all
"""
COMMANDS = ["guest-info", *(f"guest-file-{verb}" for verb in ("open", "read", "write", "flush", "close"))]
LONG = "a number of 5000 digits"
"""Stands for one in an answer: nothing else may hold it, for Python does not even show it."""
NUMBERS = (0, -1, 1.5, float("nan"), float("inf"), 1e308, 10**18, LONG)
WORDS = ("", "x", "\0", "\x1b[31m", "\ud800", "guest-file-read", "TgA=", "Tg==", "***")
ATOMS: st.SearchStrategy[object] = st.sampled_from([None, True, False, *NUMBERS, *WORDS, [], {}])
KEYS = st.sampled_from(["name", "enabled", "supported_commands", "buf-b64", "count", "return", "error", "x"])
VALUES = st.recursive(
    ATOMS | st.text(max_size=20) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
KNOWN = st.lists(st.fixed_dictionaries({"name": VALUES, "enabled": VALUES}), max_size=4)
ANSWERS = st.one_of(
    VALUES,
    VALUES.map(lambda value: {"return": value}),
    KNOWN.map(lambda known: {"return": {"supported_commands": known}}),
    VALUES.map(lambda value: {"return": {"buf-b64": value}}),
    st.binary(max_size=60).map(lambda data: {"return": {"buf-b64": base64.b64encode(data).decode()}}),
)


def written(answer: object, cut: int | None) -> str:
    """As text, whole or cut off; numbers of any length are written."""
    return _dumps(answer)[:cut]


def _dumps(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_dumps(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_dumps, value)) + "]"
    if value == LONG:
        return 5000 * "9"
    return json.dumps(value)


TEXTS = st.one_of(
    st.builds(written, ANSWERS, st.none() | st.integers(0, 200)),
    st.text(max_size=200),
    st.integers(1, 20_000).map(lambda depth: '{"return":' + "[" * depth + "]" * depth + "}"),
    st.integers(1, 20_000).map(lambda depth: '{"return":' + '{"a":' * depth + "1" + "}" * (depth + 1)),
    st.integers(0, 5_000_000).map(lambda size: json.dumps({"return": "x" * size})),
)
Make = Callable[[str], str | None]
"""The answer to a command, None: what a sound agent says."""


class Evil(FakeAgent):
    """An agent that answers as it is told to."""

    make: Make

    def answer(self, command: str, flushed: Flushed) -> str:
        said = self.make(json.loads(command)["execute"])
        if said is not None:
            return said
        try:
            return super().answer(command, flushed)
        except (KeyError, TypeError) as error:  # a handle that it never gave
            return json.dumps({"error": {"class": "GenericError", "desc": str(error)}})


def guest(number: int, agent: FakeAgent) -> FakeGuest:
    return FakeGuest(
        name=f"g{number}",
        uuid=f"00000000-0000-0000-0000-00000000000{number}",
        pid=500 + number,
        memory_bytes=256 * MIB,
        resident=set(range(230)),
        hot=set(range(16)),
        free=set(range(150, 230)),
        scattered=set(range(150, 230)),
        free_page_reporting=True,
        agent=agent,
    )


def evil(make: Make) -> Evil:
    agent = Evil()
    agent.make = make
    return agent


def lived(make: Make, seconds: float) -> None:
    """A daemon's whole life beside a guest with such an agent: the other guest is served, all is put back."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory), POLICY, inhabitants=[guest(1, evil(make)), guest(2, FakeAgent())])
        with Disk().in_place():
            daemon = world.daemon()
            daemon.run_for(seconds)
            assert "g2" in {domain["name"] for domain in daemon.server.status["domains"]}
            written = sum(path.stat().st_size for path in world.directory.glob("generation*"))
            assert written < 64 * 1024
            assert max(map(len, daemon.said), default=0) < 2000
            assert len(daemon.server.text) < 32 * 1024
            daemon.stop()
            world.verbs.restore()


def outcome(ask: Callable[[], frozenset[str] | str | None]) -> tuple[frozenset[str] | str | None, str]:
    """What was said, or why nothing is taken from it."""
    try:
        return ask(), ""
    except HostError as error:
        return None, str(error)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(COMMANDS), TEXTS)
def test_any_answer_is_a_known_name_a_number_or_a_refusal(command: str, text: str) -> None:
    host = FakeHost([guest(1, evil(lambda asked: text if asked == command else None))])
    agent = GuestAgent(FakeHypervisor(host), host.guests[0].uuid)
    for ask in (agent.commands, lambda: agent.read_setting("enabled"), lambda: agent.read_setting("min_age")):
        said, refusal = outcome(ask)
        assert len(refusal) < 500
        assert refusal.isprintable()
        assert said is None or isinstance(said, frozenset) or re.fullmatch(r"[YN]|\d{1,20}", said)
        assert not isinstance(said, frozenset) or said <= set(COMMANDS)


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_daemon_ends_by_an_agent(data: st.DataObject) -> None:
    answers = data.draw(st.lists(st.none() | TEXTS, min_size=1, max_size=12))
    turns = collections.deque(answers)

    def make(_command: str) -> str | None:
        turns.rotate(-1)
        return turns[-1]

    lived(make, 65)


def _nested(depth: int) -> str:
    return '{"return": ' + "[" * depth + "]" * depth + "}"


def _read(text: bytes) -> str:
    return json.dumps({"return": {"buf-b64": base64.b64encode(text).decode(), "count": 1}})


MILLION = json.dumps(
    {"return": {"supported_commands": [{"name": f"c{number}", "enabled": True} for number in range(300_000)]}}
)
CASES: dict[str, tuple[str | None, str]] = {
    "nested 500 deep": (None, _nested(500)),
    "nested 5000 deep": (None, _nested(5000)),
    "5000 objects": (None, '{"return":' + '{"a":' * 5000 + "1" + "}" * 5001),
    "NaN": (None, '{"return": NaN}'),
    "a number of 5000 digits": (None, '{"return": ' + "9" * 5000 + "}"),
    "10 MB": (None, json.dumps({"return": "x" * 10_000_000})),
    "300,000 commands": ("guest-info", MILLION),
    "a file of 3 MB": ("guest-file-read", _read(b"N" + b"9" * 3_000_000)),
    "a file of all bytes": ("guest-file-read", _read(bytes(range(256)) * 10)),
    "a handle that is an object": ("guest-file-open", '{"return": {"a": 1}}'),
    "nested at a read": ("guest-file-read", _nested(5000)),
    "nested at a flush": ("guest-file-flush", _nested(5000)),
    "half a character": (None, '{"return": "\udcff"}'),
}


@pytest.mark.parametrize("name", CASES)
def test_no_daemon_ends_by_what_once_ended_one(name: str) -> None:
    command, text = CASES[name]
    lived(lambda asked: text if command in {None, asked} else None, 90)
