"""Every command that the program can print can be pasted, with what the operator gave to this one."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from overcommit.cli.main import overcommitctl
from overcommit.commands import OVERCOMMITCTL, VERBS, VIRSH, Given, Invocation
from tests.printed_commands import PLACE, Printed, printed_commands

OF_VIRSH = {"list", "resume", "domstate", "dommemstat", "memtune"}
"""What libvirt's manual page virsh(1) has; and with which we use it."""
ON_THE_LEDGER = {"--list", "--cancel"}
PRINTED = list(printed_commands())
CALLED = Invocation(connect_uri="qemu+unix:///system", policy="/a b/p.yaml", take_over=True)
WORDS = {
    Given.CONNECT: ["--connect", "qemu+unix:///system"],
    Given.POLICY: ["--policy", "/a b/p.yaml"],
    Given.TAKE_OVER: ["--take-over"],
}
ours = pytest.mark.parametrize(
    ("place", "words"),
    [(place, words) for place, words in PRINTED if words[0] == OVERCOMMITCTL],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)


def usable(words: list[str]) -> click.Context:
    """What click makes of the words after the program's name; it raises where they are no command."""
    program = overcommitctl.context_class(overcommitctl, **overcommitctl.context_settings)
    verb = overcommitctl.get_command(program, words[0])
    assert verb is not None, words
    return verb.make_context(words[0], [*words[1:]], parent=program)


def completed(words: list[str]) -> list[str]:
    return shlex.split(CALLED.complete(shlex.join(words)))


def test_the_source_is_read_as_it_is_shown() -> None:
    """Else what follows would test nothing."""
    assert len(PRINTED) > 40
    assert {words[0] for _, words in PRINTED} == {OVERCOMMITCTL, VIRSH}
    example = Printed("x", f"it ends by itself; to end it: overcommitctl release '{PLACE}; x'; or wait")
    assert example.commands == ("overcommitctl release '1; x'",)


@ours
def test_what_is_printed_is_a_command_and_nothing_else(place: str, words: list[str]) -> None:
    assert usable(words[1:]).info_name == words[1], place


@ours
def test_it_gets_what_the_operator_gave(place: str, words: list[str]) -> None:
    whole = completed(words)
    usable(whole[1:])
    needed = set() if ON_THE_LEDGER & set(words) else VERBS[words[1]]
    for given, expected in WORDS.items():
        there = " ".join(expected) in " ".join(whole)
        assert there == (given in needed), f"{place}: {shlex.join(whole)}"
    added = {word for given in WORDS.values() for word in given}
    assert [word for word in whole if word not in added] == words
    assert completed(whole) == whole, "which may happen twice"


@pytest.mark.parametrize(("place", "words"), [p for p in PRINTED if p[1][0] == VIRSH])
def test_virsh_is_told_which_libvirt(place: str, words: list[str]) -> None:
    expected = words if words[1] == "-c" else [VIRSH, "-c", "qemu+unix:///system", *words[1:]]
    assert completed(words) == expected
    assert expected[3] in OF_VIRSH, place


def test_each_verb_is_known_with_options_that_it_has() -> None:
    """A new verb says in `overcommit.commands.VERBS` on which options it depends."""
    assert set(VERBS) == set(overcommitctl.commands)
    for verb, needed in VERBS.items():
        there = {name for parameter in overcommitctl.commands[verb].params for name in parameter.opts}
        assert {given.value for given in needed} <= there, verb


@pytest.mark.parametrize(
    "text",
    [
        "overcommitctl explain 'x; overcommitctl plan'",
        "virsh resume $'a\\x1b virsh resume b'",
        """overcommitctl release 'it'"'"'s overcommitctl plan'""",
    ],
)
def test_a_name_in_a_command_is_no_command(text: str) -> None:
    before, after = (
        shlex.split(text.replace("$'", "'")),
        shlex.split(CALLED.complete(text).replace("$'", "'")),
    )
    assert after[-1] == before[-1]


def test_a_program_about_which_is_spoken_is_no_command() -> None:
    for text in ("use the overcommitctl that came with it", "/usr/bin/overcommitctl plan", "my-virsh list"):
        assert CALLED.complete(text) == text


def test_nothing_is_added_where_nothing_was_given() -> None:
    for _, words in PRINTED:
        if words[0] == OVERCOMMITCTL:
            assert Invocation().complete(shlex.join(words)) == shlex.join(words)


def test_a_hint_never_ends_a_command_with_prose() -> None:
    """Else it could not be pasted; `overcommitctl doctor names it` would be refused for its arguments."""
    with pytest.raises(click.UsageError, match=re.escape("unexpected extra argument")):
        usable(["doctor", "names", "it"])
