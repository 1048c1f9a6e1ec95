"""Finds contradictions in a policy: faults, and warnings about values without effect.

A fault is something that cannot be done as written, or a rule that can never apply. A warning is a written
value that changes nothing, because something else in the policy rules it out. Omitted values, classes without
domains and a host that reclaims nothing are fine.
"""

from __future__ import annotations

import difflib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence

from overcommit.errors import Complaint
from overcommit.model.policy import Actuator, DomainClass, GuestHelp, Policy, ReclaimMode, Selector
from overcommit.model.rule_index import RuleIndex
from overcommit.policy.yaml_positions import Mark, Node

_TAKING = frozenset({Actuator.VIRTIO_MEM, Actuator.BALLOON, Actuator.PAGEOUT})
"""Actuators that the floor limits."""
_BY_GUEST = frozenset({Actuator.VIRTIO_MEM, Actuator.BALLOON})
"""Actuators by which a guest itself gives memory, file cache included."""
_MOVING = frozenset({Actuator.DEMOTION, Actuator.PAGEOUT})
"""Actuators that depend on how long memory is idle."""
_DAY_SECONDS = 86400
_MOST_NAMED = 20
"""The most classes that a complaint lists. There may be as many complaints as rules."""


def faults(policy: Policy, file: Node) -> Iterator[Complaint]:
    """Classes that do not exist, and rules that match everything or can never apply."""
    yield from _unknown_class(policy, file, ("default_class",), policy.default_class)
    marks = [file.mark_of(("domains", index, "match")) for index in range(len(policy.rules))]
    indexes = _by_source(policy, marks)
    for index, (rule, mark) in enumerate(zip(policy.rules, marks, strict=True)):
        yield from _unknown_class(policy, file, ("domains", index, "class"), rule.class_name)
        if rule.selector == Selector():
            hint = "use default_class for all other domains"
            yield mark.complaint(f"domains.{index}.match: matches every domain: {hint}")
            continue
        first = indexes[mark.source].first(rule.selector.matched)
        if first is not None and first < index:
            where = f"the rule at line {marks[first].line}"
            yield mark.complaint(
                f"domains.{index}.match: can never apply: {where} matches the same domains first"
            )


def _by_source(policy: Policy, marks: Sequence[Mark]) -> dict[str, RuleIndex]:
    """The rules of each file. A rule of an override may hide a rule of another file on purpose."""
    rules: dict[str, list[tuple[int, Selector]]] = defaultdict(list)
    for index, (rule, mark) in enumerate(zip(policy.rules, marks, strict=True)):
        if rule.selector != Selector():
            rules[mark.source].append((index, rule.selector))
    return {source: RuleIndex(each) for source, each in rules.items()}


def _unknown_class(policy: Policy, file: Node, path: tuple[str | int, ...], name: str) -> Iterator[Complaint]:
    if name not in policy.classes:
        among = list(itertools.islice(policy.classes, _MOST_NAMED))
        close = difflib.get_close_matches(name, among, n=1)
        more = ", …" if len(policy.classes) > len(among) else ""
        known = close[0] if close else ", ".join(among) + more or "none"
        yield file.mark_of(path).complaint(f"no class {name!r} (known: {known})")


def warnings(policy: Policy, file: Node) -> Iterator[Complaint]:
    """Values without effect."""
    in_use = frozenset[Actuator]().union(
        *(domain_class.actuators for domain_class in policy.classes.values())
    )
    host = file.at(("host",))
    if host is not None:
        for path, why in _host(policy, in_use):
            yield from _about(host, path, "host", why)
    for name, domain_class in policy.classes.items():
        section = file.at(("classes", name))
        if section is not None:
            for path, why in _class(domain_class, written=section.at(("actuators",)) is not None):
                yield from _about(section, path, f"classes.{name}", why)


def _about(section: Node, path: tuple[str, ...], within: str, why: str) -> Iterator[Complaint]:
    """A warning about a value, if it was written at all."""
    value = section.at(path)
    if value is not None:
        yield value.mark.complaint(f"{'.'.join((within, *path))}: {why}")


def _host(policy: Policy, in_use: frozenset[Actuator]) -> Iterator[tuple[tuple[str, ...], str]]:
    if policy.swap.max_used == 0 and Actuator.PAGEOUT in in_use:
        why = "leaves no room for page-out; to forbid it, remove pageout from the actuators"
        yield ("swap", "max_used"), why
    if policy.pageout_actor is not None and Actuator.PAGEOUT not in in_use:
        yield ("pageout_actor",), "no class uses pageout"
    if Actuator.PAGEOUT not in in_use:
        yield ("swap", "max_write_per_day"), "no class uses pageout"
        yield ("swap", "max_latency"), "no class uses pageout"
    elif policy.swap.max_write_bytes_per_day > policy.swap.max_write_bytes_per_second * _DAY_SECONDS:
        yield ("swap", "max_write_per_day"), "max_write is lower: page-out never writes this much in a day"
    if not in_use & _MOVING:
        yield ("swap", "max_write"), "no class uses pageout or demotion"
    if policy.cold_node is not None and Actuator.DEMOTION not in in_use:
        yield ("cold_node",), "no class uses demotion"
    if policy.cold_node is not None and policy.reclaim is ReclaimMode.ON_PRESSURE:
        why = "reclaim: on_pressure moves nothing there, because the host as a whole gains nothing"
        yield ("cold_node",), why
    if policy.reserve == 0 and policy.reclaim is ReclaimMode.ON_PRESSURE:
        yield ("reserve",), "reclaim: on_pressure begins below the reserve, and 0% is never reached"


def _class(domain_class: DomainClass, *, written: bool) -> Iterator[tuple[tuple[str, ...], str]]:
    held_back = [actuator.value for actuator in Actuator if actuator in domain_class.actuators & _TAKING]
    if domain_class.floor >= 1 and written and held_back:
        yield ("floor",), f"leaves {', '.join(held_back)} nothing to take"
    if not domain_class.actuators & _MOVING:
        yield ("cold_after",), "the class uses neither pageout nor demotion"
        yield ("slo", "psi_some"), "limits pageout and demotion; the class uses neither"
    if Actuator.PAGEOUT not in domain_class.actuators:
        yield ("slo", "promotions"), "limits pageout; the class does not use it"
    if not domain_class.actuators & _BY_GUEST:
        yield ("cache_after",), "limits virtio_mem and balloon; the class uses neither"
    if not domain_class.actuators & _TAKING:
        yield ("step",), "limits virtio_mem, balloon and pageout; the class uses none of them"
    reporting = Actuator.FREE_PAGE_REPORTING in domain_class.actuators
    if GuestHelp.COMPACTION in domain_class.guest_help and not reporting:
        yield ("guest_help",), "compaction needs free_page_reporting; the class does not use it"
    if GuestHelp.DAMON_RECLAIM in domain_class.guest_help and not (
        reporting or Actuator.BALLOON in domain_class.actuators
    ):
        yield ("guest_help",), "damon_reclaim needs free_page_reporting or balloon; the class uses neither"
