"""Access to the running kernel: small files below ``/proc`` and ``/sys``, and a few system calls.

`Kernel` is the port, `LocalKernel` the implementation, `overcommit.testing.FakeKernel` the fake.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import fcntl
import os
import re
import struct
from array import array
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from overcommit.errors import Gone, Unreadable
from overcommit.host.madvise import batches, process_madvise
from overcommit.model.facts import Residency
from overcommit.model.ranges import Range, normalise
from overcommit.units import PAGE_SIZE


class Advice(enum.IntEnum):
    """Advice about another process's memory (include/uapi/asm-generic/mman-common.h)."""

    COLD = 20
    """Clear the accessed state of the pages, so that reclaim considers them first."""
    PAGEOUT = 21
    """Reclaim the pages now, accessed or not (since Linux 6.9)."""


class Kernel(Protocol):
    """What the program needs of the kernel. File errors are `OSError` with the kernel's errno."""

    def read(self, path: str) -> str:
        """The whole content of a small text file."""
        ...

    def read_all(self, directory: str, names: Sequence[str]) -> tuple[str, ...]:
        """The contents of several files below a directory, each at most a page (as in sysfs)."""
        ...

    def read_tree(self, directory: str, leave_out: Collection[str]) -> dict[str, str]:
        """The contents of all files below a directory, by relative path.

        Files and directories with the names in ``leave_out`` are not opened.
        """
        ...

    def write(self, path: str, value: str) -> None:
        """Write ``value`` in one ``write(2)``, as sysfs requires."""
        ...

    def write_all(self, directory: str, writes: Sequence[tuple[str, str]], *, go_on: bool) -> tuple[int, ...]:
        """Write values to files below a directory, in order.

        Without ``go_on`` the first refusal ends the writes.

        Returns:
            The errno of each write that was tried; 0: accepted.
        """
        ...

    def list(self, path: str) -> tuple[str, ...]:
        """The sorted names in a directory."""
        ...

    def exists(self, path: str) -> bool:
        """Whether the path exists."""
        ...

    def drain(self, path: str, most_bytes: int) -> str:
        """The content of a kernel pipe (tracing) now, without waiting. About ``most_bytes`` at most."""
        ...

    def make_directory(self, path: str) -> None:
        """Make a directory. In tracefs that makes an instance."""
        ...

    def remove_directory(self, path: str) -> None:
        """Remove such a directory, which removes its instance."""
        ...

    def links(self, directory: str) -> tuple[str, ...]:
        """The targets of the symbolic links in a directory. Links that vanish meanwhile are left out."""
        ...

    def lock_holder(self, path: str) -> int | None:
        """The pid that holds a POSIX write lock on the file; None: it is unlocked."""
        ...

    def residency(self, pid: int, ram: Sequence[Range]) -> Residency:
        """Which parts of ``ram`` in the process are in memory, and how much is in swap.

        Raises:
            Gone: the process has exited.
        """
        ...

    def count_resident(self, pid: int, ram: Sequence[Range]) -> int:
        """The bytes of ``ram`` in the process that are in memory: a cheap form of `residency`.

        Raises:
            Gone: the process has exited.
        """
        ...

    def advise(self, pid: int, start_time: int, ranges: Sequence[Range], advice: Advice) -> None:
        """Advise the kernel about memory of the process that started at ``start_time``, and of no other.

        Raises:
            Gone: that process has exited.
        """
        ...


# struct pm_scan_arg and PAGEMAP_SCAN, include/uapi/linux/fs.h. Linux commit 52526ca7fdb9
# ("fs/proc/task_mmu: implement IOCTL to get and optionally clear info about PTEs"), v6.7.
_PAGEMAP_SCAN = 0xC0606610
_SCAN_ARG = struct.Struct("=12Q")
_PAGE_REGION = struct.Struct("=3Q")
_PRESENT, _SWAPPED, _PFNZERO = 1 << 3, 1 << 4, 1 << 5
_COSTS_NOTHING = _SWAPPED | _PFNZERO
_NO_SCAN = {errno.ENOTTY, errno.EINVAL}
_SCAN_BATCH = 4096
_READ_SIZE = 65536
# What is behind the name in /proc/PID/stat begins with field 3.
_START_TIME = 22 - 3
# /proc/PID/pagemap entries, Documentation/admin-guide/mm/pagemap.rst
_ENTRY_PRESENT, _ENTRY_SWAPPED = 1 << 63, 1 << 62


