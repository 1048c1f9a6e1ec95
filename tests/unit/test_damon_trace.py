"""Windows from the trace's lines. The lines are as Linux 7.3 writes them."""

from __future__ import annotations

from collections.abc import Sequence

from overcommit.damon.trace import WindowAssembler
from overcommit.model.heat import AccessRegion, Window
from overcommit.model.moments import Monotonic


def lines(
    at: float, *regions: tuple[int, int, int], thread: int = 162, target: int = 0, count: int | None = None
) -> str:
    return "".join(
        f"       kdamond.0-{thread}     [000] .....    {at:.6f}: damon_aggregated: target_id={target} "
        f"nr_regions={count or len(regions)} {start}-{end}: {accesses} 3\n"
        for start, end, accesses in regions
    )


LOST = "CPU:0 [LOST 2280 EVENTS]\n"
FIRST, SECOND = (0, 4096, 0), (4096, 8192, 40)


def assemble(*texts: str, threads: Sequence[int] = (162,), began: float = 10.0) -> list[tuple[int, Window]]:
    assembler = WindowAssembler()
    for thread in threads:
        assembler.begin(thread, Monotonic(began), seconds=4.0)
    return [seen for text in texts for seen in assembler.feed(text)]


def test_a_window_has_all_regions_of_an_aggregation() -> None:
    ((thread, window),) = assemble(lines(14.1, FIRST, SECOND))
    assert thread == 162
    assert window == Window(Monotonic(14.1), window.seconds, (AccessRegion(*FIRST), AccessRegion(*SECOND)))


def test_it_lasted_from_the_end_of_the_one_before() -> None:
    windows = assemble(lines(14.25, FIRST, SECOND), lines(18.5, FIRST, SECOND))
    assert [window.seconds for _, window in windows] == [4.25, 4.25]


def test_it_may_come_in_bits() -> None:
    text = lines(14.0, FIRST, SECOND)
    newline = text.index("\n") + 1
    assert len(assemble(text[:newline], text[newline:])) == 1


def test_sentinels_and_strangers_are_left_out() -> None:
    strangers = lines(13.0, FIRST, SECOND, thread=99)
    assert assemble(strangers, lines(14.0, (1 << 40, 1 << 41, 0), target=1)) == []


def test_several_kdamonds_are_kept_apart() -> None:
    mixed = lines(14.0, FIRST, thread=7, count=2) + lines(14.0, FIRST, SECOND, thread=8)
    windows = assemble(mixed, lines(14.0, SECOND, thread=7, count=2), threads=(7, 8))
    assert [thread for thread, _ in windows] == [8, 7]


def test_a_window_with_lines_lost_is_none_and_the_next_one_is_not_longer_for_it() -> None:
    windows = assemble(
        lines(14.0, FIRST, SECOND),
        lines(18.0, FIRST, count=2) + LOST,
        lines(22.0, FIRST, SECOND),
        lines(26.0, FIRST, SECOND),
    )
    assert [(float(window.ended_at), window.seconds) for _, window in windows] == [(14, 4), (22, 4), (26, 4)]


def test_a_loss_that_the_kernel_does_not_tell_shows_in_the_addresses() -> None:
    windows = assemble(lines(14.0, SECOND, count=2), lines(18.0, FIRST, SECOND))
    assert [(float(window.ended_at), window.seconds, len(window.regions)) for _, window in windows] == [
        (18, 4, 2)
    ]


def test_one_that_ended_is_forgotten() -> None:
    assembler = WindowAssembler()
    assembler.begin(162, Monotonic(10.0), seconds=4.0)
    assembler.end(162)
    assert list(assembler.feed(lines(14.0, FIRST, SECOND))) == []


def test_what_is_no_line_of_it_is_as_good_as_lost() -> None:
    torn = lines(14.0, FIRST, SECOND)[:-30] + "\n"
    garbled = lines(14.0, FIRST, SECOND).replace("4096-8192", "4096-x")
    strange = lines(14.0, FIRST).replace("-162 ", "-none ")
    endless = lines(14.0, FIRST).replace("-162 ", f"-{'9' * 5000} ")
    backwards = lines(14.0, FIRST, SECOND).replace("4096-8192", "8192-4096")
    timeless = lines(14.0, FIRST, SECOND).replace("14.000000", "nan")
    hopeless = lines(14.0, FIRST, SECOND).replace("14.000000", "soon")
    assert timeless != lines(14.0, FIRST, SECOND)
    for text in (torn, garbled, strange, endless, backwards, timeless, hopeless):
        assert assemble(text) == []
    assert assemble("  [LOST in thought, at EVENTS\n") == []
    assert len(assemble(torn, lines(18.0, FIRST, SECOND))) == 1
