"""A host case: files of the kernel and libvirt's XML, observed and planned by the product itself.

``cases/README.md`` explains the words. Where `tests.plan` begins with facts, this begins with what is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from overcommit.classify.idle import classify
from overcommit.cli.accounts import limit_findings
from overcommit.model.facts import DomainFacts, Snapshot
from overcommit.model.heat import Heat, IdleMap
from overcommit.model.moments import Monotonic, Wall
from overcommit.model.part import MemoryPart
from overcommit.model.past import Left, Past
from overcommit.model.plan import Plan
from overcommit.model.policy import Policy
from overcommit.observe.facts import observe
from overcommit.plan.feedback import Feedback
from overcommit.plan.planner import make_plan
from tests import scenarios
from tests.hosts.kernel_files import HostKernel, HostLibvirt, Machine, host_files
from tests.plan import situation as plans

Words = dict[str, Any]


class HostCase(NamedTuple):
    title: str
    right: str
    snapshot: Snapshot
    plan: Plan
    expected: Words


class _Clock:
    def now(self) -> Wall:
        return scenarios.NOW

    def monotonic(self) -> Monotonic:
        raise AssertionError("only observed")

    def wait(self, seconds: float) -> None:
        raise AssertionError(f"only observed: {seconds}")


def read(path: Path) -> HostCase:
    return of(yaml.safe_load(path.read_text()), path.name)


def of(words: Words, source: str) -> HostCase:
    """A host that is described by words; it uses them up."""
    title, right, expected = words.pop("title"), words.pop("right"), words.pop("expected", {})
    policy = scenarios.policy(words.pop("policy", {}))
    machines = [
        Machine.of(name, number, about) for number, (name, about) in enumerate(words.pop("domains").items())
    ]
    about = dict(words.pop("host", {}))
    files: dict[str, str | None] = dict(host_files(about))
    for machine in machines:
        files |= machine.files
    scenarios.require(not about, f"unknown words about the host: {', '.join(about)}")
    scenarios.require(not words, f"{source}: unknown words {', '.join(words)}")
    snapshot = observe(HostKernel(files, machines), HostLibvirt(machines), _Clock())
    heats = {
        domain.incarnation.uuid: heat
        for domain in snapshot.domains
        for machine in machines
        if machine.pid == domain.incarnation.pid and (heat := _heat(domain, machine, policy)) is not None
    }
    by_pid = {machine.pid: machine for machine in machines}
    pairs = [(domain.incarnation, by_pid[domain.incarnation.pid]) for domain in snapshot.domains]
    past = Past(
        left=tuple(
            Left(
                part=MemoryPart(incarnation),
                size_bytes=machine.left["at"],
                baseline_bytes=machine.left["before"],
                generation=7,
            )
            for incarnation, machine in pairs
            if machine.left is not None
        )
    )
    in_pain = {incarnation: machine.pain for incarnation, machine in pairs if machine.pain is not None}
    plan = make_plan(snapshot, heats, policy, past=past, feedback=Feedback(pains=in_pain))
    return HostCase(title, right, snapshot, plan, expected)


def _heat(domain: DomainFacts, machine: Machine, policy: Policy) -> Heat | None:
    """What a watch of five minutes over what there is to look at has seen."""
    if domain.residency is None:
        return None
    spans = sorted(
        (span for vma in machine.vmas for span in vma.spans()
         if any(r.start <= span.start and span.end <= r.end for r in domain.memory)),
        key=lambda span: span.start,
    )  # fmt: skip
    if not spans:
        return None
    return classify(
        IdleMap(began_at=Monotonic(0.0), updated_at=Monotonic(300.0), snapshots=75, spans=tuple(spans)),
        domain.residency.resident,
        cold_after=policy.class_of(domain).cold_after_seconds,
    )


def outcome(case: HostCase) -> Words:
    """What a case records: what was found, and the plan that follows."""
    found = plans.outcome(case.plan)
    domains = {domain.name: domain for domain in case.snapshot.domains}
    for name, figures in found["domains"].items():
        figures |= _facts(domains[name])
    gaps = [f"{gap.what}: {gap.why}" for gap in case.snapshot.gaps]
    doctor = [f"{finding.level}: {finding.text}" for finding in limit_findings(case.snapshot.domains)]
    return found | ({"gaps": gaps} if gaps else {}) | ({"doctor": doctor} if doctor else {})


def _facts(domain: DomainFacts) -> Words:
    residency, overhead = domain.residency, domain.overhead_bytes
    figures: Words = {
        "ram": [f"{block.start:#x} +{plans.exact(block.size)}" for block in domain.ram],
        "resident": None if residency is None else plans.exact(residency.resident_bytes),
        "swapped": None if residency is None else plans.exact(residency.swapped_bytes),
        "overhead": None if overhead is None else plans.exact(overhead),
    }
    gaps = [f"{gap.what}: {gap.why}" for gap in domain.gaps]
    return figures | ({"gaps": gaps} if gaps else {})