class LocalKernel:
    """The kernel that this process runs on."""

    def read(self, path: str) -> str:
        """See `Kernel.read`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            parts = []
            while part := os.read(descriptor, _READ_SIZE):
                parts.append(part)
        finally:
            os.close(descriptor)
        return b"".join(parts).decode("utf-8", "surrogateescape")

    def read_all(self, directory: str, names: Sequence[str]) -> tuple[str, ...]:
        """See `Kernel.read_all`. It takes three system calls a file, and resolves the directory once."""
        base = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        contents = []
        try:
            for name in names:
                descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=base)
                try:
                    contents.append(os.read(descriptor, PAGE_SIZE).decode("utf-8", "surrogateescape"))
                finally:
                    os.close(descriptor)
        finally:
            os.close(base)
        return tuple(contents)

    def read_tree(self, directory: str, leave_out: Collection[str]) -> dict[str, str]:
        """See `Kernel.read_tree`."""
        contents: dict[str, str] = {}
        for name in sorted(set(os.listdir(directory)).difference(leave_out)):  # noqa: PTH208 - names
            path = f"{directory}/{name}"
            try:
                contents[name] = self.read(path)
            except IsADirectoryError:
                below = self.read_tree(path, leave_out)
                contents |= {f"{name}/{relative}": content for relative, content in below.items()}
        return contents

    def write(self, path: str, value: str) -> None:
        """See `Kernel.write`."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)

    def write_all(self, directory: str, writes: Sequence[tuple[str, str]], *, go_on: bool) -> tuple[int, ...]:
        """See `Kernel.write_all`."""
        errors: list[int] = []
        for path, value in writes:
            try:
                self.write(f"{directory}/{path}", value)
                errors.append(0)
            except OSError as error:
                errors.append(error.errno or errno.EIO)
                if not go_on:
                    break
        return tuple(errors)

    def list(self, path: str) -> tuple[str, ...]:
        """See `Kernel.list`."""
        return tuple(sorted(os.listdir(path)))  # noqa: PTH208 - names, not paths

    def exists(self, path: str) -> bool:
        """See `Kernel.exists`."""
        return Path(path).exists()

    def drain(self, path: str, most_bytes: int) -> str:
        """See `Kernel.drain`."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        parts: list[bytes] = []
        size = 0
        try:
            while size < most_bytes and (part := os.read(descriptor, _READ_SIZE)):
                parts.append(part)
                size += len(part)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)
        return b"".join(parts).decode("utf-8", "surrogateescape")

    def make_directory(self, path: str) -> None:
        """See `Kernel.make_directory`."""
        Path(path).mkdir()

    def remove_directory(self, path: str) -> None:
        """See `Kernel.remove_directory`."""
        Path(path).rmdir()

    def links(self, directory: str) -> tuple[str, ...]:
        """See `Kernel.links`."""
        targets = []
        for name in os.listdir(directory):  # noqa: PTH208 - names
            with contextlib.suppress(FileNotFoundError):
                targets.append(str(Path(directory, name).readlink()))
        return tuple(targets)

    def lock_holder(self, path: str) -> int | None:
        """See `Kernel.lock_holder`."""
        layout = struct.Struct("hhxxxxqqixxxx")  # struct flock on 64-bit Linux
        query = layout.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        with Path(path).open("rb") as file:
            kind, _, _, _, pid = layout.unpack(fcntl.fcntl(file, fcntl.F_GETLK, query))
        return None if kind == fcntl.F_UNLCK else pid

    def residency(self, pid: int, ram: Sequence[Range]) -> Residency:
        """See `Kernel.residency`.

        It uses PAGEMAP_SCAN where the kernel has it, otherwise the pagemap entries.

        Raises:
            Gone: the process has exited.
        """
        with _page_map(pid) as descriptor:
            try:
                return _scan(descriptor, ram)
            except OSError as error:
                if error.errno not in _NO_SCAN:
                    raise
                return _read_entries(descriptor, ram)

    def count_resident(self, pid: int, ram: Sequence[Range]) -> int:
        """See `Kernel.count_resident`. It reads as `residency` does, and keeps no addresses."""
        with _page_map(pid) as descriptor:
            try:
                return _count(descriptor, ram)
            except OSError as error:
                if error.errno not in _NO_SCAN:
                    raise
                return _read_entries(descriptor, ram).resident_bytes

    def advise(self, pid: int, start_time: int, ranges: Sequence[Range], advice: Advice) -> None:
        """See `Kernel.advise`. A pidfd holds the process before its start time is compared.

        Raises:
            Gone: that process has exited.
        """
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError as error:
            raise Gone(f"process {pid} has exited") from error
        try:
            if start_time_of(self.read(f"/proc/{pid}/stat")) != start_time:
                raise Gone(f"process {pid} was replaced by another one")
            for batch in batches(ranges):
                process_madvise(process, batch, int(advice), advice.name)
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Gone(f"process {pid} has exited") from error
        finally:
            os.close(process)


def process_statistics(text: str) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the state (field 3) to at least the start time (field 22).

    The name in field 2 may contain spaces and parentheses. It ends at the last parenthesis.

    Raises:
        Unreadable: there are fewer fields, or the start time is not a number.
    """
    fields = text.rpartition(")")[2].split(maxsplit=_START_TIME + 1)
    if len(fields) <= _START_TIME or re.fullmatch(r"[0-9]{1,20}", fields[_START_TIME]) is None:
        raise Unreadable(f"not the statistics of a process: {text[:40]!a}")
    return fields


