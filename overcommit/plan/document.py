"""A plan as a JSON document and back. The digest makes later edits visible (rule S12)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from overcommit.errors import StalePlan, UsageError
from overcommit.model.facts import Gap, Incarnation
from overcommit.model.heat import ColdPiece, IdleBucket
from overcommit.model.plan import (
    RECALL,
    Action,
    BalloonAction,
    DemotionAction,
    DomainPlan,
    HostPlan,
    PageoutAction,
    Plan,
    Verdict,
    name_of,
)
from overcommit.model.policy import Actuator, PageoutActor

FORMAT_VERSION = "1.0"
_HOST_FIELDS = (
    *("name", "kernel", "boot_id", "total_bytes", "available_bytes", "promised_bytes"),
    *("swap_total_bytes", "swap_free_bytes", "reserve_bytes", "reserved_bytes"),
    *("lru_bytes", "idle_bytes", "idle_after_seconds"),
)
_DOMAIN_FIELDS = (
    *("resident_bytes", "swapped_bytes", "hot_bytes", "warm_bytes", "cold_bytes", "wss_bytes", "floor_bytes"),
    *("ceiling_bytes", "actual_bytes", "target_bytes", "confidence"),
)
_ACTION_FIELDS = (
    *("id", "before_bytes", "after_bytes", "expected_bytes", "reason", "because", "risk", "blocked"),
)
_IDLE_FIELDS = ("cold_after_seconds", "max_bytes_per_second", "psi_some_limit")
_PACE_FIELDS = ("promotions_limit", "working_set_bytes")


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
        },
        "domains": [_domain_to_json(d) for d in plan.domains],
        "actions": [_action_to_json(a) for a in plan.actions],
        "notes": list(plan.notes),
        "summary": {
            "change": len(plan.actions) - blocked,
            "blocked": blocked,
            "expected_bytes": plan.expected_bytes,
        },
    }
    return {**document, "digest": _digest(document)}


def dumps(plan: Plan) -> str:
    """The document as text, stable to the byte for equal plans."""
    return json.dumps(to_document(plan), indent=1) + "\n"


def loads(text: str, source: str) -> Plan:
    """Read a saved plan.

    Raises:
        UsageError: not a plan, or one of another format.
        StalePlan: edited since it was written.
    """
    try:
        document = json.loads(text)
        if document["kind"] != "plan":
            raise UsageError(f"{source} is not a plan but a {document['kind']}")
        if document["format_version"].partition(".")[0] != FORMAT_VERSION.partition(".")[0]:
            raise UsageError(f"{source} has format {document['format_version']}, not 1.x")
        if document.pop("digest") != _digest(document):
            raise StalePlan(
                f"{source} was changed after it was written",
                hint="make a new plan with overcommitctl plan -o FILE",
            )
        return _from_document(document)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{source} is not a saved plan", hint="overcommitctl plan -o FILE makes one"
        ) from error


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
            actuator.value: {"ok": v.ok, "reason": v.reason, "remedy": v.remedy}
            for actuator, v in domain.eligible.items()
        },
        "gaps": [{"what": g.what, "why": g.why} for g in domain.gaps],
    }


def _action_to_json(action: Action) -> dict[str, Any]:
    document = {
        "kind": name_of(action),
        "domain": _incarnation_to_json(action.domain),
        **{name: getattr(action, name) for name in _ACTION_FIELDS},
    }
    if isinstance(action, BalloonAction):
        return document
    if isinstance(action, DemotionAction):
        document["node"] = action.node
        if action.recall_to is not None:
            document["recall_to"] = action.recall_to
    else:
        document["actor"] = action.actor.value
        document |= {name: getattr(action, name) for name in _PACE_FIELDS}
    document |= {name: getattr(action, name) for name in _IDLE_FIELDS}
    document["pieces"] = [list(piece) for piece in action.pieces]
    return document


def _from_document(document: dict[str, Any]) -> Plan:
    return Plan(
        created_at=float(document["created_at"]),
        expires_at=float(document["expires_at"]),
        policy_source=document["policy"]["source"],
        policy_digest=document["policy"]["digest"],
        host=HostPlan(**{name: document["host"][name] for name in _HOST_FIELDS}),
        domains=tuple(_domain_from_json(d) for d in document["domains"]),
        actions=tuple(_action_from_json(a) for a in document["actions"]),
        notes=tuple(document["notes"]),
    )


def _incarnation_from_json(data: dict[str, Any]) -> Incarnation:
    return Incarnation(uuid=data["uuid"], name=data["name"], pid=data["pid"], start_time=data["start_time"])


def _domain_from_json(data: dict[str, Any]) -> DomainPlan:
    return DomainPlan(
        incarnation=_incarnation_from_json(data),
        class_name=data["class"],
        **{name: data[name] for name in _DOMAIN_FIELDS},
        idle_histogram=tuple(IdleBucket(b["min_idle_seconds"], b["bytes"]) for b in data["idle_histogram"]),
        eligible={Actuator(name): Verdict(**v) for name, v in data["eligible"].items()},
        gaps=tuple(Gap(**g) for g in data["gaps"]),
    )


def _action_from_json(data: dict[str, Any]) -> Action:
    common = {name: data[name] for name in _ACTION_FIELDS}
    domain = _incarnation_from_json(data["domain"])
    kind = Actuator.DEMOTION if data["kind"] == RECALL else Actuator(data["kind"])
    if kind is Actuator.BALLOON:
        return BalloonAction(domain=domain, **common)
    common |= {name: data[name] for name in _IDLE_FIELDS}
    common["pieces"] = tuple(ColdPiece(*piece) for piece in data["pieces"])
    if kind is Actuator.DEMOTION:
        recall_to = data["recall_to"] if data["kind"] == RECALL else None
        return DemotionAction(domain=domain, node=data["node"], recall_to=recall_to, **common)
    common |= {name: data[name] for name in _PACE_FIELDS}
    return PageoutAction(domain=domain, actor=PageoutActor(data["actor"]), **common)
