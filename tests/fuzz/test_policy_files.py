"""Any text as a policy: valid, or faults with their places, each in one line, in a moment."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overcommit.errors import PolicyError
from overcommit.policy import loader

WORDS = st.sampled_from(
    [
        *("version", "1", "classes", "host", "domains", "match", "name", "floor", "20%", "reserve", "all"),
        *("[", "]", "{", "}", ":", ",", "-", "\n", "  ", "&a", "*a", "!!int", "|", ">", "'", '"', "#", "? "),
        *("\0", "\t"),
    ]
)
TEXTS = (
    st.text(max_size=200)
    | st.lists(WORDS, max_size=60).map(" ".join)
    | st.lists(WORDS, max_size=60).map("".join)
)
BASE = "version: 1\nclasses: {all: {floor: 20%, cold_after: 2min}}\ndefault_class: all\ndomains: []\n"


def read(text: str) -> None:
    try:
        loader.parse(text, "p.yaml")
    except PolicyError as error:
        faults = error.faults
    else:
        return
    assert faults
    for fault in faults:
        assert str(fault).isprintable()
        assert fault.line >= 1
        assert fault.column >= 1


@given(TEXTS)
def test_any_text(text: str) -> None:
    read(text)


@given(TEXTS, st.integers(0, len(BASE)), st.integers(0, 40))
def test_a_policy_that_was_changed(text: str, at: int, gone: int) -> None:
    read(BASE[:at] + text + BASE[at + gone :])
