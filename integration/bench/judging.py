"""What the sampler's lines come to: columns for a plot, and what was held, gained and spent. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

PSI_BOUND = 0.20
"""Of the policy beside this; the bound of promotions is in the daemon's status."""
PASSES = {"web": 0.1, "files": 0.1, "deaf": 0.1}
"""How often a second each hot page is wanted, for those whose hot set is known."""
KV_RATE = 8.0
STEADY_SECONDS = 120.0
"""After so long a guest has what it needs since its needs changed, where nothing is in its way."""
_MIB, _PAGE, _MINUTE = 1 << 20, 4096, 60.0
Lines = Sequence[dict[str, Any]]


def judge(lines: Lines, *, kernel: str) -> dict[str, Any]:
    """Everything; sizes are MiB, rates are by the second, None is a gap."""
    samples = [line for line in lines if "host" in line]
    changes = [[round(line["at"]), line["guest"], line["order"]] for line in lines if "order" in line]
    begun = next((s["at"] for s in samples if s["status"]), samples[-1]["at"])
    names = list(samples[0]["guests"])
    guests = {name: _guest(samples, name, changes) for name in names}
    host = _host(samples, begun)
    return {
        "kernel": kernel,
        "begun": round(begun),
        "changes": changes,
        "seconds": [round(s["at"]) for s in samples],
        "host": host,
        "daemon": _daemon(samples),
        "guests": guests,
        "summary": {
            "host": _gained(samples, host, begun),
            "daemon": _spent(samples, begun),
            "guests": {name: _held(samples, name, guests[name], begun, changes) for name in names},
        },
    }


def _mib(value: float | None) -> float | None:
    return None if value is None else round(value / _MIB, 1)


def _host(samples: Lines, begun: float) -> dict[str, list[float | None]]:
    alone = [s for s in samples if s["at"] < begun] or samples[:1]
    before = statistics.median(_held_bytes(s) for s in alone)
    return {
        "available": [_mib(s["host"]["available"]) for s in samples],
        "zram": [_mib(s["host"]["zram"]) for s in samples],
        "given_back": [_mib(before - _held_bytes(s)) for s in samples],
    }


def _held_bytes(sample: Mapping[str, Any]) -> int:
    """What all guests hold of the host, with what their swapped pages take in zram."""
    resident = sum(guest["rss"] for guest in sample["guests"].values() if guest)
    return int(resident + sample["host"]["zram"])


def _daemon(samples: Lines) -> dict[str, list[float | None]]:
    cpu: list[float | None] = [None]
    for before, now in pairwise(samples):
        cpu.append(_cpu_share(before, now))
    found = [s["daemon"] for s in samples]
    return {
        "cpu_percent": cpu,
        "rss": [_mib(sum(d["rss"])) if d else None for d in found],
        "pss": [_mib(sum(d["pss"])) if d else None for d in found],
    }


def _cpu_share(before: Mapping[str, Any], now: Mapping[str, Any]) -> float | None:
    old, new = before["daemon"], now["daemon"]
    if not old or not new or old["pids"] != new["pids"]:
        return None
    spent: float = sum(new["cpu"]) - sum(old["cpu"])
    seconds: float = now["at"] - before["at"]
    return round(100 * spent / seconds, 2)


def _guest(samples: Lines, name: str, changes: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        key: []
        for key in (
            "rss",
            "swap",
            "pace",
            "worst_ms",
            "balloon",
            "promoted",
            "bound",
            "stalled",
            "outside",
            "doing",
            "why",
        )
    }
    for index, sample in enumerate(samples):
        seen, standing = sample["guests"][name], _standing(sample, name)
        stalled = _in_last_minute(samples, index, name, "stalled")
        stalled_share = None if stalled is None else round(stalled / _MINUTE, 3)
        promoted, bound = (
            standing.get("promotion_rate_per_minute"),
            standing.get("slo_promotion_rate_per_minute"),
        )
        too_much = promoted is not None and bound is not None and promoted > bound
        row = {
            "rss": _mib(seen["rss"]) if seen else None,
            "swap": _mib(seen["swap"]) if seen else None,
            "balloon": _mib(standing.get("actual_bytes")),
            "pace": _pace(samples, index, name, changes),
            "worst_ms": round(seen["max_us"] / 1000) if seen and seen["max_us"] is not None else None,
            "promoted": None if promoted is None else round(promoted, 4),
            "bound": bound,
            "stalled": stalled_share,
            "outside": int(too_much or (stalled_share is not None and stalled_share > PSI_BOUND)),
            "doing": standing.get("doing"),
            "why": standing.get("why_not"),
        }
        for key, value in row.items():
            columns[key].append(value)
    return columns


def _standing(sample: Mapping[str, Any], name: str) -> dict[str, Any]:
    domains = sample["status"]["domains"] if sample["status"] else []
    return next((dict(domain) for domain in domains if domain["name"] == name), {})


def _in_last_minute(samples: Lines, index: int, name: str, counter: str) -> float | None:
    """How much a counter grew in the minute up to a sample; of a shorter time, as if before was calm."""
    now = samples[index]
    earlier = [s for s in samples[:index] if now["at"] - s["at"] <= _MINUTE + 1 and s["guests"][name]]
    if not earlier or not now["guests"][name]:
        return None
    return float(now["guests"][name][counter] - earlier[0]["guests"][name][counter])


