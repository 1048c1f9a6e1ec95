"""A QEMU process: its identity and where in its address space guest RAM lies."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from overcommit.errors import Gone, Unreadable
from overcommit.host.kernel import Kernel, start_time_of
from overcommit.model.facts import Residency
from overcommit.model.ranges import Range, normalise, total_size
from overcommit.units import KIB, MIB


def read_start_time(kernel: Kernel, pid: int) -> int:
    """Start time in clock ticks since boot: field 22 of ``/proc/PID/stat``.

    Raises:
        Gone: there is no such process.
        Unreadable: its statistics are not what they should be.
    """
    try:
        statistics = kernel.read(f"/proc/{pid}/stat")
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ESRCH}:
            raise Gone(f"process {pid} has exited") from error
        raise
    return start_time_of(statistics)


def runs_domain(kernel: Kernel, pid: int, uuid: str) -> bool:
    """Whether the process was started with ``-uuid UUID``, which libvirt always passes."""
    arguments = kernel.read(f"/proc/{pid}/cmdline").split("\0")
    return any(a == "-uuid" and b == uuid for a, b in itertools.pairwise(arguments))


class _Mapping(NamedTuple):
    span: Range
    name: str
    flags: frozenset[str]
    swapped_bytes: int


def _mappings(smaps: str) -> Iterator[_Mapping]:
    header = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+\s*(.*)$")
    span, name, swapped = Range(0, 0), "", 0
    for line in smaps.splitlines():
        if match := header.match(line):
            span, name, swapped = Range(int(match[1], 16), int(match[2], 16)), match[3], 0
        elif line.startswith("Swap:"):
            match = re.fullmatch(r"Swap:\s+([0-9]{1,17}) kB", line)
            if match is None:
                raise Unreadable(f"smaps has a line {line[:40]!a}")
            swapped = int(match[1]) * KIB
        elif line.startswith("VmFlags:"):
            yield _Mapping(span, name, frozenset(line.split()[1:]), swapped)


def find_guest_ram(smaps: str, memory_bytes: int) -> tuple[Range, ...]:
    """Guest RAM in QEMU's address space, from ``/proc/PID/smaps``; empty when it cannot be told.

    QEMU marks every RAM block MADV_DONTFORK under KVM (``dc`` in VmFlags), its other memory never.
    Video RAM and ROMs are marked too but are small; the big ones must add up to the domain's memory. Advice
    splits a block into neighbours, of which some may be smaller than video RAM: they are joined first.
    """
    blocks = normalise(m.span for m in _mappings(smaps) if "dc" in m.flags)
    marked = [block for block in blocks if block.size >= MIB]
    taken: list[Range] = []
    for span in sorted(marked, key=lambda s: s.size, reverse=True):
        if total_size(taken) >= memory_bytes:
            break
        taken.append(span)
    return normalise(taken) if total_size(taken) >= memory_bytes else ()


def swapped_of(smaps: str, memory: Sequence[Range]) -> int:
    """What of that memory is in swap, from ``/proc/PID/smaps``: mappings that lie in it as a whole.

    For shared memory (a memfd, tmpfs) this is the only place that tells for a process: its page map shows
    nothing where a page is swapped out (Documentation/filesystems/proc.rst, Swap).
    """
    return sum(
        mapping.swapped_bytes
        for mapping in _mappings(smaps)
        if any(part.start <= mapping.span.start and mapping.span.end <= part.end for part in memory)
    )


def find_process_memory(smaps: str) -> tuple[Range, ...]:
    """All of a process's larger writable memory, from ``/proc/PID/smaps``: guest RAM is in there."""
    return normalise(m.span for m in _mappings(smaps) if "wr" in m.flags and m.span.size >= MIB)


def residency_of(kernel: Kernel, pid: int, memory: Sequence[Range], *, shared: bool) -> Residency:
    """What of that memory is in memory, and what in swap; where it is ``shared`` the page map shows no swap.

    Raises:
        Gone: the process has exited.
        HostError, OSError: it cannot be read.
    """
    residency = kernel.residency(pid, memory)
    if not shared:
        return residency
    return dataclasses.replace(residency, swapped_bytes=swapped_of(kernel.read(f"/proc/{pid}/smaps"), memory))
