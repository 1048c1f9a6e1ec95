"""The multi-gen LRU over a `FakeHost`: generations of each guest's chunks, and walks of its page tables."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field

from overcommit.host.lru_gen import PATH
from overcommit.testing.fake_host import FakeGuest, FakeHost
from overcommit.testing.fake_kdamond import refusal
from overcommit.units import MIB, PAGE_SIZE

_MOST_GENERATIONS = 4


@dataclass
class _Ages:
    """``born_at`` has the time of each generation, ``of`` the generation of each chunk."""

    born_at: dict[int, float]
    of: dict[int, int] = field(default_factory=dict)
    walked: bool = False


class FakeLruGen:
    """``/sys/kernel/debug/lru_gen``; ``sees_guests`` None is a kernel that does not offer it.

    Where walks do not see what guests access, they find nothing accessed. The first walk of a guest finds
    all of it accessed, because nobody cleared the accessed bits before.
    """

    def __init__(self, host: FakeHost) -> None:
        self.sees_guests: bool | None = None
        self._host = host
        self._ages: dict[tuple[int, int], _Ages] = {}

    def read(self) -> str:
        """The content of the file."""
        if self.sees_guests is None:
            raise refusal(errno.ENOENT, PATH)
        lines = ["memcg     1 /", " node     0"]
        for guest in self._host.guests:
            ages = self._current(guest)
            lines += [f"memcg {guest.pid:5} {guest.cgroup}", " node     0"]
            for number, born_at in sorted(ages.born_at.items()):
                pages = sum(of == number for of in ages.of.values()) * MIB // PAGE_SIZE
                age = round(1000 * (self._host.uptime - born_at))
                lines.append(f" {number:10} {age:10} {pages:10}          0 ")
        return "\n".join(lines) + "\n"

    def write(self, value: str) -> None:
        """A walk: ``+ cgroup node generation swappiness force``."""
        if self.sees_guests is None:
            raise refusal(errno.ENOENT, PATH)
        what, cgroup, node, youngest, *_ = value.split()
        guest = self._host.guest(int(cgroup))
        ages = self._current(guest) if guest is not None else None
        if what != "+" or node != "0" or guest is None or ages is None or int(youngest) > max(ages.born_at):
            raise refusal(errno.EINVAL, PATH)
        now = max(ages.born_at)  # an older number walks all the same, as on Linux 7.3
        accessed = guest.in_use if self.sees_guests else set()
        for chunk in guest.resident if not ages.walked else guest.resident & accessed:
            ages.of[chunk] = now
        ages.walked = True
        ages.born_at[now + 1] = self._host.uptime
        if len(ages.born_at) > _MOST_GENERATIONS:
            oldest = min(ages.born_at)
            del ages.born_at[oldest]
            ages.of = {chunk: max(of, oldest + 1) for chunk, of in ages.of.items()}

    def _current(self, guest: FakeGuest) -> _Ages:
        """What came into memory is of the youngest generation."""
        key = (guest.pid, guest.start_time)
        ages = self._ages.setdefault(key, _Ages(dict.fromkeys(range(4), self._host.uptime)))
        youngest = max(ages.born_at)
        ages.of = {chunk: ages.of.get(chunk, youngest) for chunk in guest.resident}
        return ages
