"""Which actuator may be used on which domain. If not: the reason, and what would change it (rule S6)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from overcommit.display import command, display_name
from overcommit.model.facts import DomainFacts, HostFacts, RunState
from overcommit.model.plan import Verdict, refusal
from overcommit.model.policy import Actuator, GuestHelp, PageoutActor
from overcommit.plan.case import worthwhile
from overcommit.plan.immovable import (
    against_elsewhere,
    against_hugepages,
    against_pinned,
    against_sealed,
    missing,
)
from overcommit.plan.limits import no_swap, raise_text, tightest
from overcommit.units import format_size

OK = Verdict(ok=True)
WRITES = frozenset({"guest-file-open", "guest-file-write", "guest-file-flush", "guest-file-close"})
"""The agent's commands that are needed to write a file in the guest."""
READS = frozenset({"guest-file-open", "guest-file-read", "guest-file-close"})
"""The agent's commands that are needed to read a file."""
_NONE: Mapping[Actuator, Verdict] = MappingProxyType({})


def judge(
    domain: DomainFacts,
    host: HostFacts,
    allowed: frozenset[Actuator],
    *,
    pageout_actor: PageoutActor | None = None,
    cold_node: int | None = None,
    vetoes: Mapping[Actuator, Verdict] = _NONE,
) -> dict[Actuator, Verdict]:
    """A verdict per actuator. The first reason against it wins; the most lasting ones are checked first.

    ``pageout_actor`` None: any that is possible. Demotion is judged only where there is a ``cold_node``,
    virtio-mem only where there is a device. ``vetoes`` count where nothing else is against the actuator.
    """
    checks = {Actuator.FREE_PAGE_REPORTING: _against_reporting(domain)}
    if domain.definition.virtio_mem:
        checks[Actuator.VIRTIO_MEM] = _against_virtio_mem(domain)
    checks[Actuator.BALLOON] = _against_balloon(domain)
    if cold_node is not None:
        checks[Actuator.DEMOTION] = _against_demotion(domain, host, cold_node)
    checks[Actuator.PAGEOUT] = _against_pageout(domain, host, pageout_actor)
    verdicts = {}
    for actuator, objections in checks.items():
        if actuator in allowed:
            verdicts[actuator] = next(objections, vetoes.get(actuator, OK))
        else:
            verdicts[actuator] = refusal("the class does not use it", "")
    return verdicts


def judge_return(
    domain: DomainFacts, *, vetoes: Mapping[Actuator, Verdict] = _NONE
) -> dict[Actuator, Verdict]:
    """Whether a guest can get back what was taken from it, per actuator that gives memory.

    Fewer reasons apply than to taking. It needs neither the guest's figures, because a guest that thrashes
    sends none, nor its residency. The class does not matter, because its settings are about taking.
    """
    objections = [*_against_now(domain), *missing(domain, "balloon")]
    verdict = next(iter(objections), OK)
    ways = (Actuator.VIRTIO_MEM, Actuator.BALLOON)
    return {help_kind: vetoes.get(help_kind, OK) if verdict.ok else verdict for help_kind in ways}


def judge_help(
    domain: DomainFacts, allowed: frozenset[GuestHelp], reporting: Verdict
) -> dict[GuestHelp, Verdict]:
    """A verdict on each help that the domain's class allows.

    Free page ``reporting`` must pass on what it frees.
    """
    if not reporting.ok:
        useless = refusal(f"free page reporting cannot be used: {reporting.reason}", reporting.hint)
        return {help_kind: useless for help_kind in GuestHelp if help_kind in allowed}
    checks = {
        GuestHelp.COMPACTION: _against_compaction(domain),
        GuestHelp.DAMON_RECLAIM: _against_reclaim(domain),
    }
    return {
        help_kind: next(objections, OK) for help_kind, objections in checks.items() if help_kind in allowed
    }


def may_ask_agent(domain: DomainFacts) -> bool:
    """Whether its agent can be asked, and whether an answer could be of use."""
    return next(_against_reporting(domain), OK).ok and next(_against_agent(domain), OK).ok


def reporting_would_work(domain: DomainFacts) -> bool:
    """Whether only the domain's definition keeps free page reporting from working."""
    if domain.definition.free_page_reporting:
        return False
    definition = dataclasses.replace(domain.definition, free_page_reporting=True)
    as_if = dataclasses.replace(domain, definition=definition)
    return next(_against_reporting(as_if), OK).ok and next(against_hugepages(as_if), OK).ok


def _against_agent(domain: DomainFacts) -> Iterator[Verdict]:
    connected = domain.definition.agent_connected
    if connected is None:
        yield refusal(
            "no channel for a guest agent",
            "add <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
        )
    elif not connected:
        yield refusal("its guest agent is not connected", "install and start qemu-guest-agent in the guest")
    yield from _against_now(domain)


