"""``overcommitctl doctor``: what this host can do, what prevents more, and a fix for each.

Read-only, except for ``--probe``, which sets up a kdamond slot, tests it, and returns it.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from overcommit.cli.accounts import (
    Finding,
    account_findings,
    limit_findings,
    memory_finding,
    swap_finding,
    zram_command,
)
from overcommit.cli.beside_daemon import refuse_beside_daemon
from overcommit.cli.conditions import boot_command, condition_findings, fault_findings, page_ages_finding
from overcommit.cli.console import tell
from overcommit.cli.invoked import completed
from overcommit.cli.plan import take_over_option
from overcommit.cli.session import Session, as_word, with_session
from overcommit.cli.status import generation_text
from overcommit.cli.tables import Line
from overcommit.cli.verb import examples
from overcommit.commands import OVERCOMMITCTL
from overcommit.control.one_controller import MEND
from overcommit.control.status import Mode, generation_json
from overcommit.damon.capabilities import FEATURES, Capabilities
from overcommit.damon.owners import find_owners
from overcommit.damon.pool import DamonPool
from overcommit.damon.sysfs import DamonSysfs
from overcommit.damon.trace import TRACING, AccessTrace
from overcommit.display import command
from overcommit.errors import HostError, OvercommitError, Refused, Unsupported
from overcommit.host.memory import read_boot_id
from overcommit.host.settings import read_settings
from overcommit.hypervisor.port import Hypervisor
from overcommit.model.facts import DomainFacts, Gap, HostFacts, KsmFacts, KsmRun
from overcommit.model.plan import Verdict
from overcommit.model.policy import Actuator, Policy
from overcommit.model.settings import HostSettings
from overcommit.observe.agent import ask_agents, asks_agents
from overcommit.observe.facts import observe, observe_host
from overcommit.plan.budget import room_of
from overcommit.plan.eligibility import judge, judge_help
from overcommit.plan.rungs.ksm import gain_text
from overcommit.policy.files import default_path
from overcommit.units import format_duration, format_size
from overcommit.wire.client import find_daemon
from overcommit.wire.protocol import Verb

_EVERYTHING = frozenset(Actuator)
_KEYWORD_NAMES = {
    "action": "actions",
    "type": "filters",
    "target_metric": "quota goals",
    "goal_tuner": "goal tuners",
}


@click.command(
    epilog=examples(
        "overcommitctl doctor", "overcommitctl doctor --probe    # also tries what this kernel's DAMON offers"
    )
)
@click.option(
    "--probe", is_flag=True, help="Also use a kdamond slot to test what this kernel's DAMON offers."
)
@take_over_option
@with_session
def doctor(session: Session, probe: bool, take_over: bool) -> None:
    """Check the host, who uses DAMON, swap, libvirt and each domain. Only --probe changes anything.

    While overcommitd runs, it is the one that uses DAMON, and that is reported as correct.

    Exit status: 0 ready; 4 DAMON belongs to somebody else; 5 something is missing.
    """
    if probe:
        refuse_beside_daemon(
            "--probe needs a kdamond slot of its own",
            "run doctor without --probe, or stop overcommitd first: systemctl stop overcommitd",
        )
    offered = _try(session, take_over=take_over) if probe else None
    findings = list(_examine(session, offered if isinstance(offered, Capabilities) else None))
    if isinstance(offered, Capabilities):
        findings += _offers(offered)
    elif offered is not None:
        findings.append(offered)
    findings = [dataclasses.replace(finding, fix=completed(finding.fix)) for finding in findings]
    if session.json:
        click.echo(json.dumps({"kind": "doctor", "findings": [asdict(f) for f in findings]}, indent=1))
    else:
        for finding in findings:
            colour = {"ok": "green", "warn": "yellow"}.get(finding.level, "red")
            text = f"{finding.level:<8} {finding.about}: {finding.text}"
            tell(Line(text, colour, len(finding.level), prose=True))
            if finding.fix:
                tell(f"{'':<8}   fix: {finding.fix}")
    levels = {finding.level for finding in findings}
    if "fail" in levels:
        raise Unsupported("this host is not ready: see fail above")
    if "conflict" in levels:
        raise Refused("this host is not ready: see conflict above")
    if not session.json:
        session.console.say(f"ready. Next: {command(OVERCOMMITCTL, 'plan')}")


def _examine(session: Session, offered: Capabilities | None) -> Iterator[Finding]:
    if os.geteuid() == 0:
        yield Finding(level="ok", about="privileges", text="running as root")
    else:
        yield Finding(
            level="fail", about="privileges", text="not root", fix=f"sudo {command(OVERCOMMITCTL, 'doctor')}"
        )
    try:
        daemon = find_daemon()
        seen = daemon.ask(Verb.STATUS) if daemon else None
    except OvercommitError as error:
        yield Finding(level="conflict", about="overcommitd", text=str(error), fix=error.hint or "")
    else:
        yield from _damon(session) if seen is None else _daemon(seen)
        yield from _in_force(session, seen)
    if os.geteuid() == 0:
        yield page_ages_finding(session.kernel)
    host, unreadable = observe_host(session.kernel)
    settings, unread = read_settings(session.kernel)
    yield from fault_findings(host.kernel)
    yield from _memory(host, (*unreadable, *unread), settings)
    yield from condition_findings(settings, host)
    if not any(gap.what == "KSM" for gap in unreadable):
        yield _ksm(host.ksm, session.ksm_generation())
    try:
        hypervisor = session.hypervisor(read_only=True)
    except OvercommitError as error:
        yield Finding(level="fail", about="libvirt", text=str(error), fix=error.hint or "")
        return
    yield _libvirt(hypervisor)
    yield from _domains(session, hypervisor, offered, unreadable)


def _libvirt(hypervisor: Hypervisor) -> Finding:
    """Its version. A libvirtd that is slow to probe its QEMU must not prevent the other findings."""
    try:
        return Finding(level="ok", about="libvirt", text=hypervisor.describe())
    except HostError as error:
        return Finding(level="warn", about="libvirt", text=str(error), fix=error.hint or "")


def _damon(session: Session) -> Iterator[Finding]:
    sysfs = DamonSysfs(session.kernel)
    try:
        owners = find_owners(session.kernel, sysfs)
    except OvercommitError as error:
        yield Finding(level="fail", about="DAMON", text=str(error), fix=error.hint or "")
        return
    if session.left_in_damon():
        yield _of_ours(session.journal.holder())
        return
    if not owners:
        yield Finding(level="ok", about="DAMON", text="sysfs interface present and free")
    yield _tracing(session)
    for owner in owners:
        yield Finding(level="conflict", about="DAMON", text=owner.what, fix=owner.hint)


def _of_ours(holder: str | None) -> Finding:
    if holder is not None:
        return Finding(
            level="conflict",
            about="DAMON",
            text=f"another overcommit controller is running: {holder}",
            fix="wait until it ends, or stop it",
        )
    return Finding(
        level="warn",
        about="DAMON",
        text="an overcommit controller died and left its kdamonds",
        fix="overcommitctl restore",
    )


def _daemon(seen: Mapping[str, Any]) -> Iterator[Finding]:
    """What overcommitd reports. Its use of DAMON is correct."""
    yield Finding(
        level="warn" if seen["mode"] == Mode.SAFE.value else "ok",
        about="DAMON",
        text=f"overcommitd (pid {seen['pid']}) uses it: {seen['sentence']}",
    )
    yield Finding(level="ok", about="policy", text=f"overcommitd uses {seen['policy_source']}")
    if seen["policy_refused"]:
        yield Finding(
            level="warn",
            about="policy",
            text=f"overcommitd refuses the policy on disk: {'; '.join(seen['policy_refused'].splitlines())}",
            fix=_validates(Path(seen["policy_source"])),
        )


def _validates(file: Path) -> str:
    """The command that validates the policy that overcommitd reads, with its overrides."""
    return command(OVERCOMMITCTL, "validate", *(() if file == default_path() else (as_word(file),)))


def _in_force(session: Session, seen: Mapping[str, Any] | None) -> Iterator[Finding]:
    """What is changed and not restored. ``seen`` is a daemon's status, which every user may read."""
    generations = (
        [generation_json(g) for g in session.journal.generations() if g.outstanding]
        if seen is None
        else seen["generations"]
    )
    for fault in session.journal.faults(read_boot_id(session.kernel)):
        yield Finding(level="fail", about="undo journal", text=f"{fault}; nothing is taken", fix=MEND)
    for generation in generations:
        yield Finding(level="ok", about="in force", text=generation_text(generation, manual=seen is None))


