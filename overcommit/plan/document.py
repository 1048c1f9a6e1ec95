"""A plan as a JSON document, and back.

The digest reveals edits (rule S12). It is not a signature: who can write the file can compute it. So the
whole document is checked, and its actions are checked again with the host (`overcommit.plan.freshness`).
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

from overcommit import bounded_json
from overcommit.errors import StalePlan, UsageError
from overcommit.model.action import (
    GUEST_RECLAIM,
    KSM,
    PLUG,
    RECALL,
    RELIEF,
    Action,
    BalloonAction,
    DemotionAction,
    GuestReclaimAction,
    KsmAction,
    PageoutAction,
    ReportingAction,
    VirtioMemAction,
    name_of,
    subject_of,
)
from overcommit.model.budget import HostBudget, WorstCase
from overcommit.model.facts import Gap, Incarnation
from overcommit.model.heat import ColdPiece, IdleBucket
from overcommit.model.moments import Wall
from overcommit.model.plan import (
    CachePlan,
    Cause,
    DomainPlan,
    Drift,
    HostPlan,
    LeftOut,
    Plan,
    Reason,
    Verdict,
)
from overcommit.model.policy import Actuator, GuestHelp, PageoutActor
from overcommit.plan.soundness import flaws

FORMAT_VERSION = "1.0"
MOST_BYTES = 64 << 20
"""The largest document: a thousand domains with a thousand pieces each."""
_MOST_DEPTH = 16
_SHOWN = 80
"""The most characters of a foreign text in a message."""
_HOST_FIELDS = (
    *("name", "kernel", "boot_id", "total_bytes", "available_bytes", "running_domains", "promised_bytes"),
    *("swap_total_bytes", "swap_free_bytes", "reserve_bytes", "reserved_bytes"),
    *("lru_bytes", "idle_bytes", "idle_after_seconds"),
)
_BUDGET_FIELDS = (
    *("total_bytes", "huge_pages_bytes", "guests_bytes", "overhead_bytes", "others_bytes", "free_bytes"),
    *("available_bytes", "limit", "promised_bytes"),
)
_LATER_BUDGET_FIELDS = ("arc_bytes", "free_now_bytes")
"""Fields that documents of earlier versions lack; they get the field's default."""
_DOMAIN_FIELDS = (
    *("resident_bytes", "swapped_bytes", "hot_bytes", "warm_bytes", "cold_bytes", "wss_bytes", "floor_bytes"),
    *("ceiling_bytes", "actual_bytes", "target_bytes", "confidence"),
)
_DRIFT_FIELDS = ("what", "left_bytes", "found_bytes", "generation")
_KINDS: dict[str, type[Action]] = {
    Actuator.FREE_PAGE_REPORTING.value: ReportingAction,
    GUEST_RECLAIM: GuestReclaimAction,
    Actuator.VIRTIO_MEM.value: VirtioMemAction,
    Actuator.BALLOON.value: BalloonAction,
    RELIEF: BalloonAction,
    PLUG: VirtioMemAction,
    Actuator.DEMOTION.value: DemotionAction,
    RECALL: DemotionAction,
    Actuator.PAGEOUT.value: PageoutAction,
    KSM: KsmAction,
}


def to_document(plan: Plan) -> dict[str, Any]:
    """The JSON document of a plan, digest included."""
    blocked = sum(1 for a in plan.actions if a.blocked is not None)
    document = {
        "format_version": FORMAT_VERSION,
        "kind": "plan",
        "created_at": plan.created_at,
        "expires_at": plan.expires_at,
        "policy": {"source": plan.policy_source, "digest": plan.policy_digest},
        "host": {
            **{name: getattr(plan.host, name) for name in _HOST_FIELDS},
            "headroom_bytes": plan.host.headroom_bytes,
            "budget": _budget_to_json(plan.host.budget),
        },
        "domains": [_domain_to_json(d) for d in plan.domains],
        "actions": [_action_to_json(a) for a in plan.actions],
        "drift": [_drift_to_json(d) for d in plan.drift],
        "notes": list(plan.notes),
        "emergency": plan.emergency,
        "stopped": plan.stopped,
        "left_out": [{**_incarnation_to_json(each.domain), "why": each.why} for each in plan.left_out],
        "addresses": plan.addresses,
        "summary": {
            "change": len(plan.actions) - blocked,
            "blocked": blocked,
            "expected_bytes": plan.expected_bytes,
            "given_bytes": plan.given_bytes,
        },
    }
    return {**document, "digest": _digest(document)}


