"""What is measured on: guests at work, and the state that every controller starts from."""

from __future__ import annotations

from dataclasses import dataclass

from integration.lab.guests import GuestSpec

MEMORY = "320M"
"""Of each guest: enough to tell hot from cold, little enough for an emulated processor."""


@dataclass(frozen=True)
class Guest:
    """A guest, and the phase of its workload that it is at work in."""

    spec: GuestSpec
    phase: str


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """Guests on a host VM.

    They work for ``settle_seconds`` before the state is saved. Each run then has ``control_seconds`` under
    its controller and ``after_seconds`` without it. ``orders`` are told to guests as the controller begins.
    ``thp`` is the host's transparent_hugepage: with ``madvise`` QEMU's request for huge pages is granted.
    """

    name: str
    shown: str
    guests: tuple[Guest, ...]
    thp: str = "madvise"
    kernel: str = "7.3"
    host_memory: str = "2560M"
    settle_seconds: float = 90.0
    control_seconds: float = 240.0
    after_seconds: float = 60.0
    orders: tuple[tuple[str, str], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Its guests' names."""
        return tuple(guest.spec.name for guest in self.guests)

    @property
    def kernel_words(self) -> str:
        """What its host VM boots with."""
        return f"transparent_hugepage={self.thp}"


def _web() -> Guest:
    return Guest(GuestSpec("web", MEMORY, "hotset", {"total": "200M", "hot": "32M", "hz": "0.25"}), "touch")


def _files(seconds: int = 4) -> Guest:
    settings = {"files": "160M", "hot": "24M", "hz": str(round(1 / seconds, 4))}
    return Guest(GuestSpec("files", MEMORY, "pagecache", settings), "read")


def _kv(theta: str = "0.99", name: str = "kv") -> Guest:
    settings = {"keys": "120000", "rate": "25", "theta": theta, "seed": "11"}
    return Guest(GuestSpec(name, MEMORY, "kv", settings), "serve")


def _phases(every: int = 60, name: str = "phases") -> Guest:
    settings = {"total": "200M", "hot": "32M", "hz": "0.25", "every": str(every)}
    return Guest(GuestSpec(name, MEMORY, "phases", settings), "touch")


def _batch(*, reports: bool = True) -> Guest:
    settings = {"total": "200M", "after": "100000"}
    return Guest(GuestSpec("batch", MEMORY, "freed", settings, free_page_reporting=reports), "held")


def _cache(period: int) -> Guest:
    """Reads 96 MiB of files again each period, and little else."""
    settings = {"files": "160M", "hot": "96M", "hz": str(round(1 / period, 4))}
    return Guest(GuestSpec("cache", MEMORY, "pagecache", settings), "read")


def _idle(name: str) -> Guest:
    return Guest(GuestSpec(name, MEMORY, "idle", {"total": "200M"}), "idle")


def _hog() -> Guest:
    settings = {"total": "256M", "base": "32M", "hz": "0.25", "hold": "60"}
    return Guest(GuestSpec("hog", MEMORY, "hog", settings), "base")


_FREES = (("batch", "wake"),)
_FIVE = (_web(), _files(), _kv(), _phases(), _batch())
_PAGES = {"madvise": "huge pages", "never": "4 KiB pages"}


def _both(
    name: str,
    shown: str,
    guests: tuple[Guest, ...],
    *,
    orders: tuple[tuple[str, str], ...] = (),
    control_seconds: float = 240.0,
) -> tuple[Scenario, ...]:
    """The scenario with huge pages, as most hosts have them, and with 4 KiB pages."""
    return tuple(
        Scenario(
            name=f"{name}{suffix}",
            shown=f"{shown}; {_PAGES[thp]}",
            guests=guests,
            thp=thp,
            orders=orders,
            control_seconds=control_seconds,
        )
        for suffix, thp in (("", "madvise"), ("-4k", "never"))
    )


_FIVE_SHOWN = (
    "five of 320 MiB: web (32 of 200 MiB hot), files (24 of 160 MiB of cache read), kv (memcached, zipfian), "
    "phases (a hot set of 32 MiB that moves each minute), batch (frees 200 MiB as the controller begins)"
)
SCENARIOS: dict[str, Scenario] = {
    each.name: each
    for each in (
        *_both("five", _FIVE_SHOWN, _FIVE, orders=_FREES),
        *_both("kv", "kv alone: memcached, zipfian, skew 0.99", (_kv(),)),
        *_both("kv-flat", "kv alone, skew 0.7", (_kv("0.7"),)),
        *_both("kv-steep", "kv alone, skew 1.2", (_kv("1.2"),)),
        *_both("moving-30s", "a hot set that moves every 30 s", (_phases(30),)),
        *_both("moving-90s", "a hot set that moves every 90 s", (_phases(90),)),
        *_both("moving-300s", "a hot set that moves every 300 s", (_phases(300),), control_seconds=600.0),
        *_both("cache-60s", "96 MiB of file cache read once a minute", (_cache(60),)),
        *_both("cache-180s", "96 MiB of cache read every 3 minutes", (_cache(180),), control_seconds=480.0),
        *_both("cache-600s", "96 MiB of cache read every 10 minutes", (_cache(600),), control_seconds=900.0),
        *_both("idle", "four guests that hold 200 MiB each and do nothing", tuple(map(_idle, "abcd"))),
        *_both("hog", "a hog that wakes as the controller begins, among sleepers",
               (_hog(), _idle("a"), _idle("b"), _web()), orders=(("hog", "wake"),)),
        Scenario(
            name="five-unreported", shown=f"{_FIVE_SHOWN}; free page reporting off in batch; huge pages",
            guests=(*_FIVE[:4], _batch(reports=False)), orders=_FREES,
        ),
        Scenario(
            name="five-4k-6.12", shown=f"{_FIVE_SHOWN}; 4 KiB pages; Linux 6.12",
            guests=_FIVE, thp="never", kernel="6.12", orders=_FREES,
        ),
    )
}  # fmt: skip
"""All of them, by name."""

QUICK = Scenario(
    name="quick",
    shown=f"{_FIVE_SHOWN}; 4 KiB pages; a shorter run",
    guests=_FIVE,
    thp="never",
    settle_seconds=60.0,
    control_seconds=140.0,
    after_seconds=40.0,
    orders=_FREES,
)
"""For daily work: all that hurts, in three and a half minutes a controller.

In 100 s ``apply`` watched, moved two balloons and had begun one page-out.
"""
