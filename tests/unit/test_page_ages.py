"""Ages of pages by the kernel's generations: read, kept, believed only where they agree with DAMON, used."""

from __future__ import annotations

import dataclasses
import errno
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overcommit.classify.page_ages import with_page_ages
from overcommit.errors import Unreadable
from overcommit.host.lru_gen import PATH, read_generations
from overcommit.model.action import PageoutAction
from overcommit.model.heat import Heat
from overcommit.model.page_ages import Generation, IdlePages, PageAges, page_ages
from overcommit.model.policy import PageoutActor
from overcommit.observe.ageing import Ageing
from overcommit.observe.facts import observe
from overcommit.plan.planner import make_plan
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import MIB, PAGE_SIZE
from tests import scenarios

# As Linux 7.3.4 has it, shortened; two memory nodes.
TEXT = """\
memcg     1 /
 node     0
          0     815300          0          7
          3     815300       1000          0
memcg    77 /machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt
 node     0
          4      47000      66365      14162
          5      36000         66          0
          6      24000       9154          0
          7      11000          0          0
 node     1
          1      40000         -3          0
          2      12000         10          0
"""
WEB = "/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt"


class Texts(FakeKernel):
    """A kernel whose file of generations says this."""

    def __init__(self, text: str) -> None:
        super().__init__(FakeHost([]))
        self.text = text

    def read(self, path: str) -> str:
        return self.text if path == PATH else super().read(path)


def test_generations_are_read_as_the_kernel_writes_them() -> None:
    (found,) = read_generations(Texts(TEXT), {WEB}).values()
    assert [(each.cgroup_id, each.node, each.youngest) for each in found] == [(77, 0, 7), (77, 1, 2)]
    assert found[0].pages[0] == Generation(47.0, 66365 * PAGE_SIZE)
    assert found[1].pages[0].anon_bytes == 0


@pytest.mark.parametrize("row", ["          4      47000", "          4      x          1          0"])
def test_a_file_that_is_not_what_it_should_be_is_unreadable(row: str) -> None:
    with pytest.raises(Unreadable, match="lru_gen"):
        read_generations(Texts(f"memcg 1 {WEB}\n node 0\n{row}\n"), {WEB})


