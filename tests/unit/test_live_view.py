"""Keys and what they change: order, selection, page."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit.cli.live.keys import Key
from overcommit.cli.live.view import Order, Page, View, ordered, pressed, settled


def domain(
    name: str, *, pain: float | None = 0.0, taken: int | None = 0, resident: int | None = 0
) -> dict[str, Any]:
    return {
        "name": name,
        "uuid": f"uuid-{name}",
        "pain": pain,
        "reclaimed_bytes": taken,
        "resident_bytes": resident,
    }


DOMAINS = [
    domain("calm", pain=0.11, taken=5, resident=4),
    domain("hurt", pain=1.5, taken=1, resident=None),
    domain("alike", pain=0.14, taken=9, resident=1),
    domain("unread", pain=None, taken=None, resident=9),
]


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (Order.PAIN, ["hurt", "alike", "calm", "unread"]),  # what differs by less than a tenth goes by taken
        (Order.TAKEN, ["alike", "calm", "hurt", "unread"]),
        (Order.NAME, ["alike", "calm", "hurt", "unread"]),
        (Order.RESIDENT, ["unread", "calm", "alike", "hurt"]),
    ],
)
def test_what_matters_is_first_and_what_is_not_known_last(order: Order, names: list[str]) -> None:
    assert [each["name"] for each in ordered(DOMAINS, order)] == names
    assert [each["name"] for each in ordered(DOMAINS[::-1], order)] == names


UUIDS = ["a", "b", "c", "d", "e"]


def after(*keys: Key, rows: int = 3, view: View | None = None, uuids: list[str] = UUIDS) -> View:
    view = view or View()
    for key in keys:
        view = settled(pressed(view, key, uuids, rows), uuids, rows)
    return view


def test_the_first_row_is_whoever_is_first() -> None:
    view = after()
    assert (view.selected, view.row) == (None, 0)
    assert settled(view, UUIDS[::-1], 3).selected is None
    assert after(Key.DOWN, Key.UP).selected is None
    assert after(Key.DOWN, Key.FIRST).selected is None


def test_a_selected_domain_is_followed_wherever_it_goes() -> None:
    view = after(Key.DOWN)
    assert (view.selected, view.row, view.first) == ("b", 1, 0)
    moved = settled(view, ["a", "c", "d", "e", "b"], 3)
    assert (moved.selected, moved.row, moved.first) == ("b", 4, 2)


def test_a_selected_domain_that_is_gone_leaves_its_place_to_the_next() -> None:
    view = settled(after(Key.DOWN), ["a", "c"], 3)
    assert (view.selected, view.row) == ("c", 1)
    assert settled(view, [], 3).selected is None
    assert settled(after(Key.LAST), ["a"], 3).selected == "a"


def test_the_table_scrolls_with_the_selection() -> None:
    assert after(Key.LAST).first == 2
    assert after(Key.PAGE_DOWN).row == 3
    assert after(Key.LAST, Key.UP, Key.UP, Key.UP).first == 1
    assert after(Key.LAST, Key.PAGE_UP, Key.PAGE_UP).first == 0
    assert settled(after(Key.LAST), UUIDS, 10).first == 0, "the window became higher"


@pytest.mark.parametrize(
    ("key", "order"),
    [
        (Key.BY_TAKEN, Order.TAKEN),
        (Key.BY_PAIN, Order.PAIN),
        (Key.BY_NAME, Order.NAME),
        (Key.BY_RESIDENT, Order.RESIDENT),
    ],
)
def test_a_key_for_each_order(key: Key, order: Order) -> None:
    assert after(key, view=View(order=Order.NAME if order is not Order.NAME else Order.PAIN)).order is order


def test_details_are_of_the_selected_domain_and_stay_with_it() -> None:
    view = after(Key.DETAIL)
    assert (view.page, view.selected) == (Page.DETAIL, "a")
    assert after(Key.DOWN, view=view).selected == "b"
    assert after(Key.UP, view=view).selected == "a", "no other one, whoever is first"
    for back in (Key.DETAIL, Key.BACK):
        assert after(back, view=view).page is Page.TABLE
    gone = settled(view, ["b", "c"], 3)
    assert (gone.page, gone.selected) == (Page.DETAIL, "a"), "not those of another one"
    assert settled(after(Key.BACK, view=gone), ["b", "c"], 3).selected == "b"
    assert after(Key.DETAIL, uuids=[]).page is Page.TABLE


def test_help_comes_and_goes_and_keys_do_nothing_meanwhile() -> None:
    view = after(Key.DOWN, Key.HELP)
    assert (view.page, after(Key.DOWN, Key.LAST, view=view).row) == (Page.HELP, 1)
    for back in (Key.HELP, Key.BACK, Key.DETAIL):
        assert after(back, view=view).page is Page.TABLE


@pytest.mark.parametrize("page", Page)
def test_it_ends_from_everywhere(page: Page) -> None:
    assert after(Key.QUIT, view=View(page=page)).ended
    assert not after(Key.REDRAW, view=View(page=page)).ended


@given(
    st.lists(st.sampled_from(Key), max_size=12),
    st.lists(st.lists(st.sampled_from("abcdefgh"), unique=True), min_size=1, max_size=4),
    st.integers(1, 9),
)
def test_whatever_is_pressed_the_selected_row_is_seen(
    keys: list[Key], seen: list[list[str]], rows: int
) -> None:
    view = View()
    for uuids in seen:
        view = settled(view, uuids, rows)
        for key in keys:
            view = settled(pressed(view, key, uuids, rows), uuids, rows)
            assert view.first <= view.row < view.first + rows
            assert view.row < max(1, len(uuids))
            assert 0 <= view.first <= max(0, len(uuids) - rows)
            if view.selected in uuids:
                assert uuids[view.row] == view.selected
    assert dataclasses.replace(view, ended=False) == settled(
        dataclasses.replace(view, ended=False), uuids, rows
    )
