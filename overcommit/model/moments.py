"""Moments of the two clocks, as types that do not mix.

When the program runs, a moment is a ``float`` of seconds. The type checker sees two types without a relation.
A duration (``float``) can be added to a moment. Moments of one clock can be compared and subtracted, those of
different clocks cannot. A ``NewType`` of ``float`` alone would still let ``wall < monotonic`` pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from typing import Self, final, overload

    class _Moment:
        def __new__(cls, seconds: float) -> Self: ...
        def __float__(self) -> float: ...
        def __format__(self, spec: str) -> str: ...
        def __add__(self, seconds: float) -> Self: ...
        @overload
        def __sub__(self, other: Self) -> float: ...
        @overload
        def __sub__(self, other: float) -> Self: ...
        def __sub__(self, other: object) -> object: ...
        def __lt__(self, other: Self) -> bool: ...
        def __le__(self, other: Self) -> bool: ...
        def __gt__(self, other: Self) -> bool: ...
        def __ge__(self, other: Self) -> bool: ...

    @final
    class Wall(_Moment):
        """Seconds since the epoch: for people, files, and to compare with time stamps of others. It jumps."""

    @final
    class Monotonic(_Moment):
        """Seconds of a clock that never jumps (CLOCK_MONOTONIC): for durations. It has no meaning on disk."""

else:
    Wall = NewType("Wall", float)
    Monotonic = NewType("Monotonic", float)
