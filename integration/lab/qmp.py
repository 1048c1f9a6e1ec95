"""QEMU's own control socket of a host VM, one command at a time."""

from __future__ import annotations

import json
import socket
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from integration.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def connected(path: Path, timeout: float = 5) -> Iterator[Qmp]:
    """A connection that takes commands.

    Raises:
        OSError: nobody listens, or nobody answers in time.
    """
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(timeout)
        link.connect(str(path))
        with link.makefile("rw", encoding="utf-8") as stream:
            stream.readline()  # QEMU's greeting
            qmp = Qmp(stream)
            qmp.execute("qmp_capabilities")
            yield qmp


class Qmp:
    """A connection; what happens meanwhile (events) is not told."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def execute(self, command: str, **arguments: Any) -> Any:
        """Give a command and return its answer.

        Raises:
            LabError: QEMU refused it.
            OSError: it did not answer in time, or the connection ended.
        """
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while line := self._stream.readline():
            answer = json.loads(line)
            if "error" in answer:
                raise LabError(f"QEMU refuses {command}: {answer['error'].get('desc')}")
            if "return" in answer:
                return answer["return"]
        raise ConnectionResetError(f"QEMU ended while it did {command}")

    def monitor(self, line: str) -> str:
        """Give a line of the human monitor.

        Raises:
            LabError: it complained: it says nothing where all went well.
        """
        said = str(self.execute("human-monitor-command", **{"command-line": line})).strip()
        if said:
            raise LabError(f"QEMU refuses {line!r}: {said}")
        return said