@given(st.text(alphabet="memcgnode 0123456789/\n-x", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_generations(Texts(text), {"/", WEB})
    except Unreadable:
        return


def test_idle_times_are_those_between_the_births_of_generations() -> None:
    generations = (Generation(47.0, 400), Generation(36.0, 30), Generation(24.0, 20), Generation(12.0, 1))
    ages = page_ages([generations], 12.0)
    assert ages.groups == (
        IdlePages(24.0, 11.0, 400),
        IdlePages(12.0, 12.0, 30),
        IdlePages(0.0, 12.0, 20),
        IdlePages(0.0, 12.0, 1),
    )
    assert (ages.known_seconds, ages.accessed_bytes) == (24.0, 21)
    assert (ages.idle_bytes(24.0), ages.idle_bytes(12.0), ages.idle_bytes(300.0)) == (400, 430, 400)
    assert ages.tells(24.0)
    assert ages.tells(300.0)  # the four generations tell no more
    assert ages.cooling_bytes_per_second == 30 / 12


def test_generations_that_were_all_born_at_once_tell_nothing() -> None:
    ages = page_ages([[Generation(815.3, 7)] * 4], 12.0)
    assert not ages.tells(1.0)
    assert ages.cooling_bytes_per_second == 0
    assert not page_ages([], 12.0).tells(1.0)


ROWS = st.lists(
    st.builds(Generation, st.floats(0, 1e6), st.integers(0, 1 << 40)), min_size=1, max_size=4
).map(lambda rows: sorted(rows, reverse=True))


@given(st.lists(ROWS, max_size=3), st.floats(1, 1e6), st.floats(1, 1e6))
def test_more_is_idle_for_less_long_and_nothing_is_counted_twice(
    nodes: list[list[Generation]], every: float, seconds: float
) -> None:
    ages = page_ages(nodes, every)
    total = sum(row.anon_bytes for node in nodes for row in node)
    assert sum(group.anon_bytes for group in ages.groups) == total
    assert ages.idle_bytes(seconds) <= ages.idle_bytes(seconds / 2) <= total
    assert math.isfinite(ages.cooling_bytes_per_second)


def _guest(number: int, hot: int) -> FakeGuest:
    return FakeGuest(
        name=f"g{number}",
        uuid=f"u{number}",
        pid=500 + number,
        memory_bytes=128 * MIB,
        resident=set(range(100)),
        hot=set(range(hot)),
    )


@pytest.fixture
def kernel() -> FakeKernel:
    """Two guests, of whose 100 MiB 16 and 10 are in use."""
    fake = FakeKernel(FakeHost([_guest(1, 16), _guest(2, 10)]))
    fake.lru_gen.sees_guests = True
    return fake


def _aged(kernel: FakeKernel, walks: int, every: float = 15.0) -> Ageing:
    clock = FakeClock(kernel.host)
    domains = observe(kernel, FakeHypervisor(kernel.host), clock).domains
    ageing = Ageing(kernel, clock)
    for number in range(walks):
        if number:
            clock.wait(every)
        ageing.poll([(domain, every) for domain in domains])
    return ageing


def test_three_walks_tell_page_by_page_what_is_in_use(kernel: FakeKernel) -> None:
    ages = _aged(kernel, 3).ages
    assert {uuid: each.accessed_bytes // MIB for uuid, each in ages.items()} == {"u1": 16, "u2": 10}
    assert {uuid: each.idle_bytes(30.0) // MIB for uuid, each in ages.items()} == {"u1": 84, "u2": 90}
    assert all(each.tells(30.0) for each in ages.values())


@pytest.mark.parametrize("walks", [1, 2])
def test_fewer_walks_tell_nothing(kernel: FakeKernel, walks: int) -> None:
    assert not any(each.tells(30.0) for each in _aged(kernel, walks).ages.values())


def test_it_walks_no_more_often_than_it_is_told_to(kernel: FakeKernel) -> None:
    writes: list[str] = []
    kernel.host.on_write = lambda path, _value: writes.append(path)
    clock = FakeClock(kernel.host)
    domains = observe(kernel, FakeHypervisor(kernel.host), clock).domains
    ageing = Ageing(kernel, clock)
    for _ in range(31):
        ageing.poll([(domains[0], 15.0), (domains[1], 10.0)])
        clock.wait(1.0)
    assert writes.count(PATH) == 3 + 4


def test_where_reclaim_takes_files_too_nothing_is_walked(kernel: FakeKernel) -> None:
    kernel.damon.version = (6, 12)
    writes: list[str] = []
    kernel.host.on_write = lambda path, _value: writes.append(path)
    ageing = _aged(kernel, 3)
    assert (ageing.ages, PATH in writes) == ({}, False)
    assert ageing.why_not == "reclaim cannot be limited to anonymous memory (Linux 6.16)"


def test_a_kernel_without_generations_says_why_there_are_no_ages(kernel: FakeKernel) -> None:
    kernel.lru_gen.sees_guests = None
    ageing = _aged(kernel, 3)
    assert ageing.ages == {}
    assert ageing.why_not is not None
    assert os_error(ageing.why_not)


def os_error(said: str) -> bool:
    return "No such file" in said


@pytest.mark.parametrize("error", [errno.EPERM, errno.EINVAL, errno.EIO])
def test_a_walk_that_is_refused_leaves_no_ages_and_ends_nothing(kernel: FakeKernel, error: int) -> None:
    def refuse(path: str, _value: str) -> None:
        if path == PATH:
            raise OSError(error, "refused", path)

    kernel.host.on_write = refuse
    ageing = _aged(kernel, 3)
    assert (ageing.ages, ageing.why_not is None) == ({}, False)


POLICY = scenarios.policy({"host": {"reclaim": "proactive"}})
WEB_DOMAIN = scenarios.domain("web", resident=600 * MIB)


def _seen(cold: int) -> Heat:
    """What a watch of five minutes saw of a domain, of which so many MiB are cold."""
    idle = [(250.0, cold * MIB), (0.0, (600 - cold) * MIB)]
    return scenarios.heat(WEB_DOMAIN, idle, watched=300.0, policy=POLICY)


def _heat(hot: int, cold: int) -> Heat:
    return dataclasses.replace(_seen(cold), hot_bytes=hot * MIB, cold_after_seconds=30.0)


def _ages(accessed: int, idle: int) -> PageAges:
    return PageAges(
        groups=(IdlePages(30.0, 15.0, idle * MIB), IdlePages(0.0, 15.0, accessed * MIB)), every_seconds=15.0
    )


@pytest.mark.parametrize(
    ("seen", "believed"),
    [
        ([(16, 16)], [True]),
        ([(16, 2)], [True]),  # DAMON counts regions, a walk pages
        ([(16, 1)], [False]),  # a walk that does not see what guests access
        ([(16, 16), (0, 0)], [True, True]),  # one that rests is believed for the other's sake
        ([(16, 16), (16, 0)], [False, False]),
        ([(7, 7)], [False]),  # nobody says anything
    ],
)
def test_ages_are_believed_where_walks_see_what_damon_sees(
    seen: list[tuple[int, int]], believed: list[bool]
) -> None:
    heats = {f"u{n}": _heat(hot, 60) for n, (hot, _) in enumerate(seen)}
    ages = {f"u{n}": _ages(accessed, 80) for n, (_, accessed) in enumerate(seen)}
    assert [heat.ages is not None for heat in with_page_ages(heats, ages).values()] == believed


def test_what_is_paged_out_is_no_more_than_pages_that_were_not_accessed() -> None:
    heat = _seen(400)
    aged = dataclasses.replace(
        heat,
        ages=PageAges(
            groups=(IdlePages(heat.cold_after_seconds, 60.0, 150 * MIB), IdlePages(0.0, 60.0, 300 * MIB)),
            every_seconds=60.0,
        ),
    )

    def planned(of: Heat) -> PageoutAction:
        seen = {WEB_DOMAIN.incarnation.uuid: of}
        plan = make_plan(scenarios.snapshot(scenarios.host(), WEB_DOMAIN), seen, POLICY)
        (action,) = (a for a in plan.actions if isinstance(a, PageoutAction))
        return action

    assert planned(heat).actor is PageoutActor.COLD_HINT_RECLAIM
    assert planned(aged).actor is PageoutActor.MEMCG_RECLAIM
    assert planned(heat).expected_bytes > 150 * MIB >= planned(aged).expected_bytes > 100 * MIB
    assert "page by page 150 MiB not accessed" in planned(aged).because
