"""A kdamond as data and as files say the same, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from overcommit.damon import codec
from overcommit.damon.codec import Children, File, Section
from overcommit.damon.sysfs import ROOT, DamonSysfs
from overcommit.damon.tree import Kdamond
from overcommit.testing import FakeDamon, FakeHost, FakeKernel
from overcommit.testing.fake_damon_files import SIGNED, keywords

NEWEST = (7, 3)
WORDS = st.sampled_from(["", "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt", "/a b"])


def values(place: File) -> st.SearchStrategy[Any]:
    """What a file can hold, in the core's units."""
    name = place.path.rpartition("/")[2]
    if known := keywords(NEWEST, name):
        return st.sampled_from(sorted(known))
    if place.codec is codec.BOOLEAN:
        return st.booleans()
    if place.codec is codec.TEXT:
        return WORDS
    least = -1 if name in SIGNED else 0
    return st.integers(least, 5).map(str).map(place.codec.decode)


def like(kind: type) -> st.SearchStrategy[Any]:
    """Any value of a declared dataclass."""
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for name, place in codec.declared(kind):
        match place:
            case File():
                parts[name] = values(place)
            case Section(_, part):
                parts[name] = like(part)
            case Children(counter, part):
                most = 1 if counter.endswith("nr_contexts") else 2
                parts[name] = st.lists(like(part), max_size=most).map(tuple)
    return st.builds(kind, **parts)


KDAMONDS = like(Kdamond)


def written(before: Kdamond, after: Kdamond) -> tuple[DamonSysfs, list[codec.Write]]:
    """A tree in which one was configured, and then the other, and what the second took."""
    host = FakeHost([])
    kernel = FakeKernel(host, FakeDamon(host, NEWEST))
    tree = DamonSysfs(kernel)
    tree.set_slots(1)
    capabilities = tree.probe(0)
    tree.configure(0, before, capabilities)
    writes: list[codec.Write] = []
    host.on_write = lambda path, value: writes.append(codec.Write(path.removeprefix(f"{ROOT}/0/"), value))
    tree.configure(0, after, capabilities)
    return tree, writes


@given(KDAMONDS)
def test_what_was_configured_is_read_back(kdamond: Kdamond) -> None:
    tree, _ = written(Kdamond(), kdamond)
    assert tree.kdamond(0) == kdamond


@given(KDAMONDS, KDAMONDS)
def test_whatever_was_there_before(before: Kdamond, after: Kdamond) -> None:
    tree, _ = written(before, after)
    assert tree.kdamond(0) == after


@given(KDAMONDS)
def test_the_same_again_takes_no_write(kdamond: Kdamond) -> None:
    assert written(kdamond, kdamond)[1] == []


@given(KDAMONDS, KDAMONDS)
def test_only_what_differs_is_written_and_nothing_twice(before: Kdamond, after: Kdamond) -> None:
    _, writes = written(before, after)
    paths = [write.path for write in writes]
    assert len(set(paths)) == len(paths)
    assert len(writes) <= len(list(codec.render(after))) + sum(1 for _ in files(before))


def files(value: Any) -> Iterator[File]:
    """All files of a value: each may have to go back to its default."""
    for name, place in codec.declared(type(value)):
        match place:
            case File():
                yield place
            case Section():
                yield from files(getattr(value, name))
            case Children():
                for child in getattr(value, name):
                    yield from files(child)
