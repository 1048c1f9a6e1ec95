"""What rich draws: text as it is, in lines that fit, and nothing of a name taken for markup."""

from __future__ import annotations

import pytest

from overcommit.cli.tables import Block, Line, Row, Table, columns, plain_lines, prose, table

ODD = ["[red]x[/red]", "[/]", "[link=file:///etc]x[/link]", ":smile:", "[@click=quit]x", "\\[red]"]
HIDDEN = ["a\nb", "\x1b[31mx", "\x9b2J", "\u202etxt.\u2066", "a\tb", "\u200b", "\ud800"]


@pytest.mark.parametrize("width", [None, 40])
@pytest.mark.parametrize("name", ODD)
def test_a_name_is_no_markup(name: str, width: int | None) -> None:
    blocks: list[Block] = [
        table(("domain", "size"), [(name, "1 B")]),
        prose(f"  {name}: gone"),
        f"fix: {name}",
    ]
    _header, row, sentence, fix = plain_lines(blocks, width)
    assert row.split() == [name, "1", "B"]
    assert sentence == f"  {name}: gone"
    assert fix == f"fix: {name}"


@pytest.mark.parametrize("width", [None, 40])
@pytest.mark.parametrize("name", HIDDEN)
def test_what_cannot_be_shown_is_escaped(name: str, width: int | None) -> None:
    blocks: list[Block] = [
        Table(("domain", "size"), (Row((name, "1 B"), below=(prose(f"      reason: {name}"),)),)),
        prose(f"  {name}: gone"),
        Line(f"error: {name}", "red", 6),
        name,
    ]
    lines = list(plain_lines(blocks, width))
    assert len(lines) == 6
    assert all(line.isprintable() for line in lines)


def test_prose_is_wrapped_for_a_terminal_only_and_loses_no_word() -> None:
    said = "  note: " + " ".join(f"word{n}" for n in range(40))
    (whole,) = plain_lines([prose(said)])
    assert whole == said
    first, *rest = plain_lines([prose(said)], 60)
    assert all(columns(line) <= 60 for line in (first, *rest))
    assert all(line.startswith("      word") for line in rest)
    assert " ".join((first.strip(), *map(str.strip, rest))) == said.strip()


def test_a_command_is_never_wrapped() -> None:
    said = "      fix: overcommitctl restore " + "x" * 100
    assert list(plain_lines([said], 60)) == [said]


def test_lines_below_a_row_follow_it() -> None:
    rows = (Row(("a", "1"), below=(prose("      why a"),)), Row(("b", "2")))
    assert list(plain_lines([Table(("n", "size"), rows)])) == [
        "  n  size",
        "  a     1",
        "      why a",
        "  b     2",
    ]


def test_names_give_way_to_figures_on_a_narrow_terminal() -> None:
    drawn = table(("domain", "first", "second"), [("n" * 40, "1023 MiB", "1023 MiB")])
    for width, name in ((80, 32), (50, 28), (20, 12)):
        header, row = plain_lines([drawn], width)
        assert row.endswith("  1023 MiB  1023 MiB")
        assert len(row) == len(header) == 2 + name + 20
