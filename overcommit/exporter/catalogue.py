"""All metrics: names, types, labels and meanings. docs/metrics.md lists them too."""

from __future__ import annotations

import enum
from typing import NamedTuple

PREFIX = "overcommit_"
OTHERS = "/others"
"""The label of the sum of domains beyond the limit. Libvirt's QEMU driver accepts no name with a slash."""


class Kind(enum.Enum):
    """The type of a metric. The value is its OpenMetrics name."""

    GAUGE = "gauge"
    COUNTER = "counter"
    INFO = "info"
    SUMMARY = "summary"
    GAUGE_HISTOGRAM = "gaugehistogram"


class Described(NamedTuple):
    """One metric. ``key`` is the field of the status document that has the value, if it is one field."""

    name: str
    kind: Kind
    about: str
    labels: tuple[str, ...] = ()
    key: str = ""

    @property
    def exposed(self) -> str:
        """The name in a query, without the suffixes of summaries and histograms."""
        suffix = {Kind.COUNTER: "_total", Kind.INFO: "_info"}.get(self.kind, "")
        return f"{PREFIX}{self.name}{suffix}"


def _gauge(name: str, about: str, *labels: str, key: str = "") -> Described:
    return Described(name, Kind.GAUGE, about, labels, key)


def _counter(name: str, about: str, *labels: str, key: str = "") -> Described:
    return Described(name, Kind.COUNTER, about, labels, key)


UP = _gauge("up", "1 when overcommitd answered this scrape, 0 when all other values are the last known ones.")
AGE = _gauge("status_age_seconds", "How long ago overcommitd answered last.")
EXPORTER = Described("exporter", Kind.INFO, "The exporter's own version.", ("version",))
FAILURES = _counter(
    "exporter_failures", "Scrapes that overcommitd did not answer in time, or not understandably."
)
OF_EXPORTER = (UP, AGE, EXPORTER, FAILURES)

DAEMON = Described("daemon", Kind.INFO, "Versions of overcommitd and of the kernel.", ("version", "kernel"))
MODE = _gauge("mode", "1 for the mode that overcommitd is in: observe, active, paused or safe.", "mode")
STOPPED = _gauge("stopped", "1 while something stops all taking of memory.")
POLICY_REFUSED = _gauge(
    "policy_refused", "1 while the policy on disk is refused and an older one is in force."
)
PAUSE_ENDS = _gauge(
    "pause_end_timestamp_seconds", "When the pause ends, where it has an end.", key="mode_until"
)
TICKED = _gauge("last_tick_timestamp_seconds", "When overcommitd looked last.", key="ticked_at")
PLANNED = _gauge("last_plan_timestamp_seconds", "When overcommitd planned last.", key="planned_at")
TICKS = Described(
    "tick_duration_seconds", Kind.SUMMARY, "Ticks and how long they took; kind: look, or plan.", ("kind",)
)
MONITORS_CPU = _counter(
    "monitors_cpu_seconds", "CPU time of the kdamonds that watch memory, as far as they are known."
)
ACTIONS = _counter("actions", "Actions that ended, by kind and outcome.", "kind", "outcome")
FREED = _counter("actions_freed_bytes", "What they freed, as read from the host.", "kind", "outcome")
JOURNAL = _gauge("journal_bytes", "Size of the undo journal.", key="journal_bytes")
JOURNAL_MOST = _gauge(
    "journal_limit_bytes", "The most that the undo journal takes.", key="journal_most_bytes"
)
GENERATIONS = _gauge("generations", "Generations with changes in force.")
RESERVATIONS = _gauge("reservations", "Promises of memory in force.")
QUARANTINES = _gauge("quarantines", "Quarantines in force.", "actuator")
GAPS = _gauge("gaps", "Values of the host that could not be read.")
SWAP_ROOM = _gauge("swap_budget_bytes", "What may still be paged out.", key="room_bytes")
SWAP_RATE = _gauge("swap_budget_bytes_per_second", "How fast more may be paged out.", key="bytes_per_second")
SWAP_SPENT = _gauge("swap_budget_spent", "1 while the swap budget allows no page-out.")
DOMAINS = _gauge("domains", "Domains that run.")
SUMMED = _gauge("domains_summed", f"Domains beyond the exporter's limit, summed as {OTHERS}.")
OF_DAEMON = (
    *(
        DAEMON,
        MODE,
        STOPPED,
        POLICY_REFUSED,
        PAUSE_ENDS,
        TICKED,
        PLANNED,
        TICKS,
        MONITORS_CPU,
        ACTIONS,
        FREED,
    ),
    *(JOURNAL, JOURNAL_MOST, GENERATIONS, RESERVATIONS, QUARANTINES, GAPS, SWAP_ROOM, SWAP_RATE, SWAP_SPENT),
    *(DOMAINS, SUMMED),
)

