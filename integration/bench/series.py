"""What a month of the series takes: bytes on the disk, and CPU time for a minute.

``python -m integration.bench.series`` writes 31 days of minutes, with figures that change from minute to
minute. It prints how large the files are in the end, the mean CPU time of a minute, and the longest write. No
host VM is needed.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from overcommit.model.series import DomainSpan, HostSpan, Span
from overcommit.records.series import Series
from overcommit.units import GIB, MIB

_BEGIN = 1_700_000_000 // 3600 * 3600


def _span(number: int, count: int, chance: random.Random) -> Span:
    host = HostSpan(
        total_bytes=512 * GIB,
        available_bytes=chance.randrange(512 * GIB),
        available_least_bytes=chance.randrange(512 * GIB),
        swap_used_bytes=chance.randrange(64 * GIB),
        pool_stored_bytes=chance.randrange(64 * GIB),
        pool_used_bytes=chance.randrange(16 * GIB),
        merged_bytes=chance.randrange(GIB),
        psi_some=chance.random(),
    )
    domains = tuple(_domain(each, chance) for each in range(count))
    return Span(at=_BEGIN + 60 * number, seconds=60, minutes=1, host=host, domains=domains)


def _domain(number: int, chance: random.Random) -> DomainSpan:
    """No figure is 0 or a gap, either of which takes less room."""
    resident = chance.randrange(GIB, 8 * GIB)
    return DomainSpan(
        uuid=f"00000000-0000-0000-0000-{number:012}",
        name=f"guest-{number:05}",
        minutes=1,
        memory_bytes=16 * GIB,
        resident_bytes=resident,
        swapped_bytes=chance.randrange(4 * GIB),
        balloon_bytes=chance.randrange(MIB, 4 * GIB),
        virtio_mem_bytes=chance.randrange(MIB, 4 * GIB),
        working_set_bytes=resident // 2,
        working_set_most_bytes=resident // 2,
        idle_bytes=(resident // 2, resident // 3, resident // 4),
        promoted_pages=chance.randrange(1, 10_000),
        judged_seconds=60,
        outside_seconds=chance.randrange(1, 60),
        pain_most=chance.random() * 3,
    )


def _write(directory: Path, count: int, minutes: int) -> tuple[int, float, float]:
    """The size of the file, CPU seconds for a minute, and seconds of the longest write."""
    series, chance = Series(directory, warn=print), random.Random(count)
    longest = cpu = 0.0
    for number in range(minutes):
        span = _span(number, count, chance)
        began, used = time.monotonic(), time.process_time()
        series.add(span)
        cpu += time.process_time() - used
        longest = max(longest, time.monotonic() - began)
    size = sum(path.stat().st_size for path in directory.iterdir())
    return size, cpu / minutes, longest


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--domains", type=int, nargs="+", default=[50])
    parser.add_argument("--days", type=float, default=31.0)
    options = parser.parse_args()
    print("domains  days  MiB on disk  CPU for a minute, ms  longest write, ms")
    for count in options.domains:
        with tempfile.TemporaryDirectory() as name:
            size, cpu, longest = _write(Path(name), count, round(options.days * 1440))
        row = f"{count:7}  {options.days:4g}  {size / MIB:11.1f}  {1000 * cpu:20.1f}  {1000 * longest:17.0f}"
        print(row, flush=True)


if __name__ == "__main__":
    main()
