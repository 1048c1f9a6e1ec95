"""What the journal may leave out: whatever was moved, and wherever we die, restore brings the same back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from overcommit.model.facts import Incarnation
from overcommit.model.part import MemoryPart
from overcommit.records.compaction import compaction
from overcommit.records.journal import BalloonMoved, Entry, GuestRecord, KsmStarted, MemoryDeviceResized
from overcommit.units import GIB
from tests.scenarios import incarnation

BASELINE = 8 * GIB
WEB = incarnation("web")


def record(before: int, after: int, *, device: str | None = None, who: Incarnation = WEB) -> GuestRecord:
    if device is not None:
        return MemoryDeviceResized(domain=who, device=device, before_bytes=before, after_bytes=after)
    return BalloonMoved(domain=who, before_bytes=before, after_bytes=after)


def entries(sizes: Sequence[int], generations: Sequence[int], *, device: str | None = None) -> list[Entry]:
    """Newest first: from the baseline to each of the sizes in turn."""
    moves = zip([BASELINE, *sizes], sizes, strict=False)
    found = [
        Entry(generation=g, number=n, boot_id="b", record=record(a, z, device=device))
        for n, ((a, z), g) in enumerate(zip(moves, sorted(generations), strict=False))
    ]
    return found[::-1]


@dataclass
class Disk:
    """The journal, as compaction changes it."""

    outstanding: list[Entry]

    def do(self, step: Entry | GuestRecord) -> None:
        if isinstance(step, Entry):
            self.outstanding.remove(step)
        else:
            newest = self.outstanding[0]
            number = newest.number + 1
            entry = Entry(generation=newest.generation, number=number, boot_id="b", record=step)
            self.outstanding.insert(0, entry)

    def restored(self, size: int) -> int:
        """The size after a restore, of a guest that has this one (`overcommit.apply.restore`)."""
        history = [e.record for e in self.outstanding if isinstance(e.record, GuestRecord)]
        if not history or not min(r.after_bytes for r in history) <= size <= history[-1].before_bytes:
            return size
        return history[-1].before_bytes

    @property
    def left_at(self) -> int | None:
        """Where plans expect it."""
        newest = self.outstanding[0].record if self.outstanding else None
        return newest.after_bytes if isinstance(newest, GuestRecord) else None


sizes_of = st.lists(st.integers(1, 8).map(lambda n: n * GIB), min_size=1, max_size=8)


@given(
    sizes=sizes_of,
    generations=st.lists(st.integers(1, 4), min_size=8, max_size=8),
    as_one=st.sets(st.integers(1, 4)),
    device=st.sampled_from([None, "virtiomem0"]),
)
def test_at_each_step_restore_brings_the_baseline_and_plans_look_where_it_was_left(
    sizes: list[int], generations: list[int], as_one: set[int], device: str | None
) -> None:
    disk = Disk(entries(sizes, generations, device=device))
    size = sizes[-1]
    part = MemoryPart(WEB, device)
    for _ in range(3):
        steps = compaction(disk.outstanding, boot_id="b", over=(), sizes={part: size}, as_one=as_one)
        for step in steps:
            disk.do(step)
            assert disk.restored(size) == BASELINE
            assert disk.left_at in {None, size}
            for between in {*sizes, BASELINE}:  # the guest is on its way there
                if min(sizes) <= between and disk.outstanding and size != BASELINE:
                    assert disk.restored(between) == BASELINE
    assert not compaction(disk.outstanding, boot_id="b", over=(), sizes={part: size}, as_one=as_one)
    if size == BASELINE:
        assert disk.outstanding == []
    else:
        alone = sum(g not in as_one for g in sorted(generations)[: len(sizes)])
        assert 1 <= len(disk.outstanding) <= alone + 3


@given(sizes=sizes_of, generation=st.integers(1, 4))
def test_between_generations_that_are_not_as_one_a_restore_can_stop_as_before(
    sizes: list[int], generation: int
) -> None:
    history = entries(sizes, [(n % 4) + 1 for n in range(8)])
    steps = compaction(history, boot_id="b", over=(), sizes={}, as_one=())
    assert steps == ()
    since = [e for e in history if e.generation >= generation]
    kept = compaction(since, boot_id="b", over=(), sizes={}, as_one=(1, 2, 3, 4))
    left = [e for e in since if e not in kept]
    assert [e.record for e in left[-1:]] == [e.record for e in since[-1:]]


def test_a_size_that_was_asked_for_but_not_reached_is_kept() -> None:
    history = entries([4 * GIB, BASELINE], [1, 1])
    for size in (4 * GIB, None):
        sizes = {} if size is None else {MemoryPart(WEB): size}
        assert compaction(history, boot_id="b", over=(), sizes=sizes, as_one=(1,)) == ()


def test_lives_that_are_over_and_earlier_boots_need_nothing() -> None:
    web = entries([4 * GIB], [1])
    db = Entry(generation=1, number=5, boot_id="b", record=record(5, 4, who=incarnation("db")))
    ksm = KsmStarted(before={"run": "0"}, after={"run": "1"})
    now, earlier = (Entry(generation=1, number=n, boot_id=b, record=ksm) for n, b in ((6, "b"), (7, "a")))
    steps = compaction([earlier, now, db, *web], boot_id="b", over={WEB}, sizes={}, as_one=(1,))
    assert set(map(id, steps)) == set(map(id, (earlier, *web)))
