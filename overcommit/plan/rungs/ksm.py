"""KSM: equal pages of all guests, merged by the kernel. The only mechanism of the host as a whole.

KSM has one switch. Where another service uses it, this program leaves it alone, because two owners would turn
it on and off in turn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from overcommit.model.action import KSM_SETTINGS, KsmAction
from overcommit.model.facts import DomainFacts, KsmFacts, KsmRun, RunState, Snapshot
from overcommit.model.past import Past
from overcommit.model.policy import Policy, ReclaimMode
from overcommit.model.ranges import intersect, total_size
from overcommit.units import PAGE_SIZE, counted, format_duration, format_ratio, format_size

_SCAN_SECONDS = 750.0
"""The time to scan all memory once. A page is merged when it was the same in two scans."""
_LEAST_PAGES, _MOST_PAGES = 100, 20_000
"""Pages per scan step: the kernel's default, and the number that keeps a CPU busy for most of its 20 ms."""
_DIGITS = 8
_VALUES = {
    "advisor_target_scan_time": f"{_SCAN_SECONDS:.0f}",
    "advisor_mode": "scan-time",
    "run": str(KsmRun.RUNNING.value),
}
_FEWEST_DOMAINS = 2
_BUSY_CPU = 0.95
"""If some task waits for a CPU for more than this share of the time, ksmd would slow the guests down."""


def merge(snapshot: Snapshot, policy: Policy, past: Past, *, short: bool) -> KsmAction | None:
    """The action that starts KSM; None: it must not or need not.

    ``short``: the host has less than its reserve.

    It comes after all other actions. Its gain is not counted on, because it is known only afterwards.
    """
    ksm = snapshot.host.ksm
    if ksm is None or not may_start(policy, past, short=short) or obstacle(snapshot) is not None:
        return None
    mergeable = [domain for domain in snapshot.domains if _may_be_merged(domain)]
    amount = sum(_mergeable_bytes(domain) for domain in mergeable)
    return KsmAction(
        id="",
        before_bytes=ksm.sharing_bytes,
        after_bytes=ksm.sharing_bytes,
        expected_bytes=0,
        mergeable_bytes=amount,
        settings=_settings(ksm, amount),
        reason="pages_may_be_equal",
        because=f"{format_size(amount)} of {len(mergeable)} domains can be merged where pages are equal; "
        f"{format_size(ksm.sharing_bytes)} is merged already; how much is equal is not known in advance",
        risk=_risk(snapshot, ksm),
    )


def ksm_notes(snapshot: Snapshot, policy: Policy, past: Past, *, short: bool) -> Iterator[str]:
    """What merges pages now and who started it, or why this program does not."""
    ksm, ours = snapshot.host.ksm, past.ksm_generation
    runs = ksm is not None and ksm.run is KsmRun.RUNNING
    if ksm is not None and ours is not None:
        if not runs:
            yield (
                f"KSM is not as generation {ours} left it (run is {ksm.run.value}); to end it: "
                f"overcommitctl restore {ours}"
            )
        elif not policy.ksm:
            yield (
                f"the policy no longer allows KSM, which generation {ours} started; to end it: "
                f"overcommitctl restore {ours}"
            )
        else:
            yield f"KSM runs since generation {ours}: {gain_text(ksm)}"
    elif ksm is not None and runs:
        yield f"{ksm.tuner or 'somebody else'} runs KSM; overcommit leaves it alone: {gain_text(ksm)}"
    elif may_start(policy, past, short=short) and (reason := obstacle(snapshot)):
        yield f"KSM is not started: {reason}"


