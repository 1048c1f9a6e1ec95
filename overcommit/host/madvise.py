"""process_madvise(2): advice about another process's memory."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator, Sequence

from overcommit.model.ranges import Range, chop

# process_madvise(2): the same number on every architecture (include/uapi/asm-generic/unistd.h), Linux 5.10.
_PROCESS_MADVISE = 440
_IOVEC = struct.Struct("=2Q")
_MOST_VECTORS = 1024  # UIO_MAXIOV
_MOST_BYTES = 1 << 30  # well below MAX_RW_COUNT, to which the kernel silently shortens a request


def batches(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """The ranges in groups that one call may take, in order."""
    batch: list[Range] = []
    size = 0
    for part in chop(ranges, _MOST_BYTES):
        if len(batch) == _MOST_VECTORS or size + part.size > _MOST_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(part)
        size += part.size
    if batch:
        yield batch


def process_madvise(process: int, ranges: Sequence[Range], advice: int, name: str) -> None:
    """Advise the kernel about memory of the process behind a pidfd.

    Raises:
        OSError: the kernel refused.
    """
    vectors = b"".join(_IOVEC.pack(r.start, r.size) for r in ranges)
    call = ctypes.CDLL(None, use_errno=True).syscall
    if call(_PROCESS_MADVISE, process, vectors, len(ranges), advice, 0) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"process_madvise({name})")