def _tracing(session: Session) -> Finding:
    if AccessTrace(session.kernel).offered:
        return Finding(level="ok", about="DAMON", text="its tracepoint can be read")
    return Finding(
        level="warn",
        about="DAMON",
        text="its tracepoint cannot be read: watching many domains takes longer, and overcommit tunes the "
        "sampling itself",
        fix=f"mount -t tracefs tracefs {TRACING}  # not possible while the kernel is in lockdown",
    )


def _try(session: Session, *, take_over: bool) -> Capabilities | Finding:
    """What DAMON offers in an own slot, or why there is none."""
    try:
        with (
            session.generation("doctor") as generation,
            DamonPool(session.kernel, session.journal, generation) as pool,
        ):
            pool.acquire(1, take_over=take_over)
            return pool.capabilities
    except OvercommitError as error:
        return Finding(level="conflict", about="DAMON", text=str(error), fix=error.hint or "")


def _offers(offered: Capabilities) -> Iterator[Finding]:
    yield Finding(level="ok", about="DAMON", text=f"operations {_listed(offered.operations)}")
    for path, words in offered.keywords.items():
        what = _KEYWORD_NAMES[path.rpartition("/")[2]]
        yield Finding(level="ok", about="DAMON", text=f"{what} {_listed(words)}")
    for feature in FEATURES:
        there = feature not in offered.missing()
        yield Finding(
            level="ok" if there else "warn",
            about="DAMON",
            text=feature.name if there else f"no {feature.name} (Linux {feature.since}): {feature.without}",
        )


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(words))


