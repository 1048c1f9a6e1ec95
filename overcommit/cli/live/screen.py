"""The lines of the screen: exactly its width, and at most its height. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from overcommit.cli import status_text
from overcommit.cli.live import detail
from overcommit.cli.live.recent import BLOCKS, WIDTHS, Fact, Recent, sparkline, width_within
from overcommit.cli.live.view import Order, Page, View
from overcommit.cli.status_text import Column, Document
from overcommit.cli.tables import Line, begun, columns, fitted, plain_lines, prose
from overcommit.display import plain
from overcommit.model.moments import Monotonic, Wall
from overcommit.units import counted, format_duration


class Span(NamedTuple):
    """A part of a line, in a style of rich."""

    text: str
    style: str = ""


Row = tuple[Span, ...]


class Size(NamedTuple):
    """The size of a terminal in characters."""

    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known now: ``domains`` of ``seen`` in the order of the view; None: nothing yet.

    ``trouble`` is why nothing newer is known.
    """

    seen: Document | None
    domains: Sequence[Document]
    trouble: str | None
    recent: Recent
    now: Wall
    at: Monotonic
    levels: str = BLOCKS


_KEYS = {
    Page.TABLE: "t p n r sort   up/down select   d detail   ? help   q quit",
    Page.DETAIL: "up/down other domain   d back   ? help   q quit",
    Page.HELP: "? back   q quit",
}
_TROUBLE, _ALERT, _HEADER, _SELECTED = "bold red", "bold red", "bold", "reverse"
_FEWEST_ROWS = 3
_REMARK_LINES = 2
_BELOW = _REMARK_LINES + 1
"""Lines below the table: remarks on the selected domain, and the keys."""
_GAP = "  "
_MARK_WIDTH = 2
_NAMES = 24, 32
_NOW = ((160, 40), (0, 8))
"""The least widths of the last column, by the width of the screen."""
_SOURCES = {Fact.TAKEN: "taken", Fact.PAIN: "slo", Fact.RESIDENT: "resident"}
_BASIC = (
    status_text.DOMAIN,
    status_text.RESIDENT,
    status_text.TAKEN,
    status_text.READ_BACK,
    status_text.PAIN,
)
_LEAVING = (status_text.READ_BACK, status_text.RESIDENT)
"""The columns that are left out first, after the ten minutes, on a narrow screen."""
_MORE = (
    status_text.CLASS,
    status_text.MEMORY,
    status_text.SWAPPED,
    status_text.COLD_AFTER,
    status_text.PRESSURE,
    status_text.TARGET,
    status_text.BALLOON,
)
_SHOWN = (
    status_text.DOMAIN,
    status_text.CLASS,
    status_text.MEMORY,
    status_text.BALLOON,
    status_text.TARGET,
    status_text.RESIDENT,
    status_text.SWAPPED,
    status_text.TAKEN,
    status_text.COLD_AFTER,
    status_text.READ_BACK,
    status_text.PRESSURE,
    status_text.PAIN,
)
"""The order of the columns."""

HELP = """\
What the columns say, as in: overcommitctl status
  resident       guest memory that is in the host's memory now
  taken          what overcommit took and has not given back
  read back/min  what came back from swap, as a share of the working set,
                 of what the domain's class allows
  slo            the highest of the domain's SLO figures, as a share of its
                 limit: pages read back, memory pressure, too little memory in
                 the guest. Above 100% the domain is outside of its SLO (!)
  slo 10m        slo, or what else the domains are sorted by, over ten minutes.
                 Full block: the highest, of slo at least 100%. Blank: unknown
  now            what is done with the domain, or why nothing is: it is busy
                 (migrates, is saved), rests or is slowed by its SLO, has gaps.
                 The line below the table says it in full
  ?              a value that cannot be read

Keys
  t s n r        sort by taken, slo, name, resident
  up down, k j   select a domain; also page up, page down, home, end
  d, Enter       all that is known of the selected domain, and back (also Esc)
  ?, h           this page, and back
  q, Ctrl-C      end
"""