def obstacle(snapshot: Snapshot) -> str | None:
    """Why KSM must not be started here, or would be of no use; None: it may be."""
    ksm = snapshot.host.ksm
    if ksm is None:
        unreadable = any(gap.what == "KSM" for gap in snapshot.gaps)
        return "it cannot be read" if unreadable else "this kernel has none (CONFIG_KSM)"
    if ksm.run is KsmRun.RUNNING:
        return "it runs already"
    if ksm.tuner is not None:
        return f"{ksm.tuner} starts and stops it by its own rules"
    if ksm.run is KsmRun.UNMERGED:
        return "somebody stopped it and unmerged all pages (run is 2)"
    busy = snapshot.host.cpu_pressure
    if busy is not None and busy.some_avg60 > _BUSY_CPU:
        share = format_ratio(busy.some_avg60)
        return f"the CPUs are too busy (a task waits for one {share} of the time)"
    if sum(map(_may_be_merged, snapshot.domains)) < _FEWEST_DOMAINS:
        return f"fewer than {_FEWEST_DOMAINS} running domains have memory that may be merged"
    return None


def gain_text(ksm: KsmFacts) -> str:
    """What merging has saved in the kernel's account."""
    saved = f"{format_size(ksm.sharing_bytes)} saved in {counted(ksm.full_scans, 'full scan')}"
    if ksm.profit_bytes is None:
        return saved
    return f"{saved}, net gain {format_size(ksm.profit_bytes)} (less the kernel's bookkeeping)"


def may_start(policy: Policy, past: Past, *, short: bool) -> bool:
    """Whether the policy wants it now, and this program has not started it already."""
    on_time = policy.reclaim is ReclaimMode.PROACTIVE or (policy.reclaim is ReclaimMode.ON_PRESSURE and short)
    return policy.ksm and on_time and past.ksm_generation is None


def foreign_settings(settings: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The settings of an action that no plan of this program has, in words."""
    names = [name for name, _ in settings]
    if names != [name for name in KSM_SETTINGS if name in names] or names[-1:] != ["run"]:
        yield "KSM would be given settings that no plan gives it"
        return
    for name, value in settings:
        if name == "pages_to_scan":
            right = value.isascii() and value.isdecimal() and len(value) < _DIGITS
            right = right and _LEAST_PAGES <= int(value) <= _MOST_PAGES
        else:
            right = value == _VALUES[name]
        if not right:
            yield f"KSM's {name} would be set to what no plan sets it to"


def _may_be_merged(domain: DomainFacts) -> bool:
    """Whether the kernel can merge memory of the domain: by its backing, and because nothing holds it."""
    definition = domain.definition
    held = bool(definition.passthrough or domain.holders) or definition.launch_security is not None
    return domain.state is RunState.RUNNING and not held and _mergeable_bytes(domain) > 0


def _mergeable_bytes(domain: DomainFacts) -> int:
    """Its bytes that can be merged. In a snapshot without places it is all or nothing."""
    mergeable = domain.mergeable
    if domain.residency is None or not mergeable:
        return 0
    if mergeable == domain.ram:
        return domain.held_bytes
    return min(domain.held_bytes, total_size(tuple(intersect(domain.residency.resident, mergeable))))


def _settings(ksm: KsmFacts, amount: int) -> tuple[tuple[str, str], ...]:
    """The scan rate: set by the kernel's advisor where it has one, otherwise by the amount to scan."""
    start, target, mode = (
        (name, _VALUES[name]) for name in ("run", "advisor_target_scan_time", "advisor_mode")
    )
    if ksm.advisor is None:
        looks = _SCAN_SECONDS / max(ksm.sleep_seconds, 0.001)
        pages = math.ceil(amount / PAGE_SIZE / looks)
        return ("pages_to_scan", str(min(max(pages, _LEAST_PAGES), _MOST_PAGES))), start
    return (target, start) if ksm.advisor == mode[1] else (target, mode, start)


def _risk(snapshot: Snapshot, ksm: KsmFacts) -> str:
    text = (
        "a guest can find out by timing what pages others have; a write to a merged page costs a fault and "
        "a copy; ksmd uses CPU to scan all of it in "
        f"{format_duration(_SCAN_SECONDS)}"
    )
    if len(snapshot.host.nodes) > 1 and ksm.across_nodes:
        text += "; a merged page may lie on another memory node than its guest (merge_across_nodes is 1)"
    return text
