"""The events of the daemon's log: a sentence for people, fields for programs. Pure.

`overcommit.model.events` defines each event in one place.
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
"""The longest sentence or field. Events are kept while they are counted, and names come from others."""
PREFIX = "OVERCOMMIT_"
"""The prefix of field names, so that they are distinct; see systemd.journal-fields(7)."""


class Priority(enum.IntEnum):
    """The priority of an event, by the levels of syslog(3)."""

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
        """The name in the journal."""
        return f"{PREFIX}{self.value}"


Fields = Mapping[Field, str | int | float | None]
"""A field that is not known is None, and left out."""


class Told(NamedTuple):
    """The sentence of one event, and the fields of its kind."""

    sentence: str
    fields: Fields = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What events of one kind have in common.

    ``name`` is for filters. ``message_id`` (128 bits as hex digits, chosen once at random) is for systemd's
    catalog. ``fields`` are those that its events may have, beside those of all events. An event that is told
    ``once`` is counted while it repeats, instead of being logged each time.
    """

    name: str
    message_id: str
    priority: Priority
    fields: tuple[Field, ...]
    once: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEvent:
    """One event. ``repeated`` is the number of times since it was logged last, this time included."""

    kind: Kind
    sentence: str
    fields: Fields = field(default_factory=dict)
    repeated: int = 1

    def counted(self, times: int, within: str) -> LogEvent:
        """The same event, with the text that it came ``times`` times ``within`` a time given in words."""
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
    """Takes events."""

    def tell(self, event: LogEvent) -> None:
        """Log an event."""
        ...

    def tend(self) -> None:
        """Log the counts of events that are over. Call it regularly."""
        ...


def _bounded(value: str | int | float | None) -> str | int | float | None:
    return value[:_MOST_CHARACTERS] if isinstance(value, str) else value


class Definition(Generic[_P]):
    """The definition of an event: its kind, and the function that makes its sentence."""

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
    """A decorator that makes a function with the sentence of an event to its definition; see `Kind`."""
    kind = Kind(name=name, message_id=message_id, priority=priority, fields=fields, once=once)
    return lambda tell: Definition(kind, tell)
