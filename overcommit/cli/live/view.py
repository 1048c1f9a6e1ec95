"""The state of the view, and how a key changes it. Pure."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from overcommit.cli.live.keys import Key
from overcommit.cli.live.recent import Fact
from overcommit.cli.status_text import Document


class Order(enum.Enum):
    """The order of the domains. The value is its name for people and on the command line."""

    PAIN = "slo"
    TAKEN = "taken"
    NAME = "name"
    RESIDENT = "resident"

    @property
    def fact(self) -> Fact:
        """The value that the ten minutes show in this order."""
        return {Order.PAIN: Fact.PAIN, Order.RESIDENT: Fact.RESIDENT}.get(self, Fact.TAKEN)


class Page(enum.Enum):
    """The content of the screen."""

    TABLE = enum.auto()
    DETAIL = enum.auto()
    HELP = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The state. ``selected`` is the UUID of a domain; None: the first one. ``row`` is its last place.

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
    """The domains in that order; unknown values come last.

    SLO figures are compared in tenths of their limit. Otherwise domains with almost none would change places
    all the time. Equal ones are sorted by what was taken, then by name.
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
    """The view adapted to these domains, of which ``rows`` are shown, with the selected one among them.

    If it is gone, the next one is selected, unless its details are shown.
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
    """The view after a key, where the table shows ``rows`` rows. It must be `settled`."""
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
"""More than any number of domains."""
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
    """The first row is not one domain, but any that is first, until another row is selected."""
    row = max(0, min(row, len(uuids) - 1))
    of_first = view.page is Page.TABLE and row == 0
    return dataclasses.replace(view, selected=uuids[row] if uuids and not of_first else None, row=row)
