"""Files inside of a guest, through QEMU's guest agent.

Each question to an agent marks the domain as tainted in libvirt, and the tenant may take it for an intrusion.
So a guest is asked only if its class allows it (`DomainClass.guest_help`).

Answers are untrusted input (rule S8). They are bounded in bytes and depth before they are parsed, and their
text is not kept. Only names of a closed set, numbers, and shortened reasons leave this module.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from overcommit import bounded_json
from overcommit.errors import Gone, HostError
from overcommit.hypervisor.port import Hypervisor

DAMON_RECLAIM = "/sys/module/damon_reclaim/parameters"
"""The directory of DAMON_RECLAIM's settings (Documentation/admin-guide/mm/damon/reclaim.rst). They need no
commit while it is off.
"""

_SECONDS = 5
"""The deadline of an answer. An agent that does not answer is not asked again."""
_MOST_BYTES = 4096
_LONGEST = 300
"""Bound on the characters of an agent's reason. A guest can write anything there (rule S8)."""
_MOST_ANSWER_BYTES, _MOST_DEPTH = 64 << 10, 8
"""Bounds of an answer: ten times what `_MOST_BYTES` of a file need, where libvirt's protocol allows 4 MiB.
`guest-info` has an entry for each of some dozens of commands.
"""
_FILE_VERBS = ("open", "read", "write", "flush", "close")
_COMMANDS = frozenset({"guest-info", *(f"guest-file-{verb}" for verb in _FILE_VERBS)})
"""The agent's commands that this program uses."""
_MOST_NUMBER = (1 << 64) - 1

# By the words of libvirt and of the agent: codes differ between versions.
_NO_SUCH_FILE = "No such file or directory"
_HINTS = {
    "is not configured": "add <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
    "</channel> to the domain",
    "is not connected": "install and start qemu-guest-agent in the guest",
    "not available": "the agent hangs: restart qemu-guest-agent in the guest",
    "didn't respond": "the guest is busy, or its agent hangs",
    "has been disabled": "the guest's qemu-ga was told to refuse it (--block-rpcs, --allow-rpcs)",
    "not allowed": "the guest's qemu-ga was told to refuse it (--block-rpcs, --allow-rpcs)",
    "has not been found": "the guest's qemu-ga is too old",
    _NO_SUCH_FILE: "the guest's kernel was built without it",
    "Permission denied": "the agent is confined in the guest (SELinux, AppArmor), or the file is read-only",
    "resource busy": "another user of DAMON runs in the guest (damon_stat, by default in recent kernels)",
    "Invalid argument": "the guest's kernel refuses that value",
}


class GuestAgent:
    """The agent of one domain.

    Raises (all calls):
        Gone: the domain is not running any more.
        HostError: there is no agent, it does not answer in time, or it refuses.
    """

    def __init__(self, hypervisor: Hypervisor, uuid: str) -> None:
        self._hypervisor = hypervisor
        self._uuid = uuid

    def commands(self) -> frozenset[str]:
        """The commands that both this program and the agent know. Asking changes nothing in the guest."""
        answer = self._ask("guest-info")
        with _understood("guest-info"):
            enabled = (known["name"] for known in answer["supported_commands"] if known["enabled"] is True)
            return _COMMANDS.intersection(name for name in enabled if isinstance(name, str))

    def read_setting(self, name: str) -> str | None:
        """A parameter of DAMON_RECLAIM: Y, N, or a number without leading zeros; None: there is none."""
        text = self.read_file(f"{DAMON_RECLAIM}/{name}")
        if text is None or text in {"Y", "N"}:
            return text
        with _understood("guest-file-read"):
            if not text.isascii() or not text.isdecimal() or len(text) > len(str(_MOST_NUMBER)):
                raise ValueError
            return str(min(int(text), _MOST_NUMBER))

    def read_file(self, path: str) -> str | None:
        """The beginning of a file, stripped of white space; None: there is no such file."""
        try:
            with self._open(path, "r") as handle:
                answer = self._ask("guest-file-read", {"handle": handle, "count": _MOST_BYTES})
        except HostError as error:
            if _NO_SUCH_FILE in str(error):
                return None
            raise
        with _understood("guest-file-read"):
            data = base64.b64decode(answer["buf-b64"], validate=True)
        return data[:_MOST_BYTES].decode(errors="replace").strip()

    def write_file(self, path: str, text: str, *, seconds: int = _SECONDS) -> None:
        """Write to a file. The guest's kernel may take ``seconds`` to carry it out."""
        data = base64.b64encode(text.encode()).decode()
        with self._open(path, "w") as handle:
            self._ask("guest-file-write", {"handle": handle, "buf-b64": data})
            # The agent buffers: what the kernel says to the value comes with this, and with nothing else.
            self._ask("guest-file-flush", {"handle": handle}, seconds=seconds)

    @contextlib.contextmanager
    def _open(self, path: str, mode: str) -> Iterator[int]:
        handle = self._ask("guest-file-open", {"path": path, "mode": mode})
        if type(handle) is not int or not 0 <= handle <= _MOST_NUMBER:
            raise _nonsense("guest-file-open")
        try:
            yield handle
        except BaseException:
            # What went wrong is told; an agent that hangs would not close it either.
            with contextlib.suppress(HostError):
                self._ask("guest-file-close", {"handle": handle}, seconds=1)
            raise
        self._ask("guest-file-close", {"handle": handle})

    def _ask(
        self, command: str, arguments: Mapping[str, Any] | None = None, *, seconds: int = _SECONDS
    ) -> Any:
        request = json.dumps({"execute": command, "arguments": arguments or {}})
        try:
            answer = self._hypervisor.ask_agent(self._uuid, request, seconds=seconds)
        except Gone:
            raise
        except HostError as error:
            said = "".join(letter if letter.isprintable() else "?" for letter in str(error))[:_LONGEST]
            hint = next((hint for words, hint in _HINTS.items() if words in said), error.hint)
            raise HostError(said, hint=hint) from error
        with _understood(command):
            said = bounded_json.loads(answer, most_bytes=_MOST_ANSWER_BYTES, most_depth=_MOST_DEPTH)
            return said["return"]


@contextlib.contextmanager
def _understood(command: str) -> Iterator[None]:
    """Turn malformed answers into a `HostError`, so that they do no harm (rule S8)."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise _nonsense(command, error if isinstance(error, ValueError) else None) from error


def _nonsense(command: str, why: ValueError | None = None) -> HostError:
    """The error for a malformed answer. It contains none of the answer's text."""
    about = f": {str(why)[:_LONGEST]}" if why is not None and str(why) and str(why).isprintable() else ""
    return HostError(
        f"the guest agent's answer to {command} is not valid{about}",
        hint="check qemu-guest-agent in the guest: it is broken or hostile",
    )
