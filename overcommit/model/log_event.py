"""What an event of the daemon's log is: a sentence for people, fields for programs. Pure.

The events themselves are in `overcommit.model.events`, each defined in one place.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Generic, NamedTuple, ParamSpec, Protocol

_P = ParamSpec("_P")
_MOST_CHARACTERS = 2000
"""Of a sentence or a field: events are kept while they are counted, and names are of others' making."""
PREFIX = "OVERCOMMIT_"
"""Names of fields begin so, so that they are nobody else's; see systemd.journal-fields(7)."""


class Priority(enum.IntEnum):
    """How urgent an event is, by the levels of syslog(3)."""

    CRITICAL = 2
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6


class Field(enum.Enum):
    """A field of an event, by its name in systemd's journal without the prefix."""

    EVENT = "EVENT"
    REPEATED = "REPEATED"
    DOMAIN = "DOMAIN"
    DOMAIN_UUID = "DOMAIN_UUID"
    MECHANISM = "MECHANISM"
    OUTCOME = "OUTCOME"
    BYTES = "BYTES"
    SECONDS = "SECONDS"
    MODE = "MODE"
    LOST = "LOST"
    UID = "UID"
    POLICY = "POLICY"
    VERSION = "VERSION"
    RESERVATION = "RESERVATION"
    EXIT_STATUS = "EXIT_STATUS"

    @property
    def journal_name(self) -> str:
        """As journalctl takes it."""
        return f"{PREFIX}{self.value}"


Fields = Mapping[Field, str | int | float | None]
"""What is not known of an event is None, and left out."""


class Told(NamedTuple):
    """What one event says: the sentence, and the fields that its kind has."""

    sentence: str
    fields: Fields = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What events have in common.

    ``name`` is for people who filter, ``message_id`` (128 bits as hex digits, chosen once at random) for
    systemd's catalog. ``fields`` are those that its events may have, beside those that all have. One that is
    told ``once`` is counted while it comes again, instead of being told each time.
    """

    name: str
    message_id: str
    priority: Priority
    fields: tuple[Field, ...]
    once: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One thing that happened. ``repeated``: so many times since it was told last, this time included."""

    kind: Kind
    sentence: str
    fields: Fields = field(default_factory=dict)
    repeated: int = 1

    def counted(self, times: int, within: str) -> LogEvent:
        """The same, as it came ``times`` times ``within`` a time given in words."""
        told = f"{self.sentence} ({times} times within {within})"
        return dataclasses.replace(self, sentence=told, repeated=times)

    @property
    def values(self) -> dict[str, str]:
        """Its fields by their names in the journal."""
        known = {
            Field.EVENT: self.kind.name,
            Field.REPEATED: self.repeated if self.repeated > 1 else None,
            **self.fields,
        }
        return {name.journal_name: str(value) for name, value in known.items() if value is not None}


class Log(Protocol):
    """Who is told of events."""

    def tell(self, event: LogEvent) -> None:
        """Something happened."""
        ...

    def tend(self) -> None:
        """Tell what was counted and is over; to be called now and then."""
        ...


def _bounded(value: str | int | float | None) -> str | int | float | None:
    return value[:_MOST_CHARACTERS] if isinstance(value, str) else value


class Definition(Generic[_P]):
    """An event as it is defined: its kind, and how it is told."""

    def __init__(self, kind: Kind, tell: Callable[_P, Told]) -> None:
        self.kind = kind
        self._tell = tell
        self.__doc__ = tell.__doc__

    def __call__(self, *arguments: _P.args, **named: _P.kwargs) -> LogEvent:
        """The event of this moment."""
        told = self._tell(*arguments, **named)
        fields = {name: _bounded(value) for name, value in told.fields.items()}
        return LogEvent(kind=self.kind, sentence=told.sentence[:_MOST_CHARACTERS], fields=fields)


def defined(
    name: str, message_id: str, priority: Priority, *fields: Field, once: bool = False
) -> Callable[[Callable[_P, Told]], Definition[_P]]:
    """Make of a function that tells of something the definition of an event; see `Kind`."""
    kind = Kind(name=name, message_id=message_id, priority=priority, fields=fields, once=once)
    return lambda tell: Definition(kind, tell)
