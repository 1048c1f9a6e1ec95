"""The findings of ``doctor`` about who holds the host's memory, swap, and limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from overcommit.control.swap_text import swap_text
from overcommit.display import command
from overcommit.host.setaside import HUGE_PAGES
from overcommit.host.swap import ZSWAP
from overcommit.model.blocks import Backing, Companion, Home
from overcommit.model.facts import DomainFacts, HostFacts
from overcommit.model.swap import SwapArea, SwapHazard, SwapKind
from overcommit.plan.budget import shared_limit
from overcommit.plan.case import worthwhile
from overcommit.plan.limits import no_swap, raise_text, tightest
from overcommit.units import MIB, counted, format_ratio, format_size


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding of the diagnosis."""

    level: Literal["ok", "warn", "conflict", "fail"]
    about: str
    text: str
    fix: str = ""


def account_findings(host: HostFacts) -> Iterator[Finding]:
    """Memory that is neither free nor in ordinary use, if there is any."""
    huge, arc, zram, zswap = host.huge_pages, host.arc, host.zram, host.zswap
    if huge is not None and huge.total_bytes:
        idle = huge.free_bytes == huge.total_bytes
        yield Finding(
            level="warn" if idle else "ok",
            about="huge pages",
            text=f"{format_size(huge.total_bytes)} reserved, {format_size(huge.free_bytes)} of it free. "
            f"Only guests that are defined with huge pages can use them",
            fix=f'for n in {HUGE_PAGES}/*/nr_hugepages; do echo 0 > "$n"; done  # if no guest is to use them'
            if idle
            else "",
        )
    if arc is not None:
        yield Finding(
            level="ok",
            about="ZFS",
            text=f"its cache holds {format_size(arc.size_bytes)} and shrinks to "
            f"{format_size(arc.minimum_bytes)} (zfs_arc_min) when memory is short. A plan counts the "
            f"difference as available. The kernel does not",
        )
    if zram is not None:
        yield Finding(
            level="ok",
            about="zram",
            text=f"{format_size(zram.stored_bytes)} stored in {format_size(zram.used_bytes)} of memory",
        )
    if zswap is not None and zswap.enabled:
        twice = any(area.kind is SwapKind.ZRAM for area in host.swap)
        yield Finding(
            level="warn" if twice else "ok",
            about="zswap",
            text=f"on: up to {format_ratio(zswap.most)} of memory holds swapped-out pages, compressed, "
            f"before they go to the device. Now {format_size(zswap.pool.stored_bytes)} in "
            f"{format_size(zswap.pool.used_bytes)}"
            + ("; with zram behind it, memory is compressed twice" if twice else ""),
            fix=f"echo N > {ZSWAP}/enabled  # and zswap.enabled=0 on the kernel's command line"
            if twice
            else "",
        )


def swap_finding(area: SwapArea, host: HostFacts) -> Finding:
    """One swap area, its traffic, and whether guest memory is stored there readable (rule S7)."""
    rests = {
        True: "; guest memory there is encrypted",
        False: "; guest memory there is readable on the disk",
        None: "; it is not known whether guest memory there is encrypted",
    }[area.encrypted]
    hazard = area.hazard
    return Finding(
        level="warn" if area.on_disk and (not area.encrypted or hazard) else "ok",
        about="swap",
        text=f"{swap_text(area, host)}{rests if area.on_disk else ''}"
        + (f"; {area.path} {hazard.value}" if hazard else ""),
        fix=_fix(area, host),
    )


def _fix(area: SwapArea, host: HostFacts) -> str:
    bad_place = area.hazard is not None and area.hazard is not SwapHazard.BTRFS
    if bad_place or (area.exposed and area.kind is not SwapKind.PARTITION):
        return _elsewhere(area, host)
    return _cipher(area) if area.exposed else ""


def _cipher(area: SwapArea) -> str:
    """The fix: a random key that is not kept, so that swapped memory is unreadable after the boot."""
    cipher = "cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 512 --key-file /dev/urandom"
    steps = (
        command("swapoff", area.path),
        command(*cipher.split(), area.path, "cryptswap"),
        "mkswap /dev/mapper/cryptswap",
        "swapon /dev/mapper/cryptswap",
    )
    return f"{' && '.join(steps)}  # then add it to /etc/crypttab and /etc/fstab"


def _elsewhere(area: SwapArea, host: HostFacts) -> str:
    """The fix: swap in memory first, so that the area's content has a place to go."""
    return f"{zram_command(host)} && {command('swapoff', area.file)}  # then remove it from /etc/fstab"