def _memory(host: HostFacts, unreadable: Sequence[Gap], settings: HostSettings) -> Iterator[Finding]:
    yield Finding(
        level="ok",
        about="memory",
        text=f"{format_size(host.total_bytes)}, {format_size(room_of(host, ()).available_bytes)} available, "
        f"{format_size(host.shmem_bytes)} shared, kernel {host.kernel}",
    )
    yield from account_findings(host)
    for node in host.nodes if len(host.nodes) > 1 else ():
        sizes = f"{format_size(node.total_bytes)}, {format_size(node.free_bytes)} free"
        yield Finding(level="ok", about=f"memory node {node.nid}", text=sizes)
    for gap in unreadable:
        yield Finding(level="warn", about=gap.what, text=f"cannot be read: {gap.why}")
    if not host.swap and host.swap_unread is None:
        yield Finding(
            level="warn",
            about="swap",
            text="none. Only free page reporting, virtio-mem and the balloon can be used, not page-out",
            fix=zram_command(host),
        )
    for area in host.swap:
        yield swap_finding(area, host)
    if host.pressure is None:
        yield Finding(
            level="warn",
            about="pressure",
            text="no pressure stall information: the memory pressure of guests cannot be read",
            fix=boot_command(settings, "psi=1"),
        )
    else:
        yield Finding(
            level="ok",
            about="pressure",
            text=f"PSI available, memory some {host.pressure.some_avg60:.1%} over the last minute",
        )


