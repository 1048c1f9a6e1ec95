"""Blocks of output: lines, prose and tables, drawn by rich.

rich is imported when something is drawn, so that ``overcommitctl --help`` is fast. Names of domains are
escaped before, and never read as markup.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from overcommit.display import plain

if TYPE_CHECKING:
    from rich.text import Text

MOST_COLUMNS, FEWEST_COLUMNS = 32, 12
"""The bounds to which a terminal shortens a name. A pipe gets the whole name."""
_GAP = 2
_WIDEST = 100_000
"""More columns than any table has, so that nothing in a pipe is cut."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of text. A terminal shows its first ``coloured`` characters in a ``colour``.

    ``prose`` may be wrapped at the terminal's width. A line with a command may not: it is pasted.
    """

    text: str
    colour: str = ""
    coloured: int = 0
    prose: bool = False


def prose(text: str) -> Line:
    """A sentence without a command in it."""
    return Line(text, prose=True)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table. The lines ``below`` it are indented."""

    cells: tuple[str, ...]
    below: tuple[Line, ...] = ()
    colour: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns as wide as their longest cell.

    On a terminal only ``names``, which come from others, are shortened.

    The columns in ``left`` are aligned to the left, the others to the right.
    """

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    names: frozenset[int] = frozenset({0})
    left: frozenset[int] = frozenset({0})


Block = str | Line | Table


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    names: Collection[int] = (0,),
    left: Collection[int] = (0,),
) -> Table:
    """A table of plain rows."""
    body = tuple(Row(tuple(row)) for row in rows)
    return Table(tuple(header), body, names=frozenset(names), left=frozenset(left))


def columns(text: str) -> int:
    """The columns of a terminal that the text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def fitted(text: str, most: int = MOST_COLUMNS) -> str:
    """The text, or its two ends with an ellipsis between them, in no more than ``most`` columns."""
    if columns(text) <= most:
        return text
    head, tail = 0, len(text)
    while columns(text[: head + 1]) <= most // 2:
        head += 1
    while columns(text[tail - 1 :]) <= (most - 1) // 2:
        tail -= 1
    return f"{text[:head]}…{text[tail:]}"


def begun(text: str, most: int) -> str:
    """The text, or its beginning with an ellipsis, in no more than ``most`` columns."""
    if columns(text) <= most:
        return text
    head = min(len(text), max(0, most - 1))
    while head and columns(text[:head]) > most - 1:
        head -= 1
    return f"{text[:head]}…" if most else ""


def drawn(block: Block, width: int | None = None) -> Iterator[Text]:
    """The lines of a block, for a terminal of ``width`` columns, or for a pipe."""
    from rich.text import Text

    match block:
        case str():
            yield Text(plain(block))
        case Line(text=said, colour=colour, coloured=coloured, prose=wraps):
            shown = plain(said)
            line = Text(shown)
            if colour:
                line.stylize(colour, 0, len(plain(said[:coloured])) or len(shown))
            if wraps and width is not None:
                yield from _wrapped(line, width)
            else:
                yield line
        case Table():
            yield from _drawn_table(block, width)


def plain_lines(blocks: Iterable[Block], width: int | None = None) -> Iterator[str]:
    """The blocks as a pipe gets them."""
    for block in blocks:
        for line in drawn(block, width):
            yield line.plain


def _wrapped(line: Text, width: int) -> Iterator[Text]:
    """The line, with its continuation indented by four columns more."""
    from rich.console import Console
    from rich.text import Text

    indent = len(line.plain) - len(line.plain.lstrip())
    hanging = " " * min(indent + 4, width // 2)
    console = Console(width=width, color_system=None)
    first, *_ = line.wrap(console, width, no_wrap=False) or [line]
    yield _stripped(first)
    rest = line[len(first.plain) :] if len(first.plain) < len(line.plain) else Text()
    rest = rest[len(rest.plain) - len(rest.plain.lstrip()) :]
    if rest.plain:
        for part in rest.wrap(console, max(1, width - len(hanging))):
            yield Text(hanging) + _stripped(part)


def _stripped(text: Text) -> Text:
    text.rstrip()
    return text


def _drawn_table(block: Table, width: int | None) -> Iterator[Text]:
    rows = [tuple(plain(cell) for cell in row.cells) for row in block.rows]
    if width is not None:
        rows = _narrowed(block, rows, width)
    header, *lines = _grid(block, rows)
    yield header
    for row, line in zip(block.rows, lines, strict=True):
        yield line
        for text in row.below:
            yield from drawn(text, width)


def _narrowed(block: Table, rows: list[tuple[str, ...]], width: int) -> list[tuple[str, ...]]:
    """The rows with names short enough for the width, as far as that is possible."""
    others = [i for i in range(len(block.header)) if i not in block.names]

    def widest(column: int) -> int:
        return max(map(columns, (block.header[column], *(row[column] for row in rows))))

    taken = sum(map(widest, others)) + _GAP * len(block.header)
    most = min(MOST_COLUMNS, max(FEWEST_COLUMNS, (width - taken) // max(1, len(block.names))))
    return [
        tuple(fitted(cell, most) if i in block.names else cell for i, cell in enumerate(row)) for row in rows
    ]


def _grid(block: Table, rows: list[tuple[str, ...]]) -> list[Text]:
    """A line for the header and each row, drawn without borders."""
    from rich.console import Console
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for i, name in enumerate(block.header):
        justify = "left" if i in block.left else "right"
        grid.add_column(Text(name), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row, cells in zip(block.rows, rows, strict=True):
        grid.add_row(*map(Text, cells), style=row.colour or None)
    console = Console(width=_WIDEST, color_system=None)
    lines = []
    for segments in console.render_lines(grid, pad=False):
        line = Text("  ").append_text(Text.assemble(*((s.text, s.style or "") for s in segments)))
        lines.append(_stripped(line))
    return lines
