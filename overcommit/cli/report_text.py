"""The report as text, and its sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from overcommit.cli.history_text import local_time
from overcommit.cli.render import UNKNOWN, size
from overcommit.cli.tables import Block, prose, table
from overcommit.display import plain
from overcommit.model.moments import Wall
from overcommit.model.outcome import Status
from overcommit.units import counted, format_duration, format_ratio, format_size

Document = Mapping[str, Any]
MECHANISMS = {
    "swap": "page-out and swap",
    "balloon": "balloon",
    "virtio_mem": "virtio-mem",
    "ksm": "equal pages merged (KSM)",
}
SAVED_HEADER = ("mechanism", "taken", "kept in zram or zswap", "net")
DOMAIN_HEADER = ("domain", "memory", "resident", "taken", "idle", "p99 used", "outside", "worst", "read back")
HOURS_HEADER = ("hour", "outside", "read back", "available", "PSI some", "who")
EVENTS_HEADER = ("what", "done", "in part", "failed", "undone", "freed")
_MOST_LATEST = 10
_MOST_SHOWN = 9.99


def report_text(report: Document) -> Iterator[Block]:
    """A whole report."""
    yield title(report)
    yield prose(f"  {host_sentence(report)}")
    yield ""
    yield saved_sentence(report)
    yield table(SAVED_HEADER, saved_rows(report))
    yield ""
    yield "Domains"
    yield from (prose(f"  {sentence}") for sentence in DOMAINS_SAID)
    yield table(DOMAIN_HEADER[:-1], (row[:-1] for row in domain_rows(report)))
    yield ""
    yield "Memory that each domain needed, as far as it was seen"
    yield from (prose(f"  {sizing_sentence(domain)}") for domain in report["domains"])
    yield ""
    if report["worst_hours"]:
        yield "Worst hours"
        yield prose(f"  {HOURS_SAID}")
        yield table(HOURS_HEADER, hour_rows(report), names=(5,), left=(0, 5))
    else:
        yield NO_HOURS
    yield ""
    if report["events"]["count"]:
        yield "What was done"
        yield table(EVENTS_HEADER, event_rows(report), names=())
        failed = [event for event in report["events"]["latest"] if event["status"] == Status.FAILED.value]
        yield from (prose(f"  {event_sentence(event)}") for event in failed[-_MOST_LATEST:])
    else:
        yield NO_EVENTS


DOMAINS_SAID = (
    "idle: the share of resident memory that was not accessed for 10 minutes or longer, half of the time.",
    "p99 used: the working set that was not exceeded 99 % of the time.",
    "outside: the share of time outside of the SLO. worst: the worst figure as a share of its bound.",
)
HOURS_SAID = "outside: the time outside of the SLO, of all domains. available: the least that the host had."
NO_HOURS = "No domain was outside of its SLO, and nothing was read back from swap."
NO_EVENTS = "Nothing was done."


def title(report: Document) -> str:
    """What the report is about."""
    return (
        f"{plain(report['host']['name'])}: {counted(len(report['domains']), 'domain')}, "
        f"{moment(report['first_at'])} to {moment(report['last_at'])}, "
        f"{format_duration(report['observed_minutes'] * 60)} observed"
    )


def host_sentence(report: Document) -> str:
    """The memory of the host."""
    host = report["host"]
    psi = host["psi_some_p99"]
    waited = "" if psi is None else f"; PSI some was at most {psi:.1%} for 99 % of the time"
    return (
        f"Of {size(host['total_bytes'])} RAM, {size(host['available_mean_bytes'])} were available in the "
        f"mean, {size(host['available_least_bytes'])} at least{waited}."
    )


def saved_sentence(report: Document) -> str:
    """What was saved, in one sentence."""
    return f"Saved in the mean: {format_size(report['savings']['net_mean_bytes'])} net"


def saved_rows(report: Document) -> Iterator[tuple[str, ...]]:
    """See `SAVED_HEADER`."""
    for each in report["savings"]["mechanisms"]:
        figures = (each["taken_mean_bytes"], each["cost_mean_bytes"], each["net_mean_bytes"])
        yield MECHANISMS[each["name"]], *map(format_size, figures)


def domain_rows(report: Document) -> Iterator[tuple[str, ...]]:
    """See `DOMAIN_HEADER`."""
    for domain in report["domains"]:
        yield (
            domain["name"],
            size(domain["memory_bytes"]),
            size(domain["resident_mean_bytes"]),
            format_size(sum(domain["taken_mean_bytes"].values())),
            share(domain["idle"][1]["p50_share"]),
            size(domain["working_set"]["p99_bytes"]),
            *outside(domain),
            format_size(domain["read_back_bytes"]),
        )


def outside(domain: Document) -> tuple[str, str]:
    """How much of the time in which its SLO was judged it was exceeded, and the worst figure."""
    outside, most = domain["outside_share"], domain["slo_most"]
    far = f">{_MOST_SHOWN:.0%}" if most is not None and most > _MOST_SHOWN else share(most)
    return UNKNOWN if outside is None else format_ratio(outside), far


def sizing_sentence(domain: Document) -> str:
    """What a domain has, and what it was seen to use."""
    working_set = domain["working_set"]
    name, defined = plain(domain["name"]), format_size(domain["memory_bytes"])
    if working_set["p99_bytes"] is None:
        return f"{name}: {defined} defined, its working set is not known"
    seen = format_duration(working_set["known_minutes"] * 60)
    doubt = "" if working_set["seen_enough"] else " (less than a week: too short to resize it)"
    return f"{name}: {defined} defined, p99 working set {size(working_set['p99_bytes'])}, {seen} seen{doubt}"


def hour_rows(report: Document) -> Iterator[tuple[str, ...]]:
    """See `HOURS_HEADER`."""
    for hour in report["worst_hours"]:
        yield (
            moment(hour["at"]),
            format_duration(hour["outside_minutes"] * 60),
            format_size(hour["read_back_bytes"]),
            format_size(hour["available_least_bytes"]),
            UNKNOWN if hour["psi_some"] is None else f"{hour['psi_some']:.1%}",
            who(hour),
        )


def who(hour: Document) -> str:
    """The domains that were outside of their SLO longest in that hour."""
    more = f" and {hour['more_domains']} more" if hour["more_domains"] else ""
    return (", ".join(plain(domain["name"]) for domain in hour["domains"]) or "-") + more


def event_rows(report: Document) -> Iterator[tuple[str, ...]]:
    """See `EVENTS_HEADER`."""
    for kind in report["events"]["by_kind"]:
        counts = (Status.DONE, Status.PARTIAL, Status.FAILED, Status.UNDONE)
        yield (
            plain(kind["kind"]),
            *(str(kind[status.value]) for status in counts),
            format_size(kind["freed_bytes"]),
        )


def event_sentence(event: Document) -> str:
    """One event in a line."""
    about = f" {plain(event['domain'])}" if event["domain"] else ""
    detail = f": {plain(event['detail'])}" if event["detail"] else ""
    return f"{moment(event['at'])} {plain(event['kind'])}{about}, {event['status']}{detail}"


def share(ratio: float | None) -> str:
    """A share in percent, or a question mark for a gap."""
    return UNKNOWN if ratio is None else f"{ratio:.0%}"


def moment(at: float | None) -> str:
    """Date and time of this host's zone, to the minute."""
    return UNKNOWN if at is None else local_time(Wall(at))[:16].replace("T", " ")