OF_HOST = (
    _gauge("host_memory_total_bytes", "RAM of the host.", key="total_bytes"),
    _gauge("host_memory_available_bytes", "What can be had, ZFS's cache included.", key="available_bytes"),
    _gauge("host_memory_promised_bytes", "Memory of all domains together.", key="promised_bytes"),
    _gauge("host_reserve_bytes", "What the policy keeps free for the host.", key="reserve_bytes"),
    _gauge("host_reserved_bytes", "What is promised by reservations.", key="reserved_bytes"),
    _gauge(
        "host_headroom_bytes",
        "What is available beyond reserve and reservations; below 0 when the reserve is missed.",
        key="headroom_bytes",
    ),
    _gauge("host_swap_total_bytes", "Size of all swap areas.", key="swap_total_bytes"),
    _gauge("host_swap_used_bytes", "What is in swap.", key="swap_used_bytes"),
    _gauge("host_zram_used_bytes", "Memory that zram takes.", key="zram_used_bytes"),
    _gauge(
        "host_memory_pressure_ratio",
        "Share of the last minute in which some task waited for memory (PSI some avg60).",
        key="psi_some_avg60",
    ),
)

DOMAIN = Described("domain", Kind.INFO, "What a domain is.", ("domain", "uuid", "class"))
RECLAIMED = _gauge(
    "domain_reclaimed_bytes",
    "What is out of the domain, by mechanism; swap: all that is there, whoever put it there.",
    "domain",
    "mechanism",
)
PROMOTIONS = _counter("domain_promotions", "Pages that came back from swap.", "domain", key="promoted_pages")
FAULTS = _counter(
    "domain_faults",
    "Errors that overcommitd contained while it worked for the domain.",
    "domain",
)
DOMAIN_GAPS = _gauge("domain_gaps", "Values of the domain that could not be read; absent at 0.", "domain")
LEFT_ALONE = _gauge("domain_left_alone", "1 while nothing is taken from the domain.", "domain")
QUARANTINED = _gauge(
    "domain_quarantined", "1 while an actuator is not used on the domain; absent at 0.", "domain", "actuator"
)
IDLE = Described(
    "domain_idle_seconds",
    Kind.GAUGE_HISTOGRAM,
    "Resident bytes by how long they have been idle, as a histogram with one observation per byte.",
    ("domain",),
)
IDLE_BOUNDS_SECONDS = (0.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
"""The lower bounds of overcommitd's idle times."""
DOMAIN_BYTES = tuple(
    _gauge(f"domain_{name}_bytes", about, "domain", key=key)
    for name, key, about in (
        ("maximum", "maximum_bytes", "Memory that the definition allows."),
        ("balloon", "actual_bytes", "Memory that the balloon leaves the guest."),
        ("resident", "resident_bytes", "Guest RAM in host memory."),
        ("swapped", "swapped_bytes", "Guest RAM in swap."),
        ("overhead", "overhead_bytes", "What QEMU takes beside guest RAM."),
        ("target", "target_bytes", "Where the latest plan wants resident memory to be."),
        ("floor", "floor_bytes", "Page-out goes no lower than this."),
        ("working_set", "wss_bytes", "What was accessed within the class's cold_after."),
    )
)
"""Values that can be summed over domains."""
DOMAIN_RATIOS = tuple(
    _gauge(f"domain_{name}", about, "domain", key=key)
    for name, key, about in (
        ("cold_after_seconds", "cold_after_seconds", "How long memory must be idle to be taken."),
        ("memory_pressure_ratio", "psi_some_avg60", "PSI some avg60 of the domain's cgroup."),
        ("slo_memory_pressure_ratio", "slo_psi_some", "The most of it that its class allows."),
        (
            "promotions_per_minute_ratio",
            "promotion_rate_per_minute",
            "Share of the working set that came back in the last minute.",
        ),
        (
            "slo_promotions_per_minute_ratio",
            "slo_promotion_rate_per_minute",
            "The most of it that its class allows.",
        ),
        ("outside_slo_ratio", "outside_share", "Share of the last day in which it exceeded its SLO."),
    )
)
"""Values that have no sum."""
OF_DOMAIN = (
    *(DOMAIN, *DOMAIN_BYTES, *DOMAIN_RATIOS, RECLAIMED, PROMOTIONS, IDLE),
    *(LEFT_ALONE, QUARANTINED, DOMAIN_GAPS, FAULTS),
)
ALL = (*OF_EXPORTER, *OF_DAEMON, *OF_HOST, *OF_DOMAIN)
