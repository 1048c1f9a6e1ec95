"""A golden case: a situation in the operator's words, and the plan that it leads to.

``cases/README.md`` explains the words. Unknown ones are refused, and so are situations that cannot be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from overcommit.cli import render
from overcommit.cli.tables import plain_lines
from overcommit.model.accounts import Arc, CgroupLimit, Compressed, HugePages, Zswap
from overcommit.model.blocks import VirtioMemDevice
from overcommit.model.facts import (
    AgentFacts,
    BalloonStats,
    DomainFacts,
    HostFacts,
    Incarnation,
    KsmFacts,
    KsmRun,
    RunState,
)
from overcommit.model.heat import Heat
from overcommit.model.nodes import MemoryNode, NodeBinding
from overcommit.model.part import MemoryPart
from overcommit.model.past import Cooldown, Left, Past, Quarantine, Reservation
from overcommit.model.plan import Plan
from overcommit.model.policy import Actuator, Policy
from overcommit.model.restraint import Restraint
from overcommit.model.swap import SwapArea, SwapKind, SwapTraffic
from overcommit.plan import document
from overcommit.plan.feedback import Feedback
from overcommit.plan.planner import make_plan
from overcommit.plan.swap_budget import SwapFlow, judge_swap
from overcommit.units import (
    GIB,
    KIB,
    MIB,
    parse_duration,
    parse_percentage,
    parse_size,
    parse_size_per_second,
)
from tests import scenarios

Words = dict[str, Any]


class Situation(NamedTuple):
    title: str
    plan: Plan
    expected: Words


def read(path: Path) -> Situation:
    words: Words = yaml.safe_load(path.read_text())
    title, expected = words.pop("title"), words.pop("expected", {})
    policy = scenarios.policy(words.pop("policy", {}))
    emergency = words.pop("emergency", False)
    domains, heats, in_pain = [], {}, {}
    for name, about in words.pop("domains", {}).items():
        pain = about.pop("pain", None)
        facts, idle = _domain(name, dict(about), policy)
        domains.append(facts)
        if pain is not None:
            in_pain[facts.incarnation] = pain
        if idle is not None:
            heats[facts.incarnation.uuid] = idle
    about = dict(words.pop("host", {}))
    flow, at_once = _flow(about.pop("swap_flow", None)), about.pop("at_once", 1)
    host = _host(about)
    swap = judge_swap(host, policy.swap, flow, at_once=at_once)
    snapshot = scenarios.snapshot(host, *domains, gaps=words.pop("left_out", {}))
    past = _past(dict(words.pop("past", {})))
    held = _restraints(words.pop("restrained", {}))
    scenarios.require(not words, f"{path.name}: unknown words {', '.join(words)}")
    plan = make_plan(
        snapshot,
        heats,
        policy,
        past=past,
        feedback=Feedback(restraints=held, pains=in_pain, swap=swap, emergency=emergency),
    )
    return Situation(title, plan, expected)


def _restraints(words: Words) -> dict[Incarnation, Restraint]:
    """What a controller that follows the domains holds itself to."""
    held = {}
    for name, about in words.items():
        held[scenarios.incarnation(name)] = Restraint(
            cold_after_seconds=parse_duration(about.get("cold_after", "0s")),
            step_share=about.get("step", 1.0),
            why_not=about.get("because"),
            sentence="",
            cache_after_seconds=parse_duration(about.get("cache_after", "0s")),
            why_no_guest_memory=about.get("guest_rests"),
        )
    return held


def _past(words: Words) -> Past:
    """What earlier runs left: all of it in generation 7, and promises and quarantines for 10 minutes more."""
    end = scenarios.NOW + 600
    past = Past(
        reservations=tuple(
            Reservation(id=number, purpose=purpose, size_bytes=_size(amount), expires_at=end)
            for number, (purpose, amount) in enumerate(words.pop("reserved", {}).items(), start=1)
        ),
        quarantines=tuple(
            Quarantine(
                domain=scenarios.incarnation(name), actuator=Actuator(actuator), reason=reason, until=end
            )
            for name, about in words.pop("quarantined", {}).items()
            for actuator, reason in about.items()
        ),
        left=tuple(
            Left(
                part=MemoryPart(scenarios.incarnation(name)),
                size_bytes=_size(about["at"]),
                baseline_bytes=_size(about["before"]),
                generation=7,
            )
            for name, about in words.pop("balloons", {}).items()
        )
        + tuple(
            Left(
                part=MemoryPart(scenarios.incarnation(name), alias),
                size_bytes=_size(sizes["at"]),
                baseline_bytes=_size(sizes["before"]),
                generation=7,
            )
            for name, about in words.pop("devices", {}).items()
            for alias, sizes in about.items()
        ),
        cooldowns=tuple(
            Cooldown(
                domain=scenarios.incarnation(name),
                freed_bytes=_size(about["freed"]),
                ended_at=scenarios.NOW - parse_duration(about["ago"]),
            )
            for name, about in words.pop("paged_out", {}).items()
        ),
        ksm_generation=words.pop("ksm", None),
    )
    scenarios.require(not words, f"unknown words about the past: {', '.join(words)}")
    return past


def _host(words: Words) -> HostFacts:
    areas = [_area(name, dict(about)) for name, about in words.pop("areas", {}).items()]
    if not areas:
        about = {"size": words.pop("swap", "4GiB"), "used": words.pop("swap_used", 0)}
        about |= {"encrypted": words.pop("encrypted")} if "encrypted" in words else {}
        areas = [_area(words.pop("swap_on", "zram"), about)]
    host = scenarios.host(
        total=_size(words.pop("total", "8GiB")),
        available=_size(words.pop("available", "4GiB")),
        swap=[area for area in areas if area.size_bytes],
        swap_traffic=SwapTraffic(paged_out_bytes=0, written_bytes=0),
        nodes=[_node(nid, dict(about)) for nid, about in words.pop("nodes", {}).items()],
        migration=words.pop("migration", True),
        huge_pages=_huge_pages(words.pop("huge_pages", 0)),
        arc=_arc(words.pop("arc", None)),
        zram=_compressed(words.pop("zram", None)),
        zswap=_zswap(words.pop("zswap", None)),
        swap_unread=words.pop("swap_unread", None),
        ksm=_ksm(dict(words.pop("ksm"))) if "ksm" in words else None,
        cpu_pressure=scenarios.waiting(parse_percentage(words.pop("waiting_for_cpu", "0%"))),
    )
    scenarios.require(not words, f"unknown words about the host: {', '.join(words)}")
    return host


def _area(name: str, words: Words) -> SwapArea:
    """A swap area by its device's name, or by its path if it is a file."""
    size, used = _size(words.pop("size")), _size(words.pop("used", 0))
    kind = SwapKind.ZRAM if name.startswith("zram") else SwapKind.PARTITION
    holds, limit = words.pop("holds", None), words.pop("limit", None)
    place = SwapArea(
        path=name if name.startswith("/") else f"/dev/{name}",
        kind=SwapKind.FILE if name.startswith("/") else kind,
        size_bytes=size,
        used_bytes=used,
        filesystem=words.pop("filesystem", None),
        backing=words.pop("backing", None),
    )
    # Of a usual disk it is known, and is not what a case is about unless it says so.
    usual = True if place.on_disk and place.hazard is None else None
    encrypted = {"unknown": None}.get(given := words.pop("encrypted", usual), given)
    area = dataclasses.replace(
        place,
        priority=words.pop("priority", 0),
        encrypted=encrypted,
        device=scenarios.block_device(name.strip("/")),
        pool=_compressed(holds),
        pool_limit_bytes=None if limit is None else _size(limit),
    )
    scenarios.require(not words, f"unknown words about swap on {name}: {', '.join(words)}")
    scenarios.require(used <= size, "more swap used than there is")
    scenarios.require(area.on_disk or encrypted is None, "zram is no disk to encrypt")
    return area


