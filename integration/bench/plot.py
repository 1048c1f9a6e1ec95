"""A run of `integration.bench.hold` as an SVG: four panels over one axis of minutes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, TOP, PANEL, GAP = 960, 64, 150, 48, 150, 40
COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#444444")
Column = Sequence[float | None]
_FONT = 'font-family="sans-serif" font-size="12"'


class Panel(NamedTuple):
    """One of the four; ``lines`` by their names."""

    title: str
    lines: Mapping[str, Column]


class Axis(NamedTuple):
    """From seconds to pixels."""

    seconds: Sequence[float]

    def at(self, second: float) -> float:
        """Where a second is."""
        return LEFT + (WIDTH - LEFT - RIGHT) * second / self.seconds[-1]


def draw(judged: Mapping[str, Any]) -> str:
    """The whole picture."""
    axis, guests, host, daemon = Axis(judged["seconds"]), judged["guests"], judged["host"], judged["daemon"]
    panels = (
        Panel("Given back to the host by the guests, MiB (zram taken off)",
              {"given back": host["given_back"], "in zram": host["zram"]}),
        Panel("Held by each guest's process, MiB", {name: g["rss"] for name, g in guests.items()}),
        Panel("Pace of each guest, share of what it wants",
              {name: g["pace"] for name, g in guests.items() if any(v is not None for v in g["pace"])}),
        Panel("overcommitd with its worker: % of one CPU, and MiB (PSS)",
              {"CPU, %": daemon["cpu_percent"], "memory, MiB": daemon["pss"]}),
    )  # fmt: skip
    strips = TOP + len(panels) * (PANEL + GAP)
    height = strips + 22 * len(guests) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {_FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, 24, f"overcommitd on six changing guests, kernel {judged['kernel']}", size=16),
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, axis, TOP + number * (PANEL + GAP), judged["begun"])
    parts += _strips(guests, axis, strips, judged["changes"])
    return "\n".join([*parts, "</svg>", ""])


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 12, fill: str = "#222"
) -> str:
    said = escape(words)
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">{said}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#ddd") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _panel(panel: Panel, axis: Axis, top: float, begun: float) -> Iterator[str]:
    bottom = top + PANEL
    values = [value for line in panel.lines.values() for value in line if value is not None] or [0.0]
    low, high = min(0.0, *values), max(0.001, *values) * 1.05
    yield _text(LEFT, top - 6, panel.title)
    for share in (0.0, 0.5, 1.0):
        y, value = bottom - PANEL * share, low + (high - low) * share
        yield _line(LEFT, y, WIDTH - RIGHT, y)
        yield _text(LEFT - 6, y + 4, f"{value:.4g}" if high < 10 else f"{value:.0f}", anchor="end")
    yield _line(axis.at(begun), top, axis.at(begun), bottom, "#999")
    yield _text(axis.at(begun) + 4, top + 12, "overcommitd starts", size=10, fill="#777")
    for number, (name, line) in enumerate(panel.lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        for points in _pieces(line, axis, lambda value: bottom - PANEL * (value - low) / (high - low)):
            yield f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>'
        yield _text(WIDTH - RIGHT + 12, top + 14 + 16 * number, name, fill=colour)


def _pieces(line: Column, axis: Axis, height: Any) -> Iterator[str]:
    """The points of each stretch without a gap."""
    points: list[str] = []
    for second, value in zip(axis.seconds, line, strict=True):
        if value is not None:
            points.append(f"{axis.at(second):.1f},{height(value):.1f}")
        elif points:
            yield " ".join(points)
            points = []
    if points:
        yield " ".join(points)


def _strips(guests: Mapping[str, Any], axis: Axis, top: float, changes: Sequence[Any]) -> Iterator[str]:
    """When each guest was outside of its bounds (red), rested for it (amber), and changed (a tick)."""
    yield _text(
        LEFT, top - 6, "Outside of its bounds (red), nothing taken for that (amber), its needs change (|)"
    )
    width = axis.at(axis.seconds[1]) - axis.at(axis.seconds[0])
    for number, (name, guest) in enumerate(guests.items()):
        y = top + 4 + 22 * number
        yield _text(LEFT - 6, y + 11, name, anchor="end")
        for second, outside, why in zip(axis.seconds, guest["outside"], guest["why"], strict=True):
            colour = "#d1495b" if outside else "#f2c14e" if why else "#e6efe6"
            yield f'<rect x="{axis.at(second):.1f}" y="{y}" width="{width:.1f}" height="14" fill="{colour}"/>'
        for second, _, order in [change for change in changes if change[1] == name]:
            yield _line(axis.at(second), y - 3, axis.at(second), y + 17, "#000")
            yield _text(axis.at(second) + 3, y + 11, order, size=9)
    bottom = top + 22 * len(guests) + 20
    for minute in range(0, int(axis.seconds[-1] / 60) + 1, 5):
        yield _text(axis.at(minute * 60), bottom, f"{minute} min", anchor="middle")
