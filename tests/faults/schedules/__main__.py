"""Random faults at random times on a host with a daemon: whatever comes, nobody is hurt (S1 to S12).

``python -m tests.faults.schedules --runs 10000 --seed 1`` plays as many, half an hour each.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.schedules.life import Played, played


@contextmanager
def _players(seeds: range, jobs: int) -> Iterator[Iterator[Played]]:
    if jobs == 1:
        yield map(played, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield pool.imap_unordered(played, seeds, chunksize=4)


def main() -> int:
    """Play many, and say what broke; what was played so far counts when it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1, help="of the first one")
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time, each in a process")
    parser.add_argument("--trace", action="store_true", help="say what the last daemon of a broken one said")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began, runs, broken = time.monotonic(), 0, 0
    kinds: Counter[str] = Counter()
    try:
        with _players(range(options.seed, options.seed + options.runs), options.jobs) as players:
            for one in players:
                runs += 1
                kinds += one.kinds
                if one.wrong is not None:
                    broken += 1
                    print(f"seed {one.seed}: {one.wrong}; last: {', '.join(one.happened[-3:])}", flush=True)
                    if options.trace:
                        print("\n".join(one.said))
    except KeyboardInterrupt:
        print("interrupted")
    seconds = time.monotonic() - began
    print(f"{runs} schedules in {seconds:.0f} s, {broken} broken; {kinds.total()} faults {dict(kinds)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