def dumps(plan: Plan) -> str:
    """The document as text, stable to the byte for equal plans."""
    return json.dumps(to_document(plan), indent=1) + "\n"


def loads(text: str, source: str) -> Plan:
    """The plan of a document that `dumps` wrote.

    Raises:
        UsageError: it is not a plan, or has another format.
        StalePlan: it was edited since it was written, or `dumps` cannot have written it.
    """
    try:
        document = bounded_json.loads(text, most_bytes=MOST_BYTES, most_depth=_MOST_DEPTH)
        if document["kind"] != "plan":
            raise UsageError(f"{source} is not a plan but a {str(document['kind'])[:_SHOWN]}")
        if document["format_version"].partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
            raise UsageError(f"{source} has format {document['format_version'][:_SHOWN]}, not 1.x")
        if document["digest"] != _digest({k: v for k, v in document.items() if k != "digest"}):
            raise _changed(source, "")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"{source} is not a saved plan", hint="to make one: overcommitctl plan -o plan.json"
        ) from error
    try:
        plan = _from_document(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _changed(source, ": it is not complete") from error
    # In this order, because values of a wrong type cannot be compared.
    for flaw in itertools.chain(flaws(plan, Plan, "plan"), _contradictions(plan)):
        raise _changed(source, f": {flaw}")
    if not _says_no_more(document, {**to_document(plan), "digest": document["digest"]}):
        raise _changed(source, ": it has an unknown field")
    return plan


def _says_no_more(document: Any, written: Any) -> bool:
    """Whether a document has only what this program writes.

    Fields that an earlier version lacks may be missing.
    """
    if isinstance(document, dict):
        return isinstance(written, dict) and all(
            key in written and _says_no_more(value, written[key]) for key, value in document.items()
        )
    if isinstance(document, list):
        return (
            isinstance(written, list | tuple)
            and len(document) == len(written)
            and all(map(_says_no_more, document, written))
        )
    return type(document) is type(written) and document == written


def _changed(source: str, why: str) -> StalePlan:
    return StalePlan(
        f"{source} was changed after it was written{why}",
        hint="to make a new plan: overcommitctl plan -o plan.json",
    )


def _contradictions(plan: Plan) -> Iterator[str]:
    """Combinations of values that no plan of this program has."""
    if [action.id for action in plan.actions] != [str(n) for n in range(1, len(plan.actions) + 1)]:
        yield "its actions are not numbered from 1 on"
    domains = [domain.incarnation for domain in plan.domains]
    if len({domain.uuid for domain in domains}) != len(domains):
        yield "it has a domain twice"
    seen = set()
    for action in plan.actions:
        whose = None if isinstance(action, KsmAction) else action.domain
        what = (whose, name_of(action), getattr(action, "device", None))
        if what in seen:
            yield f"it has {what[1]} of {subject_of(action)[:_SHOWN]} twice"
        seen.add(what)
        if whose is not None and whose not in domains:
            yield f"it acts on {subject_of(action)[:_SHOWN]}, which it does not describe"


def _digest(document: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _incarnation_to_json(incarnation: Incarnation) -> dict[str, Any]:
    return {
        "name": incarnation.name,
        "uuid": incarnation.uuid,
        "pid": incarnation.pid,
        "start_time": incarnation.start_time,
    }


def _domain_to_json(domain: DomainPlan) -> dict[str, Any]:
    return {
        **_incarnation_to_json(domain.incarnation),
        "class": domain.class_name,
        **{name: getattr(domain, name) for name in _DOMAIN_FIELDS},
        "idle_histogram": [
            {"min_idle_seconds": b.min_idle_seconds, "bytes": b.resident_bytes} for b in domain.idle_histogram
        ],
        "eligible": {
            actuator.value: {"ok": v.ok, "reason": v.reason, "remedy": v.hint}
            for actuator, v in domain.eligible.items()
        },
        "guest_help": {
            help_kind.value: {"ok": v.ok, "reason": v.reason, "remedy": v.hint}
            for help_kind, v in domain.guest_help.items()
        },
        "offers": {actuator.value: size for actuator, size in domain.offers.items()},
        "gaps": [{"what": g.what, "why": g.why} for g in domain.gaps],
        "cache": domain.cache._asdict() if domain.cache else None,
        "gives_nothing": [
            {"actuator": each.actuator.value, "code": each.cause.value, "reason": each.text}
            for each in domain.gives_nothing
        ],
    }


def _drift_to_json(drift: Drift) -> dict[str, Any]:
    values = {name: getattr(drift, name) for name in _DRIFT_FIELDS}
    return {"domain": _incarnation_to_json(drift.domain), **values}


def _action_to_json(action: Action) -> dict[str, Any]:
    document: dict[str, Any] = {"kind": name_of(action), "domain": None}
    for field in dataclasses.fields(action):
        value = getattr(action, field.name)
        if isinstance(value, Incarnation):
            value = _incarnation_to_json(value)
        elif isinstance(value, enum.Enum):
            value = value.value
        elif isinstance(value, tuple):
            value = [list(piece) for piece in value]
        document[field.name] = value
    return document


def _from_document(document: dict[str, Any]) -> Plan:
    return Plan(
        created_at=Wall(float(document["created_at"])),
        expires_at=Wall(float(document["expires_at"])),
        policy_source=document["policy"]["source"],
        policy_digest=document["policy"]["digest"],
        host=HostPlan(
            **{name: document["host"][name] for name in _HOST_FIELDS},
            budget=_budget_from_json(document["host"]["budget"]),
        ),
        domains=tuple(_domain_from_json(d) for d in document["domains"]),
        actions=tuple(_action_from_json(a) for a in document["actions"]),
        drift=tuple(Drift(**{**d, "domain": _incarnation_from_json(d["domain"])}) for d in document["drift"]),
        notes=tuple(document["notes"]),
        emergency=document["emergency"],
        stopped=document.get("stopped"),
        left_out=tuple(
            LeftOut(domain=_incarnation_from_json(each), why=each["why"])
            for each in document.get("left_out", ())
        ),
        addresses=document.get("addresses", True) is not False,
    )


def _budget_to_json(budget: HostBudget) -> dict[str, Any]:
    return {
        **{name: getattr(budget, name) for name in (*_BUDGET_FIELDS, *_LATER_BUDGET_FIELDS)},
        "overcommit_ratio": budget.overcommit_ratio,
        "worst_case": dataclasses.asdict(budget.worst_case),
        "rests_on": list(budget.rests_on),
    }


def _budget_from_json(data: dict[str, Any]) -> HostBudget:
    return HostBudget(
        **{name: data[name] for name in _BUDGET_FIELDS},
        **{name: data[name] for name in _LATER_BUDGET_FIELDS if name in data},
        worst_case=_worst_case_from_json(data["worst_case"]),
        rests_on=tuple(data["rests_on"]),
    )


def _worst_case_from_json(data: dict[str, Any]) -> WorstCase:
    sentences = {name: tuple(data.get(name, ())) for name in ("rests_on", "bounds")}
    return WorstCase(**{**data, **sentences})


def _incarnation_from_json(data: dict[str, Any]) -> Incarnation:
    return Incarnation(uuid=data["uuid"], name=data["name"], pid=data["pid"], start_time=data["start_time"])


def _verdict_from_json(data: dict[str, Any]) -> Verdict:
    return Verdict(ok=data["ok"], reason=data["reason"], hint=data["remedy"])


def _domain_from_json(data: dict[str, Any]) -> DomainPlan:
    return DomainPlan(
        incarnation=_incarnation_from_json(data),
        class_name=data["class"],
        **{name: data[name] for name in _DOMAIN_FIELDS},
        idle_histogram=tuple(IdleBucket(b["min_idle_seconds"], b["bytes"]) for b in data["idle_histogram"]),
        eligible={Actuator(name): _verdict_from_json(v) for name, v in data["eligible"].items()},
        guest_help={GuestHelp(name): _verdict_from_json(v) for name, v in data["guest_help"].items()},
        offers={Actuator(name): size for name, size in data["offers"].items()},
        gaps=tuple(Gap(**g) for g in data["gaps"]),
        cache=CachePlan(**data["cache"]) if data.get("cache") else None,
        gives_nothing=tuple(
            Reason(Actuator(each["actuator"]), Cause(each["code"]), each["reason"])
            for each in data.get("gives_nothing", ())
        ),
    )


def _action_from_json(data: dict[str, Any]) -> Action:
    kind = _KINDS[data["kind"]]
    later = {"expected_swap_bytes"} - data.keys()  # an older document has no such field
    values = {field.name: data[field.name] for field in dataclasses.fields(kind) if field.name not in later}
    for name, convert in _CONVERTERS.items():
        if name in values:
            values[name] = convert(values[name])
    return kind(**values)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "domain": _incarnation_from_json,
    "actor": PageoutActor,
    "pieces": lambda pieces: tuple(ColdPiece(*piece) for piece in pieces),
    "settings": lambda settings: tuple((name, value) for name, value in settings),
}
