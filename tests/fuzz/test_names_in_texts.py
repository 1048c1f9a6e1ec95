"""Domains may be called anything: no name reaches the terminal as it is, no command means another one."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex

from hypothesis import example, given
from hypothesis import strategies as st

from overcommit.cli import render, status
from overcommit.cli.accounts import limit_findings
from overcommit.cli.history_text import events_text, quarantine_texts, reservation_text
from overcommit.cli.tables import columns, plain_lines, table
from overcommit.control.naming import names_of
from overcommit.control.status import quarantine_json, status_document
from overcommit.display import plain
from overcommit.errors import UsageError
from overcommit.model.accounts import CgroupLimit
from overcommit.model.facts import Incarnation, RunState
from overcommit.model.history import Event
from overcommit.model.outcome import Status
from overcommit.model.part import MemoryPart
from overcommit.model.past import Left, Past, Quarantine, Reservation
from overcommit.model.policy import Actuator
from overcommit.plan.planner import make_plan
from overcommit.units import GIB, MIB
from tests import scenarios

ODD = "ab -$`(;|&<>'\"\\!*?~#%{}\n\r\t\x1b\x07\x9b\u202e\u2066\u200b\u2028\ud800日e\u0301"
NAMES = st.text(min_size=1, max_size=60) | st.text(ODD, min_size=1, max_size=80)
OTHER = "00000000-0000-4000-8000-000000000001"
SEEDS = [
    "p;$(id -un)",
    "-rf",
    "7",
    OTHER,
    "a\nerror: b",
    "\x1b]0;x\x07",
    "a\u202etxt",
    "x" * 255,
    "'",
    "a  b ",
]
SEEDS += ["\ud800", "virsh resume b", "b; overcommitctl release c ends that", " "]
POLICY = scenarios.policy()
NOW = scenarios.NOW
COMMANDS = re.compile(r"(?:overcommitctl release|virsh (?:resume|domstate|dommemstat|memtune)) ")


def called(name: str) -> Incarnation:
    return dataclasses.replace(scenarios.incarnation(ascii(name)), name=name)


def texts_about(name: str) -> list[str]:
    """Every text of every verb that names a domain, as it is told."""
    facts = scenarios.domain("x", balloon=scenarios.guest_says(600 * MIB))
    web = dataclasses.replace(facts, incarnation=called(name))
    limit = CgroupLimit(
        path="/machine.slice/x.scope",
        file="memory.max",
        limit_bytes=MIB,
        current_bytes=MIB,
        cache_bytes=0,
        own=True,
    )
    silent = dataclasses.replace(web.definition, stats_period_seconds=0)
    states = (
        web,
        dataclasses.replace(web, state=RunState.PAUSED, limits=(limit,)),
        dataclasses.replace(web, state=RunState.OTHER),
        dataclasses.replace(web, definition=silent, busy_with=f"a job of {name}"),
    )
    quarantine = Quarantine(
        domain=web.incarnation, actuator=Actuator.BALLOON, reason=f"{name} lies", until=NOW + 60
    )
    promise = Reservation(id=1, purpose=name, size_bytes=MIB, expires_at=NOW + 60)
    left = Left(part=MemoryPart(web.incarnation), size_bytes=GIB // 2, baseline_bytes=GIB, generation=3)
    past = Past(quarantines=(quarantine,), left=(left,), reservations=(promise,))
    event = Event(
        at=NOW,
        boot_id="b",
        run="r",
        generation=1,
        kind="balloon",
        about=name,
        domain=web.incarnation,
        status=Status.DONE,
        detail=f"{name} gave",
        because=f"{name} had",
    )
    lines: list[str] = []
    heat = scenarios.heat(web, [(300.0, GIB)], watched=300.0, policy=POLICY)
    for state in states:
        seen = scenarios.snapshot(scenarios.host(), state, gaps={f"domain {name}": f"no pid of {name}"})
        plan = make_plan(seen, {state.incarnation.uuid: heat}, POLICY, past=past)
        lines += plain_lines([*render.plan_text(plan, verbose=True), *render.explain_text(plan)])
        document = json.loads(json.dumps(status_document(seen, POLICY, past, ())))
        lines += plain_lines(status._text(document, NOW))
        lines += [text for found in limit_findings([state]) for text in (found.about, found.text, found.fix)]
    lines += plain_lines([events_text([event], [None])])
    lines += quarantine_texts(quarantine_json(quarantine))
    lines.append(reservation_text(promise, NOW))
    return [plain(line) for line in lines]  # as `tell` does


def word_of(text: str, begins: int) -> str:
    """The domain of the command that begins there."""
    lexer = shlex.shlex(text[COMMANDS.match(text, begins).end() :], posix=True)  # type: ignore[union-attr]
    lexer.whitespace_split, lexer.commenters = True, ""
    return str(lexer.get_token())


def check(name: str) -> None:
    # What a name itself looks like is no command of ours: those are where a plain name has them.
    usual = "plainly"
    named = []
    for line, same in zip(texts_about(name), texts_about(usual), strict=True):
        assert line.isprintable()
        for found in COMMANDS.finditer(same):
            begins = len(same[: found.start()].replace(usual, plain(name)))
            named.append(word_of(line, begins))
    assert len(named) >= 8
    # Whoever else runs, each of them means this one; virsh takes digits for an id before it looks at names.
    running = {called(name).uuid: name, OTHER: "other"}
    for word in named:
        assert names_of((word,), running) == (name,)
        assert not word.isdecimal()
        assert not word.startswith("-")


@given(NAMES)
def test_no_name_reaches_a_terminal_as_it_is_and_every_command_means_that_domain(name: str) -> None:
    check(name)


def test_names_that_have_been_trouble() -> None:
    for name in SEEDS:
        check(name)


@given(st.lists(NAMES, min_size=1, max_size=4))
@example(["x" * 255, "b"])
def test_no_name_widens_a_table_or_moves_its_columns(names: list[str]) -> None:
    drawn = table(("domain", "size"), [(name, "1.0 GiB") for name in names])
    header, *rows = plain_lines([drawn], width=80)
    assert {columns(row) for row in rows} == {columns(header)} or not rows
    assert max(map(columns, (header, *rows))) <= 2 + 32 + 2 + 7
    assert all(row.isprintable() for row in rows)


@given(NAMES, st.lists(NAMES, max_size=3))
def test_who_is_not_there_is_told_so_in_one_line(word: str, running: list[str]) -> None:
    by_uuid = {called(name).uuid: name for name in running}
    hint = ""
    try:
        assert set(names_of((word,), by_uuid)) <= set(running)
    except UsageError as error:
        hint = error.hint or ""
    assert hint.isprintable()