def _flow(words: Words | None) -> SwapFlow | None:
    if words is None:
        return None
    flow = SwapFlow(
        bytes_per_second=parse_size_per_second(words.pop("out", "0MiB/s")),
        seconds_per_read={name: parse_duration(took) for name, took in words.pop("reads", {}).items()},
        written_bytes=_size(words.pop("written", 0)),
        known_seconds=parse_duration(words.pop("known", "1d")),
    )
    scenarios.require(not words, f"unknown words about what moves to swap: {', '.join(words)}")
    return flow


def _huge_pages(words: str | int | None) -> HugePages | None:
    """A size, and what of it is in use: ``1GiB, 512MiB used``."""
    if words is None:
        return None
    size, _, used = str(words).partition(", ")
    total = _size(size)
    return HugePages(total_bytes=total, free_bytes=total - _size(used.removesuffix(" used") or 0))


def _arc(words: Words | None) -> Arc | None:
    if words is None:
        return None
    return Arc(size_bytes=_size(words["size"]), minimum_bytes=_size(words["minimum"]))


def _compressed(words: str | None) -> Compressed | None:
    """``600MiB in 100MiB``."""
    if words is None:
        return None
    stored, used = words.split(" in ")
    return Compressed(stored_bytes=_size(stored), used_bytes=_size(used))


