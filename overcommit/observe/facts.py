"""Reads one `Snapshot` of host and domains.

A domain that cannot be read has gaps, and the others are complete.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Sequence

from overcommit.clock import Clock
from overcommit.errors import UNCONTAINED, Gone, HostError
from overcommit.host.cgroup import OfOne, read_cgroup, read_limits
from overcommit.host.kernel import Kernel
from overcommit.host.ksm import read_ksm, read_merged
from overcommit.host.memory import read_host
from overcommit.host.nodes import read_allowed, read_nodes, read_placement
from overcommit.host.process import read_start_time, runs_domain
from overcommit.host.setaside import read_arc, read_huge_pages
from overcommit.host.swap import read_areas, read_traffic, read_zswap
from overcommit.hypervisor.guest_figures import (
    implausible_gap,
    read_balloon,
    read_definition,
    surveyed_balloon,
)
from overcommit.hypervisor.port import Hypervisor, ListedDomain, Surveyed
from overcommit.model.accounts import CgroupLimit
from overcommit.model.facts import (
    DomainFacts,
    Gap,
    HostFacts,
    Incarnation,
    RunState,
    Snapshot,
)
from overcommit.observe.attempts import attempt_or_gap, gap_text
from overcommit.observe.memory import read_memory


def observe(
    kernel: Kernel, hypervisor: Hypervisor, clock: Clock, surveyed: Sequence[Surveyed] | None = None
) -> Snapshot:
    """Read host and domains once. ``surveyed`` is a recent survey, which saves a call to libvirt.

    Raises:
        HostError: libvirt does not list its domains.
        OSError: the host's own memory files cannot be read.
    """
    host, unreadable = observe_host(kernel)
    domains: list[DomainFacts] = []
    gaps: list[Gap] = list(unreadable)
    limits: dict[str, OfOne] = {}
    if surveyed is None:
        surveyed = [Surveyed(listed, None) for listed in hypervisor.domains()]
    for each in surveyed:
        try:
            domains.append(
                _observe_domain(kernel, hypervisor, clock, each, limits, placed=len(host.nodes) > 1)
            )
        except Gone:
            continue
        except UNCONTAINED:
            raise
        except Exception as error:  # noqa: BLE001 - a boundary: whatever it is, it is this domain's
            gaps.append(Gap(what=f"domain {each.domain.name}", why=gap_text(error)))
    told = _with_common_groups(domains)
    return Snapshot(taken_at=clock.now(), host=host, domains=tuple(told), gaps=tuple(gaps))


def _with_common_groups(domains: Sequence[DomainFacts]) -> Iterator[DomainFacts]:
    """The same domains. Limits of a cgroup that holds several domains belong to none of them."""
    groups = Counter(domain.cgroup.path for domain in domains if domain.cgroup)
    for domain in domains:
        if domain.cgroup is None or not (domain.cgroup.common or groups[domain.cgroup.path] > 1):
            yield domain
            continue
        yield dataclasses.replace(
            domain,
            cgroup=dataclasses.replace(domain.cgroup, common=True),
            limits=_nobodys(domain.limits),
            swap_limits=_nobodys(domain.swap_limits),
        )


def _nobodys(limits: Sequence[CgroupLimit] | None) -> tuple[CgroupLimit, ...] | None:
    return None if limits is None else tuple(dataclasses.replace(limit, own=False) for limit in limits)


def observe_host(kernel: Kernel) -> tuple[HostFacts, tuple[Gap, ...]]:
    """The host's facts, and a gap for each value that cannot be read.

    Raises:
        OSError: its memory files cannot be read; without them nothing can be decided.
    """
    gaps: list[Gap] = []
    attempt = functools.partial(attempt_or_gap, gaps)
    host = read_host(kernel, gaps)
    nodes, unreadable = read_nodes(kernel)
    # Before the devices' own figures: what only the later ones count is then no write of others.
    traffic = attempt("what went to swap", lambda: read_traffic(kernel))
    swap, unknown = read_areas(kernel, host.swap)
    host = dataclasses.replace(
        host,
        nodes=nodes,
        swap=swap,
        huge_pages=attempt("huge pages", lambda: read_huge_pages(kernel)),
        arc=attempt("ZFS's cache", lambda: read_arc(kernel)),
        zswap=attempt("zswap", lambda: read_zswap(kernel)),
        ksm=attempt("KSM", lambda: read_ksm(kernel)),
        swap_traffic=traffic,
    )
    return host, (*unreadable, *unknown, *gaps)


def identify(kernel: Kernel, listed: ListedDomain) -> Incarnation:
    """The QEMU process of a domain, with proof.

    QEMU itself holds the write lock on the pid file that libvirt made (virPidFileAcquirePath), so the kernel
    names the process. Its command line must have the domain's UUID too.

    Raises:
        HostError: no process holds the file, or the process of another domain does.
        Gone: the process ended meanwhile.
    """
    try:
        pid = kernel.lock_holder(listed.pid_file)
    except FileNotFoundError as error:
        raise HostError(f"libvirt lists it, but there is no {listed.pid_file}") from error
    if pid is None:
        raise HostError(f"libvirt lists it, but no process holds {listed.pid_file}")
    started = read_start_time(kernel, pid)
    if not runs_domain(kernel, pid, listed.uuid):
        raise HostError(f"process {pid} holds {listed.pid_file} but does not run {listed.uuid}")
    return Incarnation(uuid=listed.uuid, name=listed.name, pid=pid, start_time=started)


def _observe_domain(
    kernel: Kernel,
    hypervisor: Hypervisor,
    clock: Clock,
    surveyed: Surveyed,
    known: dict[str, OfOne],
    *,
    placed: bool,
) -> DomainFacts:
    listed, said = surveyed.domain, surveyed.balloon
    incarnation = identify(kernel, listed)
    pid = incarnation.pid
    definition, implausible = read_definition(hypervisor, listed.uuid)
    gaps: list[Gap] = [*implausible]
    attempt = functools.partial(attempt_or_gap, gaps)
    busy_with = attempt("job state", lambda: hypervisor.busy_with(listed.uuid))
    balloon = None
    if busy_with is None and definition.balloon_model != "none":
        most = definition.maximum_bytes
        balloon = attempt(
            "balloon",
            lambda: (
                read_balloon(hypervisor, listed.uuid, now=clock.now(), most_bytes=most)
                if said is None
                else surveyed_balloon(said, definition)
            ),
        )
        if balloon is not None and (doubt := implausible_gap(balloon, most)) is not None:
            gaps.append(doubt)
    cgroup = attempt("cgroup", lambda: read_cgroup(kernel, pid))
    if cgroup is None and not any(gap.what == "cgroup" for gap in gaps):
        gaps.append(Gap(what="cgroup", why="no cgroup v2 with memory accounting"))
    limits = attempt("cgroup limits", lambda: read_limits(kernel, cgroup.path, known)) if cgroup else None
    group = cgroup.path if cgroup and placed else None
    placement = attempt("placement", lambda: read_placement(kernel, group)) if group else None
    allowed = attempt("allowed memory nodes", lambda: read_allowed(kernel, pid)) if placed else None
    made, residency = read_memory(kernel, pid, definition, cgroup, gaps)
    merged = attempt("merged pages", lambda: read_merged(kernel, pid))
    return DomainFacts(
        incarnation=incarnation,
        state=listed.state,
        definition=definition,
        busy_with=busy_with,
        balloon=balloon,
        cgroup=cgroup,
        blocks=made.blocks,
        process=made.process,
        holders=made.holders,
        companions=made.companions,
        residency=residency,
        placement=placement,
        allowed_nodes=allowed,
        merged_bytes=merged,
        limits=limits.memory if limits else None,
        swap_limits=limits.swap if limits else None,
        gaps=tuple(gaps),
    )


def watchable(domain: DomainFacts) -> bool:
    """Whether its accesses are meaningful. A paused or busy guest accesses nothing and would look cold."""
    return domain.state is RunState.RUNNING and domain.busy_with is None and bool(domain.memory)
