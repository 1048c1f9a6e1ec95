"""What a recorder's lines come to: one row of figures for one run. Pure."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

_MIB, _PAGE = 1 << 20, 4096
_SETTLED_LOOKS = 3
Lines = Sequence[dict[str, Any]]


def measure(lines: Lines) -> dict[str, Any]:
    """Figures of one run: MiB, pages, seconds, milliseconds, shares. None is a gap.

    ``saved`` is how much more memory the host has available at the end than before: what zram takes for
    swapped pages is not available, so it is taken off already (``zram`` is how much). ``peak`` is the
    most that it had under the controller. ``back`` counts pages that came back: from the host's swap to the
    guest's cgroup, and what the guest itself read again that it had in its cache or swap before.
    """
    samples = [line for line in lines if "host" in line]
    before = [s for s in samples if s["phase"] == "before"]
    control = [s for s in samples if s["phase"] == "control"]
    after = [s for s in samples if s["phase"] in {"after", "end"}]
    first = sum(s["host"]["available"] for s in before) / len(before)
    gained = [(s["host"]["available"] - first) / _MIB for s in (*control, *after)]
    end = gained[-_SETTLED_LOOKS:]
    saved = sum(end) / len(end)
    began = control[0]["at"]
    ended = next(line["controller"] for line in lines if "controller" in line)
    guests = {name: _guest(before, control, after, name) for name in samples[0]["guests"]}
    return {
        "saved": round(saved, 1),
        "peak": round(max(gained[: len(control)]), 1),
        "zram": round((samples[-1]["host"]["zram"] - before[-1]["host"]["zram"]) / _MIB, 1),
        "resident": round(sum(g["rss"] for g in before[-1]["guests"].values() if g) / _MIB, 1),
        "seconds": round(after[0]["at"] - before[-1]["at"], 1),
        "to_half": _reached(control, after, first, 0.5 * saved * _MIB, began),
        "to_most": _reached(control, after, first, 0.9 * saved * _MIB, began),
        "back_control": _total(guests, "back_control"),
        "back_after": _total(guests, "back_after"),
        "back": _total(guests, "back_control") + _total(guests, "back_after"),
        "worst_ms": max((g["worst_ms"] for g in guests.values() if g["worst_ms"] is not None), default=None),
        "rate": min((g["rate"] for g in guests.values() if g["rate"] is not None), default=None),
        "oom_kills": _total(guests, "oom_kills"),
        "cpu": round(ended["cpu"] + samples[-1]["host"]["kdamonds"] - before[-1]["host"]["kdamonds"], 1),
        "status": ended["status"],
        "guests": guests,
        "actions": actions(ended["output"]),
    }


def actions(output: str) -> list[dict[str, Any]]:
    """What the product said of each action that it did, where it was asked for JSON lines."""
    found = []
    for text in output.splitlines():
        if text.startswith("{"):
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if line.get("type") in {"done", "failed"}:
                kept = ("domain", "kind", "status", "freed_bytes", "promoted_pages", "seconds", "detail")
                found.append({key: line.get(key) for key in kept})
    return found


def _total(guests: dict[str, dict[str, Any]], key: str) -> int:
    return sum(guest[key] for guest in guests.values())


def _reached(control: Lines, after: Lines, first: float, wanted: float, began: float) -> float | None:
    """Seconds until so many bytes more were available; None where that never was, or nothing was wanted."""
    if wanted <= _MIB:
        return None
    times = (s["at"] - began for s in (*control, *after) if s["host"]["available"] - first >= wanted)
    found = next(times, None)
    return None if found is None else round(found, 1)


def _guest(before: Lines, control: Lines, after: Lines, name: str) -> dict[str, Any]:
    def of(samples: Lines) -> list[dict[str, Any]]:
        return [s["guests"][name] for s in samples if s["guests"][name] is not None]

    calm, busy, later = of(before), of(control), of(after)
    if not (calm and busy and later):
        return {
            "back_control": 0,
            "back_after": 0,
            "worst_ms": None,
            "rate": None,
            "oom_kills": 0,
            "lost": True,
        }
    usual, rates = _rate(calm[0], calm[-1]), [_rate(a, b) for a, b in _spans([calm[-1], *busy, *later])]
    known = [rate for rate in rates if rate is not None]
    return {
        "back_control": _back(calm[-1], later[0]),
        "back_after": _back(later[0], later[-1]),
        "worst_ms": max((s["max_us"] / 1000 for s in (*busy, *later) if s.get("max_us")), default=None),
        "rate": round(min(known) / usual, 3) if usual and known else None,
        "oom_kills": (later[-1].get("oom_kill") or 0) - (calm[-1].get("oom_kill") or 0),
        "minutes": _minutes([calm[-1], *busy, *later]),
    }


def _spans(samples: Sequence[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs some 15 s apart: a rate over less says little of a guest that works in passes of seconds."""
    found, first = [], samples[0]
    for sample in samples[1:]:
        if sample.get("t") is not None and first.get("t") is not None and sample["t"] - first["t"] >= 15:
            found.append((first, sample))
            first = sample
    return found


def _rate(a: dict[str, Any], b: dict[str, Any]) -> float | None:
    if a.get("t") is None or b.get("t") is None or b["t"] <= a["t"]:
        return None
    return float((b["ops"] - a["ops"]) / (b["t"] - a["t"]))


def _back(a: dict[str, Any], b: dict[str, Any]) -> int:
    own = 0
    for key in ("workingset_refault_file", "workingset_refault_anon"):
        if a.get(key) is not None and b.get(key) is not None:
            own += b[key] - a[key]
    return int(b["back"] - a["back"] + own)


def _minutes(samples: Sequence[dict[str, Any]]) -> list[int]:
    """Pages that came back in each minute by the guest's clock; the last one may be short."""
    timed = [s for s in samples if s.get("t") is not None]
    grouped = itertools.groupby(timed, key=lambda s: int((s["t"] - timed[0]["t"]) // 60))
    ends = [list(group)[-1] for _, group in grouped]
    return [_back(a, b) for a, b in itertools.pairwise([timed[0], *ends])] if timed else []