def _zswap(words: Words | None) -> Zswap | None:
    if words is None:
        return None
    pool = _compressed(words.get("holds", "0 in 0"))
    assert pool is not None
    return Zswap(enabled=True, most=parse_percentage(words["most"]), pool=pool)


def _limits(words: Mapping[str, Words], *, own: bool = False) -> list[CgroupLimit]:
    return [
        CgroupLimit(
            path=path,
            file=about.get("file", "memory.max"),
            limit_bytes=_size(about["limit"]),
            current_bytes=_size(about["current"]),
            cache_bytes=_size(about.get("cache", 0)),
            own=own,
        )
        for path, about in words.items()
    ]


def _ksm(words: Words) -> KsmFacts:
    saved, profit = _size(words.pop("saved", 0)), words.pop("profit", 0)
    return scenarios.ksm(
        KsmRun[words.pop("run", "stopped").upper()],
        sharing_bytes=saved,
        shared_bytes=saved // 2,
        profit_bytes=None if profit is None else _size(profit),
        full_scans=words.pop("full_scans", 0),
        **words,
    )


def _node(nid: int, words: Words) -> MemoryNode:
    node = scenarios.node(nid, _size(words.pop("size")), _size(words.pop("free")))
    node = dataclasses.replace(node, droppable_bytes=_size(words.pop("droppable", 0)))
    scenarios.require(not words, f"unknown words about node {nid}: {', '.join(words)}")
    return node


def _domain(name: str, words: Words, policy: Policy) -> tuple[DomainFacts, Heat | None]:
    size = _size(words.pop("size", "1GiB"))
    definition = {"stats_period_seconds": 5, **words.pop("definition", {})}
    definition["passthrough"] = tuple(definition.get("passthrough", ()))
    definition["virtio_mem"] = tuple(
        _device(alias, dict(about)) for alias, about in words.pop("devices", {}).items()
    )
    definition["bindings"] = tuple(_binding(dict(about)) for about in words.pop("bindings", ()))
    balloonable = size - sum(device.size_bytes for device in definition["virtio_mem"])
    plugged = sum(device.current_bytes for device in definition["virtio_mem"])
    resident, idle = words.pop("resident", None), words.pop("idle", None)
    watched = parse_duration(words.pop("watched", "5min"))
    facts = scenarios.domain(
        name,
        size=size,
        resident=None if resident is None else _size(resident),
        swapped=_size(words.pop("swapped", 0)),
        balloon=_guest(words, balloonable, plugged) if definition.get("balloon_model") != "none" else None,
        gaps=words.pop("gaps", None),
        state=RunState(words.pop("state", "running")),
        busy_with=words.pop("busy_with", None),
        memory_reclaim=words.pop("memory_reclaim", True),
        shared_cgroup=words.pop("shared_cgroup", False),
        overhead=_size(words.pop("overhead", 0)),
        cache=_size(words.pop("cache", 0)),
        limits=[*_limits(words.pop("slices", {})), *_limits(words.pop("own", {}), own=True)],
        swap_limits=[*_limits(words.pop("swap_slices", {})), *_limits(words.pop("own_swap", {}), own=True)],
        agent=_agent(words.pop("agent", None)),
        allowed_nodes=frozenset(words.pop("allowed_nodes")) if "allowed_nodes" in words else None,
        merged=None if "merged" not in words else _size(words.pop("merged")),
        placement={nid: _size(amount) for nid, amount in words.pop("placement", {}).items()} or None,
        **definition,
    )
    scenarios.require(not words, f"unknown words about {name}: {', '.join(words)}")
    if idle is None:
        return facts, None
    layout = [(parse_duration(seconds), _size(amount)) for seconds, amount in idle.items()]
    return facts, scenarios.heat(facts, layout, watched=watched, policy=policy)


def _binding(words: Words) -> NodeBinding:
    size = words.pop("size", None)
    nodes = frozenset(words.pop("nodes"))
    scenarios.require(not words, f"unknown words about a binding: {', '.join(words)}")
    return NodeBinding(nodes=nodes, size_bytes=None if size is None else _size(size))