def _against_willing(domain: DomainFacts, needed: frozenset[str]) -> Iterator[Verdict]:
    yield from _against_agent(domain)
    agent = domain.agent
    if agent is None:
        yield refusal("its guest agent was not asked", "if its owner agrees, set guest_help in its class")
    elif agent.trouble is not None:
        yield refusal(f"its guest agent failed: {agent.trouble}", "see qemu-guest-agent in the guest")
    elif needed - agent.commands:
        blocked = ", ".join(sorted(needed - agent.commands))
        yield refusal(
            f"its guest agent may not do {blocked}",
            "qemu-ga's --block-rpcs or --allow-rpcs in the guest says so (RHEL: /etc/sysconfig/qemu-ga)",
        )


def _against_compaction(domain: DomainFacts) -> Iterator[Verdict]:
    yield from _against_willing(domain, WRITES)
    yield from _against_statistics(domain)
    if domain.balloon is not None and domain.balloon.unused_bytes is None:
        yield refusal("the guest does not report free memory", "its driver is too old")
    yield from missing(domain, "guest RAM", "residency")


def _against_reclaim(domain: DomainFacts) -> Iterator[Verdict]:
    yield from _against_willing(domain, WRITES | READS)
    if domain.agent is not None and domain.agent.reclaims is None:
        yield refusal("its kernel has no DAMON_RECLAIM", "CONFIG_DAMON_RECLAIM is needed in the guest")
    yield from missing(domain, "guest RAM", "residency")


def _against_now(domain: DomainFacts) -> Iterator[Verdict]:
    if domain.state is RunState.PAUSED:
        yield refusal("the domain is paused", command("virsh", "resume", display_name(domain.incarnation)))
    elif domain.state is not RunState.RUNNING:
        yield refusal(
            "the domain is not running normally",
            command("virsh", "domstate", display_name(domain.incarnation), "--reason"),
        )
    if domain.busy_with:
        yield refusal(f"busy with {domain.busy_with}", "wait until it is over")
    yield from missing(domain, "job state")


def _against_reporting(domain: DomainFacts) -> Iterator[Verdict]:
    definition = domain.definition
    yield from against_pinned(domain)
    if definition.balloon_model == "none":
        yield refusal("no balloon device", "add <memballoon model='virtio'/> and power-cycle the domain")
    if definition.windows:
        yield refusal("its driver does not report free pages (a Windows guest)", "use its balloon instead")
    if not definition.free_page_reporting:
        yield refusal(
            "off in the domain's definition",
            command("overcommitctl", "prepare", display_name(domain.incarnation), "--apply")
            + ", then power-cycle the domain",
        )


def _against_virtio_mem(domain: DomainFacts) -> Iterator[Verdict]:
    definition = domain.definition
    yield from against_sealed(domain)
    huge = {block.alias for block in domain.guest_ram if block.huge}
    if all(device.alias in huge for device in definition.virtio_mem):
        yield refusal(
            "its virtio-mem is in hugetlb pages",
            "remove <pagesize> from the device's <source>; else only the pool of huge pages gets what it "
            "gives",
        )
    if definition.balloon_model == "none":
        yield refusal(
            "no balloon device, which reports what the guest can spare",
            "add <memballoon model='virtio'/> and power-cycle the domain",
        )
    yield from _against_now(domain)
    moving = [device for device in definition.virtio_mem if not device.resized]
    if len(moving) == len(definition.virtio_mem):
        size, asked = format_size(definition.plugged_bytes), sum(d.requested_bytes for d in moving)
        if definition.plugged_bytes:
            yield refusal(
                f"its virtio-mem is being resized from {size} to {format_size(asked)}",
                "wait until it ends; a guest that cannot free the blocks never gets there",
            )
        else:
            yield refusal(
                "the guest's virtio-mem driver has never answered",
                "still booting, or the guest has no virtio_mem driver",
            )
    yield from _against_deaf(domain)


def _against_balloon(domain: DomainFacts) -> Iterator[Verdict]:
    definition = domain.definition
    yield from against_pinned(domain)
    yield from against_hugepages(domain)
    yield from against_elsewhere(domain)
    if definition.balloon_model == "none":
        yield refusal("no balloon device", "add <memballoon model='virtio'/> and power-cycle the domain")
    if definition.manager == "oVirt":
        yield refusal(
            "oVirt manages it: MOM moves its balloon",
            "remove balloon from the actuators of its class; only one tool may own a balloon",
        )
    yield from _against_now(domain)
    yield from _against_deaf(domain)


def _against_deaf(domain: DomainFacts) -> Iterator[Verdict]:
    """Reasons where the guest does not report what it can spare, or not recently."""
    yield from _against_statistics(domain)
    if domain.balloon is not None and domain.balloon.usable_bytes is None:
        yield refusal("the guest does not report available memory", "its driver is too old")
    yield from missing(domain, "guest RAM", "residency")


