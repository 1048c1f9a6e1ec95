"""Converts the status document to metric families. Pure. A missing value gives no sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.samples import Sample

from overcommit.exporter import catalogue
from overcommit.exporter.catalogue import OTHERS, PREFIX, Described, Kind

_LONGEST_NAME = 256
_MODES = ("observe", "active", "paused", "safe")
_BOUNDS = catalogue.IDLE_BOUNDS_SECONDS
_ENDS = tuple(zip(_BOUNDS, [*((end, f"{end:g}") for end in _BOUNDS[1:]), (None, "+Inf")], strict=True))


def family(described: Described, samples: Iterable[tuple[Sequence[str], Any]] = ()) -> Metric:
    """A metric with its values by label. A value that is not a number is left out."""
    name = PREFIX + described.name
    made = Metric(name, described.about, described.kind.value)
    exposed, labels = described.exposed, described.labels
    made.samples = [
        Sample(exposed, dict(zip(labels, values, strict=True)), value)
        for values, value in samples
        if _is_number(value)
    ]
    return made


def families_of(status: Mapping[str, Any], *, most_domains: int) -> list[Metric]:
    """All metrics of the status document.

    Domains beyond ``most_domains``, in the order of their names, are summed.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it is not a status document.
    """
    return [
        *_of_daemon(status),
        *(family(each, [((), status["host"].get(each.key))]) for each in catalogue.OF_HOST),
        *_of_domains(status, most_domains),
    ]


def _of_daemon(status: Mapping[str, Any]) -> Iterator[Metric]:
    work, swap = status.get("work") or {}, status.get("swap_budget") or {}
    yield family(
        catalogue.DAEMON,
        [((_text(status.get("version") or "?"), _text(status["host"].get("kernel") or "?")), 1)],
    )
    yield family(catalogue.MODE, [((mode,), int(status["mode"] == mode)) for mode in _MODES])
    for described, value in (
        (catalogue.STOPPED, int(bool(status.get("stopped")))),
        (catalogue.POLICY_REFUSED, int(bool(status.get("policy_refused")))),
        (catalogue.GENERATIONS, len(status["generations"])),
        (catalogue.RESERVATIONS, len(status["reservations"])),
        (catalogue.GAPS, len(status["gaps"])),
        (catalogue.MONITORS_CPU, work.get("monitors_cpu_seconds")),
        (catalogue.SWAP_SPENT, int(bool(swap["spent"])) if swap else None),
    ):
        yield family(described, [((), value)])
    for described in (catalogue.PAUSE_ENDS, catalogue.TICKED, catalogue.PLANNED):
        yield family(described, [((), status.get(described.key))])
    for described in (catalogue.JOURNAL, catalogue.JOURNAL_MOST):
        yield family(described, [((), work.get(described.key))])
    for described in (catalogue.SWAP_ROOM, catalogue.SWAP_RATE):
        yield family(described, [((), swap.get(described.key))])
    ticks = Metric(PREFIX + catalogue.TICKS.name, catalogue.TICKS.about, Kind.SUMMARY.value)
    for kind, counts in (work.get("ticks") or {}).items():
        labels = {"kind": _text(kind)}
        for suffix, value in (("count", counts["count"]), ("sum", counts["seconds"])):
            if _is_number(value):
                ticks.add_sample(f"{ticks.name}_{suffix}", labels, value)
    yield ticks
    actions = {(_text(a["kind"]), _text(a["outcome"])): a for a in work.get("actions") or ()}.items()
    yield family(catalogue.ACTIONS, [(labels, each["count"]) for labels, each in actions])
    yield family(catalogue.FREED, [(labels, each["freed_bytes"]) for labels, each in actions])
    of_actuators = Counter(_text(each["actuator"]) for each in status["quarantines"])
    yield family(catalogue.QUARANTINES, [((actuator,), n) for actuator, n in of_actuators.items()])


def _of_domains(status: Mapping[str, Any], most: int) -> Iterator[Metric]:
    named: dict[str, Mapping[str, Any]] = {}
    others: list[Mapping[str, Any]] = []
    for domain in sorted(status["domains"], key=lambda each: (str(each["name"]), str(each["uuid"]))):
        name = _text(domain["name"])
        if name in named or name == OTHERS or len(named) >= most:
            others.append(domain)
        else:
            named[name] = domain
    yield family(catalogue.DOMAINS, [((), len(status["domains"]))])
    yield family(catalogue.SUMMED, [((), len(others))])
    yield family(
        catalogue.DOMAIN,
        [((name, _text(of["uuid"]), _text(of["class"])), 1) for name, of in named.items()],
    )
    for each in catalogue.DOMAIN_RATIOS:
        yield family(each, [((name,), of.get(each.key)) for name, of in named.items()])
    counted = [((name,), of) for name, of in named.items()]
    counted += [((OTHERS,), _sum(others))] if others else []
    for each in (*catalogue.DOMAIN_BYTES, catalogue.PROMOTIONS):
        yield family(each, [(labels, of.get(each.key)) for labels, of in counted])
    yield family(
        catalogue.RECLAIMED,
        [
            ((*labels, _text(mechanism)), size)
            for labels, of in counted
            for mechanism, size in (of.get("reclaimed_by") or {}).items()
        ],
    )
    yield _idle(counted)
    yield family(
        catalogue.LEFT_ALONE, [((name,), int(bool(of.get("why_not")))) for name, of in named.items()]
    )
    yield family(
        catalogue.DOMAIN_GAPS, [((name,), len(of["gaps"])) for name, of in named.items() if of["gaps"]]
    )
    yield family(
        catalogue.FAULTS,
        [((name,), (of.get("faults") or {"count": 0})["count"]) for name, of in named.items()],
    )
    quarantined = {(_text(q["domain"]), _text(q["actuator"])) for q in status["quarantines"]}
    yield family(catalogue.QUARANTINED, [(labels, 1) for labels in sorted(quarantined) if labels[0] in named])


def _idle(counted: Iterable[tuple[tuple[str], Mapping[str, Any]]]) -> Metric:
    """A histogram of idle bytes.

    A bucket has a lower bound in the document; in a histogram it has an upper bound, and includes all below
    it.

    All domains have the same buckets, also those watched for a shorter time. Otherwise they could not be
    summed.
    """
    described = catalogue.IDLE
    made = Metric(PREFIX + described.name, described.about, described.kind.value)
    bucket = f"{made.name}_bucket"
    for (name,), of in counted:
        told = of.get("idle_histogram")
        if not told:
            continue
        sizes = {each["min_idle_seconds"]: each["bytes"] for each in told}
        below, rest = 0, sum(sizes.values())
        for start, (end, shown) in _ENDS:
            below += sizes.get(start, 0)
            made.samples.append(Sample(bucket, {"domain": name, "le": shown}, rest if end is None else below))
    return made


def _sum(domains: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of what can be summed. A value that no domain has is left out."""
    total: dict[str, Any] = {}
    for each in (*catalogue.DOMAIN_BYTES, catalogue.PROMOTIONS):
        known = [of[each.key] for of in domains if _is_number(of.get(each.key))]
        total[each.key] = sum(known) if known else None
    mechanisms: Counter[str] = Counter()
    buckets: Counter[float] = Counter()
    for of in domains:
        mechanisms.update(of.get("reclaimed_by") or {})
        for bucket in of.get("idle_histogram") or ():
            buckets[bucket["min_idle_seconds"]] += bucket["bytes"]
    total["reclaimed_by"] = dict(mechanisms)
    total["idle_histogram"] = [
        {"min_idle_seconds": bound, "bytes": size} for bound, size in sorted(buckets.items())
    ]
    return total


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    """A text of an untrusted source: bounded, and valid UTF-8. The library escapes it."""
    return str(value)[:_LONGEST_NAME].encode("utf-8", "replace").decode("utf-8")
