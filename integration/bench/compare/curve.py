"""Saving against pain, as a curve for each controller, and how far apart two are. Pure.

A point is what a controller saved at one level of aggressiveness, and at which pain. What it can have at a
pain of at most p is the best of its points up to there, and nothing where it has none: a step function.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Point(NamedTuple):
    """One level: how much it hurt, and what it saved."""

    pain: float
    saved: float


def envelope(points: Iterable[Point]) -> list[Point]:
    """The points that are not beaten by another one of less or equal pain, by rising pain."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.pain, -p.saved)):
        if not best or point.saved > best[-1].saved:
            best.append(point)
    return best


def saved_at(points: Iterable[Point], pain: float) -> float:
    """The most that is saved at no more pain; 0 where everything hurts more."""
    return max((p.saved for p in points if p.pain <= pain), default=0.0)


def area(points: Iterable[Point], most_pain: float) -> float:
    """The mean saving up to a pain, over log(1 + pain): 100 pages are as much worse than 10 as 1000 than 100.

    Raises:
        ValueError: ``most_pain`` is not above 0.
    """
    if most_pain <= 0:
        raise ValueError("an area needs a width")
    whole, total, last = math.log1p(most_pain), 0.0, Point(0.0, 0.0)
    for point in envelope(points):
        if point.pain > most_pain:
            break
        total += last.saved * (math.log1p(point.pain) - math.log1p(last.pain))
        last = point
    return (total + last.saved * (whole - math.log1p(last.pain))) / whole


def against(ours: Sequence[Point], peers: Sequence[Point]) -> list[tuple[Point, float | None]]:
    """Each point of ours, with its saving over the best peer's at no more pain; None: no peer saves there."""
    found = []
    for point in envelope(ours):
        theirs = saved_at(peers, point.pain)
        found.append((point, point.saved / theirs if theirs > 0 else None))
    return found
