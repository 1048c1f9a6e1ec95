"""Who gets a place among the clients of the control socket, and how many may come in a second. Pure.

Root has places of its own, so has the group, and all others together: nobody takes a place of the others.
Within the group and among the others each user has a few. Where all are taken, who has more of them than the
newcomer would have gives one up, and then who has waited without asking anything: so that no number of users
keeps another one out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, TypeVar

MOST_OF_ONE_USER = 4
MOST_CONNECTIONS = 32
"""Of the group; and as many of those who may only read; and as many of root."""
LINGERING_SECONDS = 1.0
"""Who has not asked anything for so long, or not taken its answer, makes room for others."""
_MOST_USERS = 256
"""Users whose rate is remembered; one user may have any number of user ids, by a user namespace."""


class Holder(Protocol):
    """Who has a place."""

    @property
    def uid(self) -> int:
        """Of which user it is."""
        ...

    @property
    def since(self) -> float:
        """Monotonic seconds."""
        ...

    @property
    def may_go(self) -> bool:
        """Whether nothing is being done for it."""
        ...


_H = TypeVar("_H", bound=Holder)


class Full(Exception):
    """Nobody leaves: there is no place."""


def make_room(uid: int, seated: Sequence[_H], now: float, *, of_root: bool) -> _H | None:
    """Who of those ``seated`` has to leave so that one more of this user's can come; None: there is room.

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
    """So many a second, and ``burst`` at once; times are monotonic seconds."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._left, self._at = float(burst), 0.0

    def take(self, now: float) -> bool:
        """Whether one more may come now; then it has."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_second)
        self._at = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Rates:
    """A rate for each user, of the users that came last."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._of: dict[int, Rate] = {}

    def take(self, uid: int, now: float) -> bool:
        """Whether one more of this user's may come now; then it has."""
        rate = self._of.pop(uid, None) or Rate(self._per_second, self._burst)
        self._of[uid] = rate  # at the end: who came longest ago is forgotten first
        if len(self._of) > _MOST_USERS:
            del self._of[next(iter(self._of))]
        return rate.take(now)