def rows_of(known: Known, size: Size) -> int:
    """The most domains that the table shows."""
    return max(1, size.height - len(_head(known, size)) - 2 - _BELOW)


def drawn(view: View, known: Known, size: Size) -> list[Row]:
    """The lines, as many as the screen has."""
    head, room = _head(known, size), max(0, size.height - 1)
    match view.page:
        case Page.HELP:
            head = []
            body = _within([(Span(line),) for line in HELP.splitlines()], room)
        case Page.DETAIL:
            body = _within(_detail(view, known, size), room - len(head))
        case Page.TABLE:
            body = list(_table(view, known, size))
    lines = [*head, *body][:room]
    lines += [()] * (room - len(lines))
    return [_cut(row, size.width) for row in (*lines, (Span(_KEYS[view.page], "dim"),))]


def _within(rows: list[Row], most: int) -> list[Row]:
    """The first rows, and a mark that there are more."""
    return (
        rows
        if len(rows) <= most
        else [*rows[: max(0, most - 1)], (Span("  ... a higher window shows more"),)]
    )


def _cut(row: Row, width: int) -> Row:
    """The row, or its beginning with an ellipsis."""
    whole, room = [], width
    for span in row:
        text = begun(span.text, room)
        whole.append(Span(text, span.style))
        room -= columns(text)
        if text != span.text:
            break
    return tuple(whole)


def about_host(known: Known) -> Iterator[Line]:
    """The lines about the host. If the values are old, the first line says so."""
    if known.seen is None:
        yield Line(known.trouble, _TROUBLE, prose=True) if known.trouble else prose("asking overcommitd ...")
        return
    trouble = known.trouble or status_text.lateness(known.seen, known.now)
    if trouble:
        yield Line(trouble, _TROUBLE, prose=True)
    yield from status_text.host_lines(
        known.seen, old=status_text.age_of(known.seen, known.now) if trouble else None
    )


def _head(known: Known, size: Size) -> list[Row]:
    """The lines about the host. On a small screen the table keeps some rows."""
    found: list[Row] = [
        (Span(text, line.colour),) for line in about_host(known) for text in plain_lines((line,), size.width)
    ]
    return found[: max(1, size.height - _FEWEST_ROWS - 2 - _BELOW)]


def _table(view: View, known: Known, size: Size) -> Iterator[Row]:
    if known.seen is None:
        return
    rows = rows_of(known, size)
    yield _title(view, known, size, rows)
    layout = _layout(known.domains, size.width)
    yield (Span(_line(layout, _names(view, layout)), _HEADER),)
    for place, domain in enumerate(known.domains[view.first : view.first + rows], view.first):
        yield _domain_row(view, known, layout, domain, selected=place == view.row)
    yield from [()] * (rows - len(known.domains[view.first : view.first + rows]))
    if known.domains:
        domain = known.domains[view.row]
        said = "; ".join(status_text.remarks(domain)) or "nothing to remark"
        about = prose(f"{fitted(plain(domain['name']))}: {said}")
        for text in _wrapped(about, size.width, _REMARK_LINES):
            yield (Span(text),)


def _wrapped(line: Line, width: int, most: int) -> list[str]:
    """At most ``most`` lines. The last one shows where text was left out."""
    texts = list(plain_lines((line,), width))
    if len(texts) > most:
        texts[most - 1 :] = [begun(f"{texts[most - 1]} {texts[most].strip()}", width)]
    return texts[:most]


def _title(view: View, known: Known, size: Size, rows: int) -> Row:
    number = len(known.domains)
    last = min(view.first + rows, number)
    which = f"{view.first + 1:,}-{last:,} of " if last - view.first < number else ""
    text, alert = summary(known.domains, view.order)
    spans = [Span(which + text), Span(alert, _ALERT)]
    when = datetime.fromtimestamp(float(known.now), tz=UTC).astimezone().strftime("%H:%M:%S")
    clock = f"{when}, looked {_age(known)} ago"
    left = size.width - sum(columns(span.text) for span in spans)
    return (*spans, Span(f"{clock:>{left}}")) if left > len(clock) else tuple(spans)


