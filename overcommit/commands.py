"""Commands in sentences for people, completed with what the operator gave when the program was called. Pure.

Whoever writes a hint deep inside of the program does not know how it was called. So a hint has a command with
its verb and arguments only: ``overcommitctl restore 3``, ``virsh resume web``. The program that shows a hint
knows the rest, and puts it in right after the verb.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from overcommit.display import command

OVERCOMMITCTL = "overcommitctl"
VIRSH = "virsh"
DEFAULT_URI = "qemu:///system"


class Given(enum.Enum):
    """An option of the last command that the next one needs too."""

    CONNECT = "--connect"
    POLICY = "--policy"
    TAKE_OVER = "--take-over"


_BY_POLICY = frozenset({Given.CONNECT, Given.POLICY})
_BY_DAMON = frozenset(Given)
_NOTHING: frozenset[Given] = frozenset()

VERBS: Mapping[str, frozenset[Given]] = {
    "doctor": _BY_POLICY,
    "prepare": frozenset({Given.CONNECT}),
    "plan": _BY_DAMON,
    "explain": _BY_DAMON,
    "apply": _BY_DAMON,
    "status": _BY_POLICY,
    "top": _NOTHING,
    "pause": _NOTHING,
    "resume": _NOTHING,
    "history": _NOTHING,
    "report": _NOTHING,
    "reserve": _BY_DAMON,
    "release": _NOTHING,
    "restore": frozenset({Given.CONNECT}),
    "validate": _NOTHING,
    "service": _NOTHING,
    "completion": _NOTHING,
}
"""Each verb, and what of the last command it depends on. ``validate`` names its file itself."""

_HAS_ITS_OPTIONS = (*(f" {given.value}" for given in Given), " --list", " --cancel")
"""What follows a verb that needs no more: an option put there before, or one that needs only the ledger."""

_QUOTED = r"""(?<!\S)(?:\$'(?:\\.|[^'\\])*'|'[^']*'|"[^"]*")(?:'[^']*'|"[^"]*"|[^\s'"])*"""
_COMMAND = re.compile(
    rf"{_QUOTED}|(?<![\w./-])(?P<program>{OVERCOMMITCTL}|{VIRSH}) (?P<verb>[a-z]+)(?![\w-])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """How the program that shows a hint was called.

    ``connect_uri`` is libvirt's URI. ``policy`` is the policy file that was named, None where none was.
    """

    connect_uri: str = DEFAULT_URI
    policy: str | None = None
    take_over: bool = False

    def complete(self, text: str) -> str:
        """The text with each command in it as the operator has to type it.

        Our verbs get those of the options given that they depend on. virsh always gets the URI: without one,
        users other than root have a libvirt of their own. A command that has them stays as it is, so a text
        may be completed twice. What is in quotes is a name, and no command.
        """
        return _COMMAND.sub(self._completed, text)

    def _completed(self, found: re.Match[str]) -> str:
        program, verb = found["program"], found["verb"]
        if program is None:
            return found[0]
        if program == VIRSH:
            return f"{command(VIRSH, '-c', self.connect_uri)} {verb}"
        if found.string.startswith(_HAS_ITS_OPTIONS, found.end()):
            return found[0]
        return command(OVERCOMMITCTL, verb, *self._options(VERBS.get(verb, _NOTHING)))

    def _options(self, needed: frozenset[Given]) -> list[str]:
        words: list[str] = []
        if Given.CONNECT in needed and self.connect_uri != DEFAULT_URI:
            words += [Given.CONNECT.value, self.connect_uri]
        if Given.POLICY in needed and self.policy is not None:
            words += [Given.POLICY.value, self.policy]
        if Given.TAKE_OVER in needed and self.take_over:
            words.append(Given.TAKE_OVER.value)
        return words