def start_time_of(text: str) -> int:
    """The start time of a process in clock ticks since boot: field 22 of its ``/proc/PID/stat``.

    Raises:
        Unreadable: the field is missing.
    """
    return int(process_statistics(text)[_START_TIME])


@contextlib.contextmanager
def _page_map(pid: int) -> Iterator[int]:
    """A descriptor of the process's page map."""
    try:
        # A process without memory (a zombie) has a page map too, empty or worse: until Linux commit
        # 65c66047259f ("proc: fix the issue of proc_mem_open returning NULL") it had a null pointer.
        state = process_statistics(Path(f"/proc/{pid}/stat").read_text(errors="surrogateescape"))[0]
        if state in "ZX":
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        descriptor = os.open(f"/proc/{pid}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise Gone(f"process {pid} has exited") from error
    try:
        yield descriptor
    except ProcessLookupError as error:
        raise Gone(f"process {pid} has exited") from error
    finally:
        os.close(descriptor)


def _scan(descriptor: int, ram: Sequence[Range]) -> Residency:
    resident: list[tuple[int, int]] = []
    swapped = 0
    for batch in _page_regions(descriptor, ram):
        for low, high, kinds in batch:
            if kinds & _SWAPPED:
                swapped += high - low
            elif not kinds & _PFNZERO:  # the shared zero page costs the host nothing
                resident.append((low, high))
    return Residency(resident=normalise(resident), swapped_bytes=swapped)


def _count(descriptor: int, ram: Sequence[Range]) -> int:
    return sum(
        high - low
        for batch in _page_regions(descriptor, ram)
        for low, high, kinds in batch
        if not kinds & _COSTS_NOTHING
    )


def _page_regions(descriptor: int, ram: Sequence[Range]) -> Iterator[Iterator[tuple[int, ...]]]:
    """Adjacent pages of one kind, present or swapped, as (start, end, kinds); thousands at a time.

    At the end of a block the kernel's ``walk_end`` is not reliable: it is where the kernel's own buffer, of
    512 regions, was full for the last time (Linux 6.18 does this). To continue from there would return the
    rest twice.
    """
    vector = ctypes.create_string_buffer(_PAGE_REGION.size * _SCAN_BATCH)
    for block in ram:
        start = block.start
        while start < block.end:
            argument = bytearray(
                _SCAN_ARG.pack(
                    *(_SCAN_ARG.size, 0, start, block.end, 0, ctypes.addressof(vector)),
                    *(_SCAN_BATCH, 0, 0, 0, _PRESENT | _SWAPPED),
                    _PRESENT | _SWAPPED | _PFNZERO,
                )
            )
            count = fcntl.ioctl(descriptor, _PAGEMAP_SCAN, argument)
            yield _PAGE_REGION.iter_unpack(memoryview(vector)[: count * _PAGE_REGION.size])
            if count < _SCAN_BATCH:
                break
            _, end, _ = _PAGE_REGION.unpack_from(vector, (count - 1) * _PAGE_REGION.size)
            start = max(end, _SCAN_ARG.unpack(argument)[4])


def _read_entries(descriptor: int, ram: Sequence[Range]) -> Residency:
    resident: list[Range] = []
    swapped = 0
    for block in ram:
        for start in range(block.start, block.end, PAGE_SIZE * 65536):
            pages = min(65536, (block.end - start) // PAGE_SIZE)
            entries = array("Q")
            entries.frombytes(os.pread(descriptor, pages * 8, start // PAGE_SIZE * 8))
            for index, entry in enumerate(entries):
                if entry & _ENTRY_PRESENT:
                    low = start + index * PAGE_SIZE
                    resident.append(Range(low, low + PAGE_SIZE))
                elif entry & _ENTRY_SWAPPED:
                    swapped += PAGE_SIZE
    return Residency(resident=normalise(resident), swapped_bytes=swapped)
