"""The protocol of the control socket: one request, then its replies, each a JSON object in a line. Pure.

::

    -> {"version": 1, "verb": "pause", "arguments": {"seconds": 3600}}
    <- {"version": 1, "progress": {...}}        any number of them
    <- {"version": 1, "result": {...}}          or "error": {"message", "hint", "exit_code"}; the last line
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from overcommit import bounded_json
from overcommit.errors import HostError, OvercommitError, Refused, Unsupported, UsageError
from overcommit.units import KIB, LONGEST_SECONDS, MIB

VERSION = 1
MOST_REQUEST_BYTES = 8 * KIB
"""The longest line of a request. A request with every character of its name escaped is half as long."""
MOST_REPLY_BYTES = 256 * MIB
_REQUEST_DEPTH = 2
"""The request itself, and its arguments, which have no parts."""
_REPLY_DEPTH = 32
"""A status or a plan has a dozen levels at most."""
_MOST_TEXT = 256
"""No name of a domain is longer."""
_NO_NAME = re.compile(r"[\0\n\ud800-\udfff]")
"""Characters that libvirt does not accept in a name. It accepts all others, also those that are unsafe for a
terminal.
"""
_MOST_NUMBER = 1 << 62


class Verb(enum.Enum):
    """A request to the daemon."""

    STATUS = "status"
    PLAN = "plan"
    PAUSE = "pause"
    RESUME = "resume"
    RESERVE = "reserve"
    CANCEL = "cancel"
    """End a reservation."""
    RELEASE = "release"
    """End a domain's quarantine."""
    TICK = "tick"


_VERBS = {verb.value: verb for verb in Verb}
READS = frozenset({Verb.STATUS, Verb.PLAN})
"""Requests that any user may make. All others are orders."""
_NUMBERS = (int, float)
_ARGUMENTS: Mapping[Verb, Mapping[str, tuple[type, ...]]] = {
    Verb.PAUSE: {"seconds": _NUMBERS},
    Verb.RESERVE: {
        "size_bytes": (int,),
        "purpose": (str,),
        "timeout_seconds": _NUMBERS,
        "hold_seconds": _NUMBERS,
    },
    Verb.CANCEL: {"id": (int,)},
    Verb.RELEASE: {"domain": (str,)},
}
"""The arguments of each verb, with their types."""
_TIMES = frozenset({"seconds", "timeout_seconds", "hold_seconds"})
_NEEDED: Mapping[Verb, frozenset[str]] = {
    Verb.RESERVE: frozenset({"size_bytes", "timeout_seconds", "hold_seconds"}),
    Verb.CANCEL: frozenset({"id"}),
    Verb.RELEASE: frozenset({"domain"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A verb with its arguments: known ones only, of the right types. Numbers are above zero."""

    verb: Verb
    arguments: Mapping[str, Any]

    def encode(self) -> bytes:
        """The line to send."""
        return _line({"verb": self.verb.value, "arguments": dict(self.arguments)})

    @classmethod
    def parse(cls, line: bytes) -> Request:
        """The request in a line from an untrusted client.

        Raises:
            UsageError: it is not a request that this version understands.
        """
        said = _object(line, most_bytes=MOST_REQUEST_BYTES, most_depth=_REQUEST_DEPTH)
        verb = _VERBS.get(said["verb"]) if isinstance(said.get("verb"), str) else None
        if verb is None:
            raise UsageError(f"unknown verb {_short(said.get('verb'))}", hint=f"known: {', '.join(_VERBS)}")
        arguments = said.get("arguments", {})
        if not isinstance(arguments, dict):
            raise UsageError(f"{verb.value}: the arguments must be an object")
        known_types = _ARGUMENTS.get(verb, {})
        for name, value in arguments.items():
            if name not in known_types:
                raise UsageError(f"{verb.value}: unknown argument {_short(name)}")
            if not _suits(value, known_types[name]) or (name in _TIMES and value > LONGEST_SECONDS):
                raise UsageError(f"{verb.value}: {name} cannot be {_short(value)}")
        for name in sorted(_NEEDED.get(verb, frozenset()) - set(arguments)):
            raise UsageError(f"{verb.value}: {name} is missing")
        return cls(verb=verb, arguments=arguments)


class ReplyKind(enum.Enum):
    """The kind of a line of the daemon. The value is the key of its body."""

    PROGRESS = "progress"
    RESULT = "result"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One line of the daemon's answer."""

    kind: ReplyKind
    body: Mapping[str, Any]

    @property
    def final(self) -> bool:
        """Whether no line follows."""
        return self.kind is not ReplyKind.PROGRESS

    def encode(self) -> bytes:
        """The line to send."""
        return _line({self.kind.value: dict(self.body)})

    @classmethod
    def parse(cls, line: bytes) -> Reply:
        """The reply in a line of the daemon.

        Raises:
            UsageError: it is not a reply that this version understands.
        """
        said = _object(line, most_bytes=MOST_REPLY_BYTES, most_depth=_REPLY_DEPTH)
        for kind in ReplyKind:
            if isinstance(body := said.get(kind.value), dict):
                return cls(kind=kind, body=body)
        raise UsageError("an answer of an unknown kind")

    def raise_error(self) -> NoReturn:
        """Raise the error that the reply describes."""
        message, hint = str(self.body.get("message", "no reason given")), self.body.get("hint")
        kinds: dict[Any, type[OvercommitError]] = {
            kind.exit_code: kind for kind in (UsageError, Refused, Unsupported)
        }
        raise kinds.get(self.body.get("exit_code"), HostError)(message, hint=hint)


def failure(message: str, hint: str | None = None, *, exit_code: int = Refused.exit_code) -> Reply:
    """The reply of an error."""
    return Reply(kind=ReplyKind.ERROR, body={"message": message, "hint": hint, "exit_code": exit_code})


def document_line(document: bytes) -> bytes:
    """The result line of a JSON document that is text already. It is not parsed again for each reader."""
    flat = document.replace(b"\n", b" ")  # in JSON a bare line break is never inside of a string
    return b'{"version": %d, "%s": %s}\n' % (VERSION, ReplyKind.RESULT.value.encode(), flat)


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps({"version": VERSION, **said}).encode() + b"\n"


def _object(line: bytes, *, most_bytes: int, most_depth: int) -> dict[str, Any]:
    try:
        said = bounded_json.loads(line, most_bytes=most_bytes, most_depth=most_depth)
    except ValueError as error:
        why = "" if isinstance(error, json.JSONDecodeError) else f": {error}"
        raise UsageError(f"not a line of JSON{why}") from error
    if not isinstance(said, dict):
        raise UsageError("not a JSON object")
    version = said.get("version")
    if type(version) is not int or version != VERSION:
        raise UsageError(
            f"version {_short(version)} of the control socket is not supported; this overcommitd has "
            f"{VERSION}",
            hint="use the overcommitctl that came with this overcommitd",
        )
    return said


def _suits(value: Any, types: tuple[type, ...]) -> bool:
    if not isinstance(value, types):
        return False
    match value:
        case bool():
            return False
        case str():
            return 0 < len(value) <= _MOST_TEXT and _NO_NAME.search(value) is None
        case int() | float():
            return 0 < value < _MOST_NUMBER
        case _:
            return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
