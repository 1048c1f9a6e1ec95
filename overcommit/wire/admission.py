"""Decides which clients of the control socket are served, and how many may connect per second. Pure.

Root, the group, and all other users have separate places; none can take a place of another kind. Within the
group and among the other users each user has a few. Where all are taken, the user with more places than the
newcomer would have gives one up, then a client that has waited without a request. So no number of users keeps
another user out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeVar

from overcommit.model.moments import Monotonic

MOST_OF_ONE_USER = 4
MOST_CONNECTIONS = 32
"""Connections of the group; as many of users who may only read; and as many of root."""
LINGERING_SECONDS = 1.0
"""A client that has not sent a request, or not taken its answer, for this long can be replaced."""
_MOST_USERS = 256
"""The most users whose rate is stored. One user may have many user ids, by a user namespace."""


class Holder(Protocol):
    """A client that has a place."""

    @property
    def uid(self) -> int:
        """Its user id."""
        ...

    @property
    def since(self) -> Monotonic:
        """When it came, in monotonic seconds."""
        ...

    @property
    def may_go(self) -> bool:
        """Whether no order of it is being carried out."""
        ...


_H = TypeVar("_H", bound=Holder)


class Full(Exception):
    """There is no place, and no client can be replaced."""


def make_room(uid: int, seated: Sequence[_H], now: Monotonic, *, of_root: bool) -> _H | None:
    """The client among those ``seated`` that must leave for one more of this user; None: there is room.

    Raises:
        Full: there is no place for it.
    """
    own = sum(holder.uid == uid for holder in seated)
    if not of_root and own >= MOST_OF_ONE_USER:
        raise Full
    if len(seated) < MOST_CONNECTIONS:
        return None
    counts = Counter(holder.uid for holder in seated)
    for holder in sorted(seated, key=lambda holder: (-counts[holder.uid], holder.since)):
        richer = counts[holder.uid] > own + 1
        if holder.may_go and (richer or now - holder.since >= LINGERING_SECONDS):
            return holder
    raise Full


class Rate:
    """A rate limit: a number per second, and ``burst`` at once. Times are monotonic seconds."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._left, self._at = float(burst), Monotonic(0.0)

    def take(self, now: Monotonic) -> bool:
        """Whether one more may come now. If so, it is counted."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_second)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Rates:
    """A rate limit per user, of the users that came last."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._of: dict[int, Rate] = {}

    def take(self, uid: int, now: Monotonic) -> bool:
        """Whether one more of this user may come now. If so, it is counted."""
        rate = self._of.pop(uid, None) or Rate(self._per_second, self._burst)
        self._of[uid] = rate  # at the end: who came longest ago is forgotten first
        if len(self._of) > _MOST_USERS:
            del self._of[next(iter(self._of))]
        return rate.take(now)
