"""Files inside of a guest, through QEMU's guest agent.

Every question to an agent marks the domain as tainted in libvirt, and its tenant may take it for an
intrusion: only a guest whose owner agreed may be asked anything (`DomainClass.guest_help`).
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from overcommit.errors import Gone, HostError
from overcommit.hypervisor.port import Hypervisor

DAMON_RECLAIM = "/sys/module/damon_reclaim/parameters"
"""Where Linux has the settings of DAMON_RECLAIM; they need no commit while it is off."""

_SECONDS = 5
"""For an answer; an agent that does not answer is asked nothing more."""
_MOST_BYTES = 4096
_LONGEST = 300
"""Of what an agent gives as its reason: a guest could write anything there (rule S8)."""

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
    "resource busy": "somebody else uses DAMON in the guest (damon_stat does by default in recent kernels)",
    "Invalid argument": "the guest's kernel does not take that value",
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
        """The commands that the agent carries out; asking changes nothing in the guest."""
        answer = self._ask("guest-info")
        with _understood("guest-info", answer):
            return frozenset(known["name"] for known in answer["supported_commands"] if known["enabled"])

    def read_file(self, path: str) -> str | None:
        """The beginning of a file, without white space around it; None: there is no such file."""
        try:
            with self._open(path, "r") as handle:
                answer = self._ask("guest-file-read", {"handle": handle, "count": _MOST_BYTES})
        except HostError as error:
            if _NO_SUCH_FILE in str(error):
                return None
            raise
        with _understood("guest-file-read", answer):
            data = base64.b64decode(answer["buf-b64"], validate=True)
        return data.decode(errors="replace").strip()

    def write_file(self, path: str, text: str, *, seconds: int = _SECONDS) -> None:
        """Write to a file; what it means to the guest's kernel may take ``seconds``."""
        data = base64.b64encode(text.encode()).decode()
        with self._open(path, "w") as handle:
            self._ask("guest-file-write", {"handle": handle, "buf-b64": data})
            # The agent buffers: what the kernel says to the value comes with this, and with nothing else.
            self._ask("guest-file-flush", {"handle": handle}, seconds=seconds)

    @contextlib.contextmanager
    def _open(self, path: str, mode: str) -> Iterator[int]:
        handle = self._ask("guest-file-open", {"path": path, "mode": mode})
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
        with _understood(command, answer):
            return json.loads(answer)["return"]


@contextlib.contextmanager
def _understood(command: str, answer: object) -> Iterator[None]:
    """An answer is a guest's word: whatever it is, it must do no harm (rule S8)."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(f"the guest agent answers {command} with {str(answer)[:80]!r}") from error