def summary(domains: Sequence[Document], order: Order) -> tuple[str, str]:
    """The number of domains, their order, and the number of those beyond their SLO (empty: none)."""
    outside = sum(map(status_text.in_pain, domains))
    whose = "its" if outside == 1 else "their"
    alert = f", {outside:,} outside of {whose} SLO" if outside else ""
    return f"{counted(len(domains), 'domain')} by {order.value}", alert


def _age(known: Known) -> str:
    return format_duration(round(status_text.age_of(known.seen, known.now))) if known.seen else ""


class _Layout(NamedTuple):
    """The layout of a table that fills the width: its columns with their widths, and two special ones."""

    columns: tuple[tuple[Column, int], ...]
    minutes: int
    now: int


def _layout(domains: Iterable[Document], width: int) -> _Layout:
    """The basic columns first, then wide names, then more columns. The rest is for the last column."""
    now = next(wide for least, wide in _NOW if width >= least)
    chosen = {column: column.width for column in _BASIC}
    minutes = WIDTHS[0]

    def left() -> int:
        taken = sum(chosen.values()) + len(_GAP) * (len(chosen) + 1) + minutes
        return width - _MARK_WIDTH - taken

    for column in _LEAVING:
        if left() < now:
            minutes = 0
        if left() < now:
            del chosen[column]
    longest = max((columns(plain(domain["name"])) for domain in domains), default=0)
    most = _NAMES[width >= _NOW[0][0]]
    wanted = min(longest, most) - chosen[status_text.DOMAIN]
    chosen[status_text.DOMAIN] += max(0, min(wanted, left() - now))
    for column in _MORE:
        if left() - now >= column.width + len(_GAP):
            chosen[column] = column.width
    if minutes:
        minutes = width_within(minutes + max(0, min(left() - now, 18)))
    placed = tuple((column, chosen[column]) for column in _SHOWN if column in chosen)
    return _Layout(placed, minutes, max(0, left()))


def _names(view: View, layout: _Layout) -> list[str]:
    minutes = f"{_SOURCES[view.order.fact]} 10m"
    return [*(column.name for column, _ in layout.columns), minutes, "now"]


def _line(layout: _Layout, cells: Sequence[str], mark: str = "") -> str:
    *figures, minutes, now = cells
    parts = [
        _placed(fitted(plain(cell), width), width, left=column.left)
        for (column, width), cell in zip(layout.columns, figures, strict=True)
    ]
    parts += [
        _placed(begun(minutes, layout.minutes), layout.minutes, left=True),
        _placed(begun(plain(now), layout.now), layout.now, left=True),
    ]
    return f"{mark:<{_MARK_WIDTH}}" + _GAP.join(parts)


def _placed(text: str, width: int, *, left: bool) -> str:
    space = " " * max(0, width - columns(text))
    return text + space if left else space + text


def _domain_row(view: View, known: Known, layout: _Layout, domain: Document, *, selected: bool) -> Row:
    fact = view.order.fact
    values = known.recent.of(domain["uuid"], fact, known.at)
    cells = [
        *(column.cell(domain) for column, _ in layout.columns),
        sparkline(values, fact, layout.minutes, known.levels) if layout.minutes else "",
        status_text.briefly(domain, layout.now),
    ]
    outside = status_text.in_pain(domain)
    mark = (">" if selected else " ") + ("!" if outside else " ")
    style = " ".join(filter(None, (_ALERT if outside else "", _SELECTED if selected else "")))
    return (Span(_line(layout, cells, mark), style),)


def _detail(view: View, known: Known, size: Size) -> list[Row]:
    """All of one domain, wrapped."""
    found = [d for d in known.domains if d["uuid"] == view.selected]
    if not found or known.seen is None:
        return [(Span("This domain is not there any more."),)]
    lines: list[Row] = []
    for said in detail.lines(found[0], known.seen, known.recent, known.at, known.levels):
        style = said.colour if isinstance(said, Line) else ""
        lines += [(Span(text, style),) for text in plain_lines((said,), size.width)]
    return lines
