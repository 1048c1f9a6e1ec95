"""The report in Markdown: where we lose first, then a table for each scenario. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from integration.bench.compare.controllers import CONTROLLERS
from integration.bench.compare.curve import Point, against, area
from integration.bench.compare.results import merged
from integration.bench.compare.scenarios import QUICK, SCENARIOS

PAINS: Mapping[str, str] = {
    "back": "pages back",
    "worst_ms": "worst latency, ms",
    "lost": "lowest rate lost, share",
}
_WIDTH = 110
_HEAD = (
    "controller", "level", "saved, MiB", "of resident", "taken off for zram", "pages back: meanwhile + after",
    "of these", "lowest rate", "worst, ms", "s to 50 / 90 %", "CPU s", "n",
)  # fmt: skip


def points(rows: Sequence[dict[str, Any]], pain: str) -> dict[str, list[Point]]:
    """Of each controller, from merged rows."""
    found: dict[str, list[Point]] = {}
    for row in rows:
        value = pain_of(row, pain)
        if value is not None:
            found.setdefault(row["controller"], []).append(Point(value, row["saved"]))
    return found


def pain_of(row: dict[str, Any], pain: str) -> float | None:
    """One of `PAINS`; the share of work lost is that of a guest's worst 15 s."""
    if pain == "lost":
        return None if row["rate"] is None else max(0.0, round(1 - row["rate"], 3))
    return None if row[pain] is None else float(row[pain])


def report(rows: Sequence[dict[str, Any]], about: Mapping[str, Any], plots: Sequence[str]) -> str:
    """All of it."""
    lines = ["# Memory returned against pain", "", *_about(rows, about), "", *_losses(rows), ""]
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        here = [row for row in merged(rows) if row["scenario"] == scenario]
        if not here:
            continue
        known = QUICK if scenario == QUICK.name else SCENARIOS[scenario]
        lines += [f"## {scenario}", "", *_wrapped(f"{known.shown}. Linux {known.kernel} host."), ""]
        lines += [_line(_HEAD), _line(["---"] * len(_HEAD)), *(_row(row) for row in here), ""]
        lines += [*_areas(here), ""]
        lines += [f"![saving against pain]({name})" for name in plots if name.startswith(f"{scenario}.")] + [
            ""
        ]
    lines += ["## Who is compared", ""]
    for name in dict.fromkeys(row["controller"] for row in rows):
        lines += _wrapped(f"- `{name}`: {CONTROLLERS[name].shown}.")
    return "\n".join(lines).rstrip() + "\n"


def _about(rows: Sequence[dict[str, Any]], about: Mapping[str, Any]) -> list[str]:
    states = {(row["scenario"], row["state"]) for row in rows if "state" in row}
    failed = [row for row in rows if "error" in row]
    lines = [line for key, value in about.items() for line in _wrapped(f"- {key}: {value}")]
    lines.append(
        f"- {len(rows) - len(failed)} runs from {len(states)} saved state(s); medians where n is above 1"
    )
    lines += [f"- failed: {r['scenario']} {r['controller']} {r['level']}: {r['error']}" for r in failed]
    return lines


def _wrapped(text: str) -> list[str]:
    """As lines that fit a terminal."""
    indent = "  " if text.startswith("- ") else ""
    return textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(row: dict[str, Any]) -> str:
    back = ", ".join(f"{name} {pages:.0f}" for name, pages in row["guests"].items() if pages)
    spread = "" if row["n"] == 1 else f" ({row['spread'][0]:.0f}–{row['spread'][1]:.0f})"
    return _line([
        row["controller"], row["level"],
        f"{row['saved']:.0f}{spread}", f"{row['saved'] / row['resident']:.0%}",
        f"{row['zram']:.0f}", f"{row['back_control']:,.0f} + {row['back_after']:,.0f}", back or "–",
        "–" if row["rate"] is None else f"{row['rate']:.0%}",
        "–" if row["worst_ms"] is None else f"{row['worst_ms']:.0f}",
        f"{_seconds(row['to_half'])} / {_seconds(row['to_most'])}", f"{row['cpu']:.0f}", str(row["n"]),
    ])  # fmt: skip


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}"


def _split(rows: Sequence[dict[str, Any]], pain: str) -> tuple[dict[str, list[Point]], list[Point]]:
    found = points(rows, pain)
    ours = {name: each for name, each in found.items() if CONTROLLERS[name].ours}
    return ours, [p for name, each in found.items() if name not in ours for p in each]


def _areas(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The mean saving of each over log(1 + pain), up to the most pain that anybody caused."""
    lines = ["Mean saving (MiB) up to the most pain that anybody caused, over its logarithm:", ""]
    lines += [_line(["controller", *PAINS.values()]), _line(["---"] * (len(PAINS) + 1))]
    for name in dict.fromkeys(row["controller"] for row in rows):
        cells = []
        for pain in PAINS:
            found = points(rows, pain)
            most = max((p.pain for each in found.values() for p in each), default=0.0)
            cells.append(f"{area(found[name], most):.0f}" if name in found and most > 0 else "–")
        lines.append(_line([name, *cells]))
    return lines


def _losses(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Where a peer saves more at equal or less pain than a point of ours."""
    lost: list[str] = []
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        here = [row for row in merged(rows) if row["scenario"] == scenario]
        for pain, shown in PAINS.items():
            ours, peers = _split(here, pain)
            for name, each in ours.items():
                for point, ratio in against(each, peers):
                    if ratio is not None and ratio < 1:
                        lost += _wrapped(
                            f"- {scenario}: `{name}` saves {point.saved:.0f} MiB at {point.pain:g} {shown}, "
                            f"{ratio:.2f} of what the best peer saves at no more"
                        )
    return ["## Where we lose", "", *(lost or ["Nowhere in these runs."])]