def _device(alias: str, words: Words) -> VirtioMemDevice:
    size = _size(words.pop("size"))
    current = _size(words.pop("current", size))
    device = scenarios.memory_device(
        alias,
        size,
        block_bytes=_size(words.pop("block", "2MiB")),
        requested_bytes=_size(words.pop("requested", current)),
        current_bytes=current,
    )
    scenarios.require(not words, f"unknown words about device {alias}: {', '.join(words)}")
    scenarios.require(device.requested_bytes <= size, f"{alias}: more requested than it has")
    whole = all(part % device.block_bytes == 0 for part in (size, current, device.requested_bytes))
    scenarios.require(whole, f"{alias}: not whole blocks")
    return device


def _agent(said: Words | None) -> AgentFacts | None:
    if said is None:
        return None
    words = dict(said)
    able = {f"guest-file-{verb}" for verb in ("open", "read", "write", "flush", "close")}
    agent = AgentFacts(
        commands=frozenset(able - set(words.pop("blocked", ()))),
        reclaims=words.pop("reclaims", False),
        trouble=words.pop("trouble", None),
    )
    scenarios.require(not words, f"unknown words about an agent: {', '.join(words)}")
    return agent


def _guest(words: Words, size: int, plugged: int) -> BalloonStats:
    claims = words.pop("claims", None)
    usable = words.pop("usable", 0) if claims is None else claims
    unused = words.pop("unused", usable)
    age = words.pop("statistics_age", "3s")
    return scenarios.guest_says(
        None if usable is None else _size(usable),
        unused=None if unused is None else _size(unused),
        actual=_size(words.pop("actual", size)),
        plugged=plugged,
        age=None if age is None else parse_duration(age),
        honest=claims is None,
    )


def _size(words: str | int) -> int:
    return parse_size(str(words))


def outcome(plan: Plan) -> Words:
    """What a case records of its plan: the text, and the figures of the JSON document exactly."""
    data = document.to_document(plan)
    return {
        "text": "".join(f"{line}\n" for line in plain_lines(render.plan_text(plan))),
        "summary": _summary(data["summary"]),
        "domains": {d["name"]: _domain_figures(d) for d in data["domains"]},
        "actions": [_action_figures(a) for a in data["actions"]],
    }


def _summary(data: Mapping[str, Any]) -> Words:
    figures: Words = {**data, "expected_bytes": exact(data["expected_bytes"])}
    given = figures.pop("given_bytes")
    return figures | ({"given_bytes": exact(given)} if given else {})


def _domain_figures(data: Mapping[str, Any]) -> Words:
    figures: Words = {
        "class": data["class"],
        "floor": exact(data["floor_bytes"]),
        "target": exact(data["target_bytes"]),
        "confidence": data["confidence"],
    }
    verdicts = data["eligible"] | data["guest_help"]
    refused = {name: v["reason"] for name, v in verdicts.items() if not v["ok"]}
    figures |= {"refused": refused} if refused else {}
    nothing = {each["actuator"]: each["code"] for each in data["gives_nothing"]}
    return figures | ({"gives_nothing": nothing} if nothing else {})


def _action_figures(data: Mapping[str, Any]) -> Words:
    figures: Words = {
        "domain": data["domain"]["name"] if data["domain"] else None,
        "kind": data["kind"],
        "reason": data["reason"],
        "before": exact(data["before_bytes"]),
        "after": exact(data["after_bytes"]),
        "expected": exact(data["expected_bytes"]),
    }
    if "pieces" in data:
        figures |= {"pieces": len(data["pieces"])}
        figures |= {word: data[word] for word in ("actor", "node", "recall_to") if data.get(word) is not None}
    if "device" in data:
        figures |= {"device": data["device"]}
    if "settings" in data:
        figures |= {"settings": dict(data["settings"])}
    return figures | ({"blocked": data["blocked"]} if data["blocked"] else {})


def exact(size: int) -> str:
    """A size without rounding."""
    for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def write(path: Path, found: Words) -> None:
    """Replace the expectation, and nothing else, comments included."""
    situation = path.read_text().partition("\nexpected:")[0].rstrip("\n")
    lines = found["text"].splitlines()
    text = "".join(f"    {line}\n" if line else "\n" for line in lines)
    figures = {name: value for name, value in found.items() if name != "text"}
    dumped = yaml.safe_dump(figures, sort_keys=False, width=100, allow_unicode=True)
    indented = "".join(f"  {line}\n" for line in dumped.splitlines())
    path.write_text(f"{situation}\n\nexpected:\n  text: |\n{text}{indented}")
