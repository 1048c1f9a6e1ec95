"""All fields of one domain in the status document, as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from overcommit.cli import render, status_text
from overcommit.cli.history_text import quarantine_texts
from overcommit.cli.live.recent import Fact, Recent, sparkline
from overcommit.cli.status_text import Document
from overcommit.cli.tables import Block, Line, prose
from overcommit.model.moments import Monotonic
from overcommit.units import format_duration, format_ratio, format_size

_MINUTES = {Fact.TAKEN: "taken", Fact.PAIN: "slo", Fact.RESIDENT: "resident"}
_WIDTH = 60


def lines(domain: Document, seen: Document, recent: Recent, at: Monotonic, levels: str) -> Iterator[Block]:
    """The lines; what needs attention comes first."""
    yield Line(
        f"{domain['name']}  (class {domain['class']}, {domain['state']}, uuid {domain['uuid']}, "
        f"pid {domain['pid']})",
        "bold",
        prose=True,
    )
    for remark in status_text.remarks(domain):
        yield prose(f"  {remark}")
    yield _feels(domain)
    yield from _memory(domain)
    for quarantine in seen["quarantines"]:
        if quarantine["uuid"] == domain["uuid"]:
            text, ending = quarantine_texts(quarantine)
            yield prose(f"  {text}")
            yield f"      to end it: {ending}"
    if faults := domain.get("faults"):
        yield prose(f"  {faults['count']} errors were contained; the last: {faults['last']}")
    yield "  the last ten minutes, each relative to its highest:"
    for fact, name in _MINUTES.items():
        shown = sparkline(recent.of(domain["uuid"], fact, at), fact, _WIDTH, levels)
        yield f"    {name:<9} {shown}"


def _feels(domain: Document) -> Line:
    parts = [f"{status_text.PAIN.cell(domain)} of its limit"]
    if domain.get("feels"):
        parts.append(domain["feels"])
    parts.append(f"read back in a minute {status_text.READ_BACK.cell(domain)} of its working set")
    bound = domain.get("slo_psi_some")
    allowed = "" if bound is None else f" of {format_ratio(bound)}"
    parts.append(f"memory pressure {status_text.PRESSURE.cell(domain)}{allowed}")
    outside = domain.get("outside_share")
    if outside is not None:
        parts.append(f"outside of its SLO for {format_ratio(outside)} of the last day")
    return Line("  SLO: " + "; ".join(parts), "bold red" if status_text.in_pain(domain) else "", prose=True)


def _memory(domain: Document) -> Iterator[Line]:
    size = render.size
    yield prose(
        f"  memory: {size(domain['maximum_bytes'])} defined, {size(domain['actual_bytes'])} by its balloon, "
        f"{size(domain['resident_bytes'])} resident, {size(domain['swapped_bytes'])} swapped, QEMU "
        f"{size(domain['overhead_bytes'])}"
    )
    by = ", ".join(f"{format_size(each)} {name}" for name, each in (domain.get("reclaimed_by") or {}).items())
    idle = ", ".join(
        f"{format_size(each['bytes'])} for {format_duration(each['min_idle_seconds'])}"
        for each in domain.get("idle_histogram") or ()
        if each["bytes"]
    )
    yield prose(f"  idle for at least: {idle or 'not known yet'}")
    yield prose(f"  taken: {size(domain['reclaimed_bytes'])}" + (f" ({by})" if by else ""))
    yield prose(
        f"  plan: target {size(domain['target_bytes'])}, floor {size(domain.get('floor_bytes'))}, ceiling "
        f"{size(domain.get('ceiling_bytes'))}; cold after {status_text.COLD_AFTER.cell(domain)}, working set "
        f"{size(domain.get('wss_bytes'))}"
    )