def zram_command(host: HostFacts) -> str:
    """A command that makes a zram device of half the host's memory and uses it until the next boot."""
    make = f"modprobe zram && dev=$(zramctl --find --size {host.total_bytes // 2 // MIB}M)"
    return f'{make} && mkswap "$dev" && swapon --priority 100 "$dev"'


def memory_finding(domain: DomainFacts) -> Finding:
    """The backing of its RAM, where the kernel can move that, and what else is charged to its cgroup."""
    homes: dict[tuple[Backing, Home], int] = {}
    for block in domain.guest_ram:
        kind = block.backing, block.home
        homes[kind] = homes.get(kind, 0) + block.size_bytes
    lies = [f"{format_size(size)} in {_lies_in(*kind)}" for kind, size in homes.items()]
    text = f"RAM: {', '.join(lies)}" if lies else "the kind of its RAM is not known"
    if domain.companions:
        text += f"; beside QEMU in its cgroup: {', '.join(map(_charged, domain.companions))}"
    return Finding(level="ok" if lies else "warn", about=f"domain {domain.name}", text=text)


def _lies_in(backing: Backing, home: Home) -> str:
    where = "cannot be moved" if home is Home.NOWHERE else f"can go to {home.value}"
    return f"{backing.value}, which {where}"


def _charged(companion: Companion) -> str:
    size = companion.anonymous_bytes
    return f"{companion}, {'of unknown size' if size is None else format_size(size)}"


def limit_findings(domains: Sequence[DomainFacts]) -> Iterator[Finding]:
    """Limits of cgroups that guests can reach while the host has memory left."""
    limit = shared_limit(domains)
    if limit is not None:
        promised = sum(d.promised_bytes + (d.overhead_bytes or 0) for d in domains)
        short = limit.limit_bytes < promised
        yield Finding(
            level="warn" if short else "ok",
            about=f"limit of {limit.path}",
            text=f"{limit.file} {format_size(limit.limit_bytes)} for all its guests. They were promised "
            f"{format_size(promised)} with QEMU's overhead. Charged: "
            f"{format_size(limit.current_bytes)}, of which {format_size(limit.cache_bytes)} is cache",
            fix=f"{raise_text(limit)}, or promise less" if short else "",
        )
    for domain in domains:
        needed = domain.promised_bytes + (domain.overhead_bytes or 0)
        for own in domain.limits or ():
            if own.own and own.limit_bytes < needed:
                does = "kills" if own.file == "memory.max" else "throttles"
                yield Finding(
                    level="warn",
                    about=f"domain {domain.name}",
                    text=f"may hold {format_size(own.limit_bytes)} ({own.file}), but was promised "
                    f"{format_size(needed)} with QEMU's overhead. The kernel {does} it first",
                    fix=raise_text(own, domain.incarnation),
                )
        bound = tightest(domain.swap_limits)
        if bound is not None and bound.limit.own and bound.room_bytes < worthwhile(0):
            yield Finding(
                level="warn",
                about=f"domain {domain.name}",
                text=f"its cgroup may {no_swap(bound.limit)}. Page-out cannot be used",
                fix=raise_text(bound.limit, domain.incarnation),
            )
    yield from _shared_swap_findings(domains)


def _shared_swap_findings(domains: Sequence[DomainFacts]) -> Iterator[Finding]:
    """Slices that limit the swap of the guests in them, each once."""
    below: dict[str, list[DomainFacts]] = {}
    limits = {}
    for domain in domains:
        bound = tightest(domain.swap_limits)
        nothing = bound is not None and not bound.room_bytes
        for limit in domain.swap_limits or ():
            if not limit.own and not (nothing and limit.room_bytes):
                below.setdefault(limit.path, []).append(domain)
                limits[limit.path] = limit
    for path, limit in limits.items():
        full = limit.room_bytes < worthwhile(0)
        what = f"of {counted(len(below[path]), 'domain')} in it "
        yield Finding(
            level="warn" if full else "ok",
            about=f"swap limit of {path}",
            text=f"its cgroup may {no_swap(limit)}: nothing {what}can be paged out"
            if full
            else f"{limit.file} {format_size(limit.limit_bytes)}, {format_size(limit.current_bytes)} in use: "
            f"{format_size(limit.room_bytes)} {what}can still be paged out",
            fix=raise_text(limit) if full else "",
        )
