"""What terminals send, as keys: whole, in pieces, and what is no key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit.cli.live.keys import Key, keys_of


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"tsnrp", [Key.BY_TAKEN, Key.BY_PAIN, Key.BY_NAME, Key.BY_RESIDENT, Key.BY_PAIN]),
        (b"TSNR", [Key.BY_TAKEN, Key.BY_PAIN, Key.BY_NAME, Key.BY_RESIDENT]),
        (b"d\rD\n", [Key.DETAIL] * 4),
        (b"\x1b[A\x1bOA\x1b[B\x1bOB", [Key.UP, Key.UP, Key.DOWN, Key.DOWN]),
        (b"\x1b[5~\x1b[6~\x1b[H\x1b[1~\x1b[F\x1b[4~", [
            Key.PAGE_UP, Key.PAGE_DOWN, Key.FIRST, Key.FIRST, Key.LAST, Key.LAST,
        ]),
        (b"?hq\x0c", [Key.HELP, Key.HELP, Key.QUIT, Key.REDRAW]),
        (b"\x1b\x1b[A", [Key.BACK, Key.UP]),
        (b"\x1b[1;5A\x1b[200~x\x1b[<0;1;1M", []),
        ("é日".encode(), []),
        (b"", []),
    ],
)  # fmt: skip
def test_keys(sent: bytes, keys: list[Key]) -> None:
    assert keys_of(sent, more=True) == (keys, b"")


def test_escape_alone_waits_for_what_may_follow() -> None:
    assert keys_of(b"t\x1b", more=True) == ([Key.BY_TAKEN], b"\x1b")
    assert keys_of(b"\x1b", more=False) == ([Key.BACK], b"")
    assert keys_of(b"\x1b[", more=True) == ([], b"\x1b[")
    assert keys_of(b"\x1b[" + b"A", more=True) == ([Key.UP], b"")
    assert keys_of(b"\x1b[5", more=False) == ([], b""), "half a key is none"


@given(
    st.lists(st.sampled_from([b"\x1b[A", b"\x1bOB", b"\x1b[6~", b"q", b"\x1b[1;5C"]), max_size=6), st.data()
)
def test_keys_are_the_same_in_whatever_pieces_they_come(sent: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(sent)
    cut = data.draw(st.integers(0, len(whole)))
    first, rest = keys_of(whole[:cut], more=True)
    second, left = keys_of(rest + whole[cut:], more=True)
    assert (first + second, left) == keys_of(whole, more=True)


@given(st.binary(max_size=200))
def test_whatever_is_sent_nothing_is_kept_for_ever(sent: bytes) -> None:
    _, rest = keys_of(sent, more=True)
    assert len(rest) <= 24
    assert keys_of(sent, more=False)[1] == b""
