"""Parses a moment in the past of a command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from overcommit.model.moments import Wall
from overcommit.units import parse_spoken_duration

_DAYS = {"today": 0, "yesterday": 1}


def parse_moment(text: str, now: Wall) -> Wall:
    """Seconds since the epoch of ``2h`` (that long ago), ``today``, ``yesterday``, or an ISO date or time.

    Days begin at midnight of this host's zone.

    Raises:
        ValueError: none of these, or a moment in the future.
    """
    said = text.strip().lower()
    here = datetime.fromtimestamp(float(now), tz=UTC).astimezone().replace(tzinfo=None)
    midnight = here.replace(hour=0, minute=0, second=0, microsecond=0)
    try:
        if said in _DAYS:
            return Wall((midnight - timedelta(days=_DAYS[said])).timestamp())
        if said[-1:].isalpha() and not said.endswith("z"):
            return now - parse_spoken_duration(said)
        at = Wall(datetime.fromisoformat(text.strip()).timestamp())
    except (ValueError, OverflowError):
        message = f"not a time: {text!r} (write it like 2h, today, yesterday, 2026-11-29 or 2026-11-29T18:30)"
        raise ValueError(message) from None
    if at > now:
        message = f"{text} is in the future"
        raise ValueError(message)
    return at