def _against_statistics(domain: DomainFacts) -> Iterator[Verdict]:
    balloon = domain.balloon
    yield from missing(domain, "balloon", "guest statistics", "virtio-mem")
    if balloon is None:
        return
    if balloon.age_seconds is None:
        yield refusal(
            "the guest's balloon driver has never answered",
            "still booting, or without virtio-win's balloon driver and its BLNSVR service"
            if domain.definition.windows
            else "still booting, or the guest has no virtio_balloon driver",
        )
        return
    period = domain.definition.stats_period_seconds
    if period == 0:
        yield refusal(
            "guest statistics are frozen: no polling period",
            command("virsh", "dommemstat", display_name(domain.incarnation), "--period", "5", "--live"),
        )
    if balloon.age_seconds > 2 * period + 2:
        yield refusal(
            f"guest statistics are {balloon.age_seconds:.0f} s old",
            "check the guest: it hangs, thrashes, or unloaded its balloon driver",
        )


def _against_blind(domain: DomainFacts) -> Iterator[Verdict]:
    if domain.cgroup is None or domain.cgroup.pressure is None:
        yield refusal(
            "its memory pressure cannot be read",
            "boot with psi=1 and cgroup v2; a move must stop when the guest is short of memory",
        )


def _against_demotion(domain: DomainFacts, host: HostFacts, node: int) -> Iterator[Verdict]:
    yield from against_pinned(domain)
    yield from against_hugepages(domain)
    yield from against_elsewhere(domain)
    if domain.definition.bound:
        yield refusal(
            "guest memory is bound to nodes (<numatune> or <nodemask>)",
            "remove <numatune> and each <nodemask>, or use mode='preferred'",
        )
    if domain.allowed_nodes is not None and node not in domain.allowed_nodes:
        yield refusal(
            f"its cpuset leaves out memory node {node}",
            f"add node {node} to cpuset.mems of its cgroup and of those above it",
        )
    yield from _against_now(domain)
    if host.node(node) is None:
        yield refusal(f"the host shows no memory node {node}", "ls /sys/devices/system/node lists its nodes")
    elif len(host.nodes) == 1:
        yield refusal(
            f"memory node {node} is the only one",
            "remove cold_node from the policy; it is for hosts with a second, slower node",
        )
    if host.migration is False:
        yield refusal(
            "this kernel's DAMON cannot move the memory of a process to another node",
            "boot Linux 6.17 or later",
        )
    yield from _against_blind(domain)
    if domain.cgroup and domain.cgroup.shared:
        yield refusal(
            f"its cgroup is shared with {_sharers(domain)}",
            "no action: libvirt puts it there itself, and its moved memory cannot be told from the guest's"
            if domain.only_helpers
            else "let libvirt give each domain a cgroup of its own; now moved memory cannot be told apart",
        )
    yield from missing(domain, "guest RAM", "memory flags", "residency", "placement", "allowed memory nodes")


def _sharers(domain: DomainFacts) -> str:
    return ", ".join(map(str, domain.companions)) or "other processes"


def _against_pageout(domain: DomainFacts, host: HostFacts, actor: PageoutActor | None) -> Iterator[Verdict]:
    yield from against_pinned(domain)
    if not domain.pageable:
        yield from against_hugepages(domain)
        yield from against_elsewhere(domain)
        if domain.guest_ram:
            largest = max(domain.guest_ram, key=lambda block: block.size_bytes)
            yield refusal(
                f"guest memory cannot be swapped: {largest.describe()}", "use <source type='memfd'/>"
            )
    yield from _against_now(domain)
    if host.swap_unread is not None:
        yield refusal("the host's swap cannot be read", f"{host.swap_unread}; see overcommitctl doctor")
    if host.swap_total_bytes == 0:
        yield refusal("the host has no swap", "add zram or a swap device")
    bound = tightest(domain.swap_limits)
    if bound is not None and bound.room_bytes < worthwhile(0):
        yield refusal(f"its cgroup may {no_swap(bound.limit)}", raise_text(bound.limit, domain.incarnation))
    yield from _against_blind(domain)
    if actor not in {None, PageoutActor.DAMOS_FVADDR} and domain.cgroup and domain.cgroup.shared:
        yield refusal(
            f"its cgroup is shared with {_sharers(domain)}",
            "set pageout_actor to damos-fvaddr, which takes guest memory only; libvirt puts the other "
            "process there itself"
            if domain.only_helpers
            else "let libvirt give each domain a cgroup of its own, or set pageout_actor to damos-fvaddr",
        )
    if actor and not actor.by_kdamond and domain.cgroup and not domain.cgroup.reclaim:
        yield refusal(
            "its cgroup has no memory.reclaim",
            "boot Linux 5.19 or later, or set another pageout_actor in the policy",
        )
    yield from missing(domain, "guest RAM", "memory flags", "residency", "cgroup limits")