def _ksm(ksm: KsmFacts | None, ours: int | None) -> Finding:
    """What merges equal pages, and the gain. ``ours`` is the generation of this program that started it."""
    if ksm is None:
        return Finding(level="ok", about="KSM", text="this kernel has no KSM")
    gain = f"{gain_text(ksm)}; {_ksm_work(ksm)}"
    runs = ksm.run is KsmRun.RUNNING
    if ours is not None:
        state = "runs since" if runs else f"was stopped by somebody else (run is {ksm.run.value}) after"
        text = f"{state} generation {ours} started it; {gain}"
        return Finding(
            level="ok" if runs else "warn",
            about="KSM",
            text=text,
            fix="" if runs else f"overcommitctl restore {ours}",
        )
    if runs or ksm.tuner is not None:
        state = "runs" if runs else "does not run now"
        return Finding(
            level="warn",
            about="KSM",
            text=f"{state} under {ksm.tuner or 'somebody else'}; overcommit leaves it alone; {gain}",
            fix=_stop_tuner(ksm.tuner),
        )
    stopped = "stopped" if ksm.run is KsmRun.STOPPED else "stopped, with all pages unmerged (run is 2)"
    return Finding(level="ok", about="KSM", text=f"{stopped}; {gain}")


def _stop_tuner(tuner: str | None) -> str:
    if tuner == "ksmtuned.service":
        return command("systemctl", "disable", "--now", tuner)
    return "stop it in that tool first, if the policy is to decide (host: ksm)"


def _ksm_work(ksm: KsmFacts) -> str:
    advisor = f" (by advisor {ksm.advisor})" if ksm.advisor not in {None, "none"} else ""
    return (
        f"{format_size(ksm.shared_bytes)} of merged pages, {format_size(ksm.unshared_bytes)} of pages "
        f"without an equal; scans {ksm.pages_to_scan} pages every "
        f"{format_duration(ksm.sleep_seconds)}{advisor}"
    )


def _domains(
    session: Session, hypervisor: Hypervisor, offered: Capabilities | None, told: Sequence[Gap]
) -> Iterator[Finding]:
    snapshot = observe(session.kernel, hypervisor, session.clock)
    host = dataclasses.replace(snapshot.host, migration=offered.migration if offered else None)
    policy = None
    try:
        policy = session.policy()
        yield Finding(level="ok", about="policy", text=f"{policy.source}")
        if asks_agents(policy):
            snapshot = ask_agents(snapshot, session.hypervisor(read_only=False), policy)
    except OvercommitError as error:
        yield Finding(level="warn", about="policy", text=str(error), fix=error.hint or "")
    cold_node = policy.cold_node if policy else None
    if not snapshot.domains and set(snapshot.gaps) <= set(told):
        yield Finding(level="ok", about="domains", text="none is running")
    yield from limit_findings(snapshot.domains)
    for domain in snapshot.domains:
        yield memory_finding(domain)
        verdicts = judge(domain, host, _EVERYTHING, cold_node=cold_node)
        for actuator, verdict in verdicts.items():
            can = "can be used"
            if actuator is Actuator.DEMOTION and offered is None:
                can += " if DAMON can move memory of a process (doctor --probe tests that)"
            yield Finding(
                level="ok" if verdict.ok else "warn",
                about=f"domain {domain.name}",
                text=f"{actuator.value} {can if verdict.ok else 'cannot: ' + verdict.reason}",
                fix=verdict.hint,
            )
        if policy:
            yield from _guest_help(domain, policy, verdicts[Actuator.FREE_PAGE_REPORTING])
    for gap in snapshot.gaps:
        if gap not in told:
            yield Finding(level="warn", about=gap.what, text=f"cannot be read: {gap.why}")


def _guest_help(domain: DomainFacts, policy: Policy, reporting: Verdict) -> Iterator[Finding]:
    """The help inside of the guest that its class allows, if any."""
    allowed = policy.class_of(domain).guest_help
    for kind, verdict in judge_help(domain, allowed, reporting).items():
        yield Finding(
            level="ok" if verdict.ok else "warn",
            about=f"domain {domain.name}",
            text=f"{kind.value} in the guest {'can be used' if verdict.ok else 'cannot: ' + verdict.reason}",
            fix=verdict.hint,
        )
