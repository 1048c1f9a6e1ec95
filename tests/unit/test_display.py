"""What others name, as it is shown, and commands as a shell reads them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import pytest

from overcommit.cli.tables import MOST_COLUMNS, columns, fitted
from overcommit.display import Subject, command, display_name, plain

UUID = "00000000-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("web", "web"),
        ("süß-日本語 😀", "süß-日本語 😀"),
        ("a\nb\r\x1b[2Jc\x07", "a\\nb\\r\\x1b[2Jc\\x07"),
        ("a\u202eb\u2066c\u200f", "a\\u202eb\\u2066c\\u200f"),
        ("a\u2028b\x85c\u00a0", "a\\u2028b\\x85c\\xa0"),
        ("\ud800\udcff", "\\ud800\\udcff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_what_a_terminal_or_a_log_must_not_get_is_escaped(text: str, shown: str) -> None:
    assert plain(text) == shown
    assert plain(plain(text)) == shown


@pytest.mark.parametrize("text", ["x" * 33, "日" * 17, "a" + "日" * 40, "x" * 255, "e\u0301" * 40])
def test_a_name_that_is_too_long_keeps_its_two_ends(text: str) -> None:
    shown = fitted(text)
    assert MOST_COLUMNS - 4 <= columns(shown) <= MOST_COLUMNS
    head, tail = shown.split("…")
    assert head
    assert tail
    assert text.startswith(head)
    assert text.endswith(tail)
    assert fitted("x" * MOST_COLUMNS) == "x" * MOST_COLUMNS


@pytest.mark.parametrize(
    "name", ["web", "my web", "p;$(id -un)", "it's", "a&&b", "`id`", "süß", "a b*?[x]", "!x"]
)
def test_a_name_that_can_be_shown_is_the_word(name: str) -> None:
    said = command("overcommitctl", "release", display_name(Subject(name, UUID)))
    assert shlex.split(said) == ["overcommitctl", "release", name]


@pytest.mark.parametrize(
    "name", ["-rf", "--all", "7", "0x\n", "a\u202eb", " web", "", UUID.replace("1", "2"), "\ud800"]
)
def test_a_name_that_would_mislead_is_left_for_the_uuid(name: str) -> None:
    assert command("virsh", "resume", display_name(Subject(name, UUID))) == f"virsh resume {UUID}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="asks bash")
@pytest.mark.parametrize("name", [b"a\x1bb", b"a\xffb'\\c", "a\u202eb".encode(), b"a\nb $x", b"plain $(id)"])
def test_any_file_can_be_named_to_bash(name: bytes) -> None:
    said = command("printf", "%s", os.fsdecode(name))
    assert said.isprintable()
    asked = subprocess.run(["bash", "-c", said], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    assert asked.stdout == name
