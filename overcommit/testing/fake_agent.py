"""QEMU's guest agent in a guest, with the kernel files that the program writes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from overcommit.errors import HostError

COMPACT_MEMORY = "/proc/sys/vm/compact_memory"
RECLAIM = "/sys/module/damon_reclaim/parameters"
_COMMANDS = ("info", "exec", *(f"file-{verb}" for verb in ("open", "read", "write", "flush", "close")))

Flushed = Callable[[str, str, Callable[[], None]], None]


def _files() -> dict[str, str]:
    """The files of Linux 6.12 after boot."""
    numbers = {"min_age": "120000000", "wmarks_high": "500", "wmarks_mid": "400", "wmarks_low": "200"}
    return {
        COMPACT_MEMORY: "",
        f"{RECLAIM}/enabled": "N",
        **{f"{RECLAIM}/{name}": value for name, value in numbers.items()},
    }


@dataclass
class FakeAgent:
    """An agent. It refuses commands that are ``blocked``; one that ``hangs`` does not answer.

    Written text stays in a buffer until it is flushed, and only then the kernel accepts or refuses it. A
    write to ``compact_memory`` sets ``compacted``, for the host to act on.
    """

    connected: bool = True
    hangs: bool = False
    blocked: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=_files)
    compacted: bool = False
    asked: list[str] = field(default_factory=list)
    _open: dict[int, list[str]] = field(default_factory=dict)

    def answer(self, command: str, flushed: Flushed) -> str:
        """The answer to one command. ``flushed`` is the context of a flush."""
        request = json.loads(command)
        name, arguments = request["execute"], request.get("arguments", {})
        self.asked.append(name)
        if name in self.blocked:
            _refuse(name, f"Command {name} has been disabled: the command is not allowed")
        return json.dumps({"return": self._carry_out(name, arguments, flushed)})

    def _carry_out(self, name: str, arguments: dict[str, Any], flushed: Flushed) -> Any:
        if name == "guest-info":
            names = [f"guest-{each}" for each in _COMMANDS]
            known = [{"name": each, "enabled": each not in self.blocked} for each in names]
            return {"version": "10.0.13", "supported_commands": known}
        if name == "guest-file-open":
            return self._opened(arguments["path"], arguments["mode"])
        handle = arguments["handle"]
        path, buffered = self._open[handle]
        match name:
            case "guest-file-read":
                data = f"{self.files[path]}\n".encode()
                return {"count": len(data), "buf-b64": base64.b64encode(data).decode(), "eof": False}
            case "guest-file-write":
                self._open[handle][1] = base64.b64decode(arguments["buf-b64"]).decode()
                return {"count": len(self._open[handle][1]), "eof": False}
            case "guest-file-flush":
                flushed(path, buffered, lambda: self._take(path, buffered))
            case "guest-file-close":
                del self._open[handle]
            case _:
                _refuse(name, f"The command {name} has not been found")
        return {}

    def _opened(self, path: str, mode: str) -> int:
        unreadable = path == COMPACT_MEMORY and mode != "w"
        if unreadable or path not in self.files:
            why = "Permission denied" if unreadable or mode == "w" else "No such file or directory"
            _refuse("guest-file-open", f"failed to open file '{path}' (mode: '{mode}'): {why}")
        handle = 1000 + len(self.asked)
        self._open[handle] = [path, ""]
        return handle

    def _take(self, path: str, value: str) -> None:
        """Give a value to the kernel."""
        if path == COMPACT_MEMORY:
            self.compacted = True
        elif path.endswith("/enabled"):
            self.files[path] = value
        elif value.isdecimal():
            self.files[path] = str(int(value))
        else:
            _refuse("guest-file-flush", "failed to flush file: Invalid argument")


def _refuse(name: str, why: str) -> NoReturn:
    raise HostError(
        "libvirt could not ask its guest agent: guest agent command failed: "
        f"unable to execute QEMU agent command '{name}': {why}"
    )