def _pace(samples: Lines, index: int, name: str, changes: Sequence[Sequence[Any]]) -> float | None:
    """What a guest does as a share of what it wants to do, by its own clock; None: it wants nothing."""
    if index == 0 or (name not in PASSES and name != "kv"):
        return None
    before, now = samples[index - 1]["guests"][name], samples[index]["guests"][name]
    if not before or not now or None in {before["ops"], now["ops"]} or now["t"] <= before["t"]:
        return None
    wanted = KV_RATE
    if name in PASSES:
        wanted = PASSES[name] * now["hot_bytes"] / _PAGE
    else:
        for at, guest, order in changes:
            if guest == name and at < samples[index]["at"]:
                wanted = float(order.rpartition("=")[2])
    return round((now["ops"] - before["ops"]) / (now["t"] - before["t"]) / wanted, 3) if wanted else None


def _with(samples: Lines, begun: float) -> list[int]:
    return [index for index, sample in enumerate(samples) if sample["at"] >= begun]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), 3) if known else None


def _gained(samples: Lines, host: Mapping[str, list[float | None]], begun: float) -> dict[str, float | None]:
    given = [host["given_back"][index] for index in _with(samples, begun)]
    alone = [s for s in samples if s["at"] < begun] or samples[:1]
    return {
        "held_alone_mib": _mib(statistics.median(_held_bytes(s) for s in alone)),
        "given_back_mean_mib": _mean(given),
        "given_back_end_mib": given[-1] if given else None,
    }


def _spent(samples: Lines, begun: float) -> dict[str, float | None]:
    found = [samples[index] for index in _with(samples, begun) if samples[index]["daemon"]]
    if len(found) < 2:
        return {}
    last = [s for s in found if found[-1]["at"] - s["at"] <= 10 * _MINUTE]
    seconds = found[-1]["at"] - found[0]["at"]
    return {
        "cpu_percent": _cpu_share(found[0], found[-1]),
        "cpu_percent_last_10_min": _cpu_share(last[0], last[-1]),
        "kdamonds_cpu_percent": round(
            100 * (found[-1]["host"]["kdamonds"] - found[0]["host"]["kdamonds"]) / seconds, 2
        ),
        "host_busy_percent": round(100 * (found[-1]["host"]["busy"] - found[0]["host"]["busy"]) / seconds, 1),
        "sampler_cpu_percent": round(100 * (found[-1]["own_cpu"] - found[0]["own_cpu"]) / seconds, 2),
        "rss_most_mib": _mib(max(sum(s["daemon"]["rss"]) for s in found)),
        "pss_most_mib": _mib(max(sum(s["daemon"]["pss"]) for s in found)),
        "pss_end_mib": _mib(sum(found[-1]["daemon"]["pss"])),
    }


def _grown(samples: Lines, name: str, counter: str) -> int | None:
    seen = [sample["guests"][name][counter] for sample in samples if sample["guests"][name]]
    return int(seen[-1] - seen[0]) if seen else None


def _held(
    samples: Lines,
    name: str,
    columns: Mapping[str, list[Any]],
    begun: float,
    changes: Sequence[Sequence[Any]],
) -> dict[str, float | None]:
    after = _with(samples, begun)
    changed = [at for at, guest, _ in changes if guest == name]
    steady = [i for i in after if not any(0 <= samples[i]["at"] - at <= STEADY_SECONDS for at in changed)]
    alone = [index for index in range(len(samples)) if index not in set(after)]

    def of(key: str, indexes: Sequence[int]) -> list[Any]:
        return [columns[key][index] for index in indexes]

    worst = [value for value in of("worst_ms", after) if value is not None]
    rates = zip(of("promoted", after), of("bound", after), strict=True)
    over = [rate is not None and bound is not None and rate > bound for rate, bound in rates]
    stalls = [value is not None and value > PSI_BOUND for value in of("stalled", after)]
    return {
        "outside_share": _mean(of("outside", after)),
        "outside_share_while_steady": _mean(of("outside", steady)),
        "outside_by_promotions": _mean([float(value) for value in over]),
        "outside_by_stall": _mean([float(value) for value in stalls]),
        "stalled_share_alone": _mean(of("stalled", alone)),
        "stalled_share": _mean(of("stalled", after)),
        "pace_alone": _mean(of("pace", alone)),
        "pace": _mean(of("pace", after)),
        "worst_ms_alone": max((v for v in of("worst_ms", alone[1:]) if v is not None), default=None),
        "worst_ms": max(worst, default=None),
        "read_back_pages": _grown(samples, name, "back"),
        "rss_alone_mib": _mean(of("rss", alone)),
        "rss_mean_mib": _mean(of("rss", after)),
    }


def table_of(judged: Mapping[str, Any]) -> Iterator[str]:
    """For people."""
    summary = judged["summary"]
    yield "guest   outside  (steady, promotions, stall)  stalled alone/with  pace alone/with  worst ms  MiB"
    for name, held in summary["guests"].items():
        yield (
            f"{name:<7} {_percent(held['outside_share']):>7}  "
            f"({_percent(held['outside_share_while_steady'])}, {_percent(held['outside_by_promotions'])}, "
            f"{_percent(held['outside_by_stall'])})  {_percent(held['stalled_share_alone'])}/"
            f"{_percent(held['stalled_share'])}  {_percent(held['pace_alone'])}/{_percent(held['pace'])}  "
            f"{held['worst_ms_alone']}/{held['worst_ms']}  {held['rss_alone_mib']}/{held['rss_mean_mib']}"
        )
    yield f"host: {summary['host']}"
    yield f"daemon: {summary['daemon']}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
