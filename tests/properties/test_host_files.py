"""What holds for any host that the kernel and libvirt may show, whatever guest memory is made of."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from overcommit.model.action import BalloonAction, PageoutAction, VirtioMemAction
from overcommit.model.blocks import Home
from overcommit.plan.case import bounds_of
from overcommit.units import GIB, KIB, MIB
from tests import scenarios
from tests.hosts import situation

Words = dict[str, Any]

_KINDS = {
    "anonymous": ("rd wr mr mw me dc ac sd hg mg", "00:00 0"),
    "shared anonymous": ("rd wr sh mr mw me ms dc sd", "00:01 9 /dev/zero (deleted)"),
    "memfd": ("rd wr sh mr mw me ms dc sd", "00:01 5 /memfd:memory-backend-memfd (deleted)"),
    "private memfd": ("rd wr mr mw me dc sd", "00:01 5 /memfd:memory-backend-memfd (deleted)"),
    "hugetlb": ("rd wr sh mr mw me ms dc ht sd", "00:01 6 /memfd:memory-backend-memfd (deleted)"),
    "file": ("rd wr sh mr mw me ms dc sd", "fd:01 7 /srv/ram/1-vm/pc.ram"),
    "private file": ("rd wr mr mw me dc sd", "fd:01 7 /srv/ram/1-vm/pc.ram"),
    "tmpfs": ("rd wr sh mr mw me ms dc sd", "00:19 8 /dev/shm/pc.ram"),
    "dax": ("rd wr sh mr mw me ms dc sd", "103:00 8 /mnt/pmem/pc.ram"),
    "locked": ("rd wr mr mw me dc ac lo sd", "00:00 0"),
    "unknown file system": ("rd wr sh mr mw me ms dc sd", "ee:01 7 /else/pc.ram"),
}
_BAR = 0x600000000000
_AMOUNTS = st.sampled_from([0, 64 * MIB, 500 * MIB, GIB])
_LIMITS = st.sampled_from(["max", "max", 5 * GIB, GIB, 100 * MIB, 0])


@st.composite
def _blocks(draw: st.DrawFn) -> tuple[list[Words], int]:
    mappings: list[Words] = []
    huge = 0
    for number in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(sorted(_KINDS) + ["anonymous", "private memfd", "memfd"] * 3))
        flags, backing = _KINDS[kind]
        busy, idle = draw(st.sampled_from([0, 500 * MIB])), draw(st.sampled_from([2 * GIB, 0, GIB]))
        mapping = {"at": 0x7F0000000000 + number * 64 * GIB, "size": 3 * GIB, "flags": flags}
        mapping |= {"backing": backing, "idle": {0: busy, 290: idle}}
        if kind == "hugetlb":
            mapping |= {"page": "2MiB", "idle": {0: 3 * GIB}}
            huge += 3 * GIB
        elif kind.startswith("private"):
            mapping["anonymous"] = draw(st.sampled_from([0, (busy + idle) // 2, busy + idle]))
        if kind not in {"hugetlb", "file", "dax", "locked", "unknown file system"}:
            mapping["swap"] = draw(st.sampled_from([0, 0, 64 * MIB]))
        mappings.append(mapping)
    if draw(st.booleans()):  # a device's memory, larger than all of RAM
        bar = {
            "at": _BAR,
            "size": draw(st.sampled_from([64 * GIB, 3 * GIB])),
            "flags": "rd wr sh mr mw me ms io pf dc dd",
        }
        mappings.append(bar | {"backing": "00:0f 11 anon_inode:[vfio-device]"})
    return mappings, huge


@st.composite
def _domain(draw: st.DrawFn, name: str) -> tuple[Words, int]:
    memory, huge = draw(_blocks())
    ram = [each for each in memory if each["at"] != _BAR]
    total, held = 3 * GIB * len(ram), sum(sum(each["idle"].values()) for each in ram)
    cells = "".join(f"<cell id='{n}' memory='{3 * GIB // KIB}' unit='KiB'/>" for n in range(len(ram)))
    usable = draw(st.sampled_from([0, total // 2, total]))
    files = {}
    for limit in ("memory.swap.max", "memory.max"):
        files[f"GROUP/{limit}"] = f"{draw(_LIMITS)}\n"
    words = {
        "xml": f"<domain type='kvm'><name>{name}</name><memory unit='KiB'>{total // KIB}</memory>"
        f"<cpu><numa>{cells}</numa></cpu><devices><memballoon model='virtio'><stats period='5'/></memballoon>"
        "</devices></domain>",
        "memory": memory,
        "charge": {"anon": held - huge + 50 * MIB},
        "guest": {"actual": total, "usable": usable, "unused": draw(st.sampled_from([0, usable]))},
        "files": files,
        "open": draw(st.sampled_from([[]] * 9 + [["/dev/vfio/12"]])),
    }
    return words, huge


@st.composite
def _hosts(draw: st.DrawFn) -> Words:
    domains, huge = {}, 0
    for name in ("a", "b")[: draw(st.integers(1, 2))]:
        domains[name], of_it = draw(_domain(name))
        huge += of_it
    slice_files = {}
    for file, current in (("memory.swap.max", "memory.swap.current"), ("memory.max", "memory.current")):
        if (limit := draw(_LIMITS)) != "max":
            slice_files[f"/sys/fs/cgroup/machine.slice/{file}"] = f"{limit}\n"
        slice_files[f"/sys/fs/cgroup/machine.slice/{current}"] = f"{draw(_AMOUNTS)}\n"
    slice_files["/sys/fs/cgroup/machine.slice/memory.stat"] = "active_file 0\ninactive_file 0\n"
    pages = "/sys/kernel/mm/hugepages/hugepages-2048kB"
    slice_files |= {f"{pages}/nr_hugepages": f"{huge // (2 * MIB)}\n", f"{pages}/free_hugepages": "0\n"}
    return {
        "title": "Any",
        "right": "any",
        "host": {"available": draw(st.sampled_from(["1GiB", "5GiB", "20GiB"])), "files": slice_files},
        "policy": {"host": {"reclaim": draw(st.sampled_from(["proactive", "on_pressure"]))}},
        "domains": domains,
    }


@given(_hosts())
def test_any_host_is_accounted_for_and_nothing_is_taken_that_cannot_go(words: Words) -> None:
    known = {
        name: all("/else/" not in mapping["backing"] for mapping in domain["memory"])
        for name, domain in words["domains"].items()
    }
    case = situation.of(words, "any")
    budget, actions = case.plan.host.budget, case.plan.actions
    parts = (budget.huge_pages_bytes, budget.guests_bytes, budget.overhead_bytes)
    assert sum(parts) + budget.others_bytes + budget.free_bytes == budget.total_bytes
    assert min(*parts, budget.others_bytes, budget.free_bytes, budget.available_bytes) >= 0
    worst = budget.worst_case
    assert worst.memory_bytes + worst.swap_bytes + worst.nowhere_bytes == worst.wanted_bytes
    assert min(worst.memory_bytes, worst.swap_bytes, worst.nowhere_bytes) >= 0
    assert worst.memory_bytes <= budget.available_bytes
    policy = scenarios.policy({})
    domains = {domain.incarnation: domain for domain in case.snapshot.domains}
    assert {domain.name: bool(domain.blocks) for domain in case.snapshot.domains} == known
    assert all(block.span.start != _BAR for domain in domains.values() for block in domain.blocks)
    paged_out: dict[str, int] = {}
    rooms: dict[str, int] = {}
    for action in (action for action in actions if action.blocked is None):
        if isinstance(action, BalloonAction | VirtioMemAction):
            assert not domains[action.domain].holders
        if not isinstance(action, PageoutAction):
            continue
        domain = domains[action.domain]
        assert not domain.holders
        floor = bounds_of(domain, policy.class_of(domain)).floor_bytes
        assert action.after_bytes >= floor
        for piece in action.pieces:
            (block,) = (
                block
                for block in domain.blocks
                if block.span.start <= piece.start and piece.end <= block.span.end
            )
            assert block.home is Home.SWAP
        assert domain.residency is not None
        own = domain.residency.resident_bytes - domain.residency.cached_bytes
        assert action.expected_bytes <= own - domain.residency.huge_bytes
        for limit in domain.swap_limits or ():
            paged_out[limit.path] = paged_out.get(limit.path, 0) + action.expected_bytes
            rooms[limit.path] = limit.room_bytes
    assert all(paged_out[path] <= rooms[path] for path in paged_out)
