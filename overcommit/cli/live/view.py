"""What is looked at, and how a key changes that. Pure."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from overcommit.cli.live.keys import Key
from overcommit.cli.live.recent import Fact
from overcommit.cli.status_text import Document


class Order(enum.Enum):
    """By what domains are sorted; the value is its name for people and on the command line."""

    PAIN = "pain"
    TAKEN = "taken"
    NAME = "name"
    RESIDENT = "resident"

    @property
    def fact(self) -> Fact:
        """What the ten minutes show meanwhile."""
        return {Order.PAIN: Fact.PAIN, Order.RESIDENT: Fact.RESIDENT}.get(self, Fact.TAKEN)


class Page(enum.Enum):
    """What fills the screen."""

    TABLE = enum.auto()
    DETAIL = enum.auto()
    HELP = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """``selected`` is the UUID of a domain; None is whichever comes first. ``row`` is where it was last.

    ``first`` is the row with which the table begins.
    """

    order: Order = Order.PAIN
    page: Page = Page.TABLE
    selected: str | None = None
    row: int = 0
    first: int = 0
    ended: bool = False


_ORDERS = {
    Key.BY_PAIN: Order.PAIN,
    Key.BY_TAKEN: Order.TAKEN,
    Key.BY_NAME: Order.NAME,
    Key.BY_RESIDENT: Order.RESIDENT,
}


def ordered(domains: Iterable[Document], order: Order) -> list[Document]:
    """What matters first; what is not known last.

    Pain is compared in tenths of what may be felt: else domains that feel next to nothing would change places
    all the time. What is equal goes by what was taken, then by name.
    """

    def most(value: float | None) -> tuple[bool, float]:
        return value is None, -(value or 0.0)

    def key(domain: Document) -> tuple[object, ...]:
        by_taken = (*most(domain["reclaimed_bytes"]), domain["name"], domain["uuid"])
        match order:
            case Order.PAIN:
                pain = domain.get("pain")
                return (*most(None if pain is None else round(pain, 1)), *by_taken)
            case Order.TAKEN:
                return by_taken
            case Order.NAME:
                return domain["name"], domain["uuid"]
            case Order.RESIDENT:
                return (*most(domain["resident_bytes"]), *by_taken)

    return sorted(domains, key=key)


def settled(view: View, uuids: Sequence[str], rows: int) -> View:
    """The same view of these domains, of which ``rows`` are shown: the one that is selected is among them.

    One that is gone leaves its place to the next, unless its details are looked at.
    """
    last = max(0, len(uuids) - 1)
    selected, row = view.selected, 0
    if selected in uuids:
        row = uuids.index(selected)
    elif selected is not None:
        row = min(view.row, last)
        if view.page is not Page.DETAIL:
            selected = uuids[row] if uuids else None
    first = min(max(view.first, row - rows + 1), row, max(0, len(uuids) - rows))
    return dataclasses.replace(view, selected=selected, row=row, first=max(0, first))


def pressed(view: View, key: Key, uuids: Sequence[str], rows: int) -> View:
    """The view after a key, of which ``rows`` rows of a table are seen; it is to be `settled`."""
    if key is Key.QUIT:
        return dataclasses.replace(view, ended=True)
    if key is Key.HELP:
        return dataclasses.replace(view, page=Page.TABLE if view.page is Page.HELP else Page.HELP)
    if key is Key.BACK:
        return dataclasses.replace(view, page=Page.TABLE)
    if key is Key.DETAIL:
        return _with_detail(view, uuids)
    if order := _ORDERS.get(key):
        return dataclasses.replace(view, order=order)
    move = _MOVES.get(key)
    return view if move is None or view.page is Page.HELP else _moved(view, move(view.row, rows), uuids)


_BEYOND = 1 << 31
"""More domains than there are."""
_MOVES: Mapping[Key, Callable[[int, int], int]] = {
    Key.UP: lambda row, _rows: row - 1,
    Key.DOWN: lambda row, _rows: row + 1,
    Key.PAGE_UP: lambda row, rows: row - rows,
    Key.PAGE_DOWN: lambda row, rows: row + rows,
    Key.FIRST: lambda _row, _rows: 0,
    Key.LAST: lambda _row, _rows: _BEYOND,
}


def _with_detail(view: View, uuids: Sequence[str]) -> View:
    if view.page is not Page.TABLE or not uuids:
        return dataclasses.replace(view, page=Page.TABLE)
    selected = uuids[min(view.row, len(uuids) - 1)]
    return dataclasses.replace(view, page=Page.DETAIL, selected=selected)


def _moved(view: View, row: int, uuids: Sequence[str]) -> View:
    """The first row is not one domain, but whichever is first: it stays so until another row is selected."""
    row = max(0, min(row, len(uuids) - 1))
    of_first = view.page is Page.TABLE and row == 0
    return dataclasses.replace(view, selected=uuids[row] if uuids and not of_first else None, row=row)
