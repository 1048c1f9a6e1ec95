"""A separate process for all DAMON I/O, so that a kernel that hangs in it does not block the program.

Between Linux 6.14 and 7.1 a command that races with a kdamond's exit never returns: the caller sleeps
uninterruptibly and holds DAMON's global lock until the next boot ("mm/damon/core: fix damon_call() vs
kdamond_fn() exit race", 2026). Such a process cannot be ended. It is abandoned, and its work is reported as
not done. Restore still returns the balloons.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import select
import signal
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NoReturn

from overcommit.clock import SystemClock
from overcommit.errors import HostError
from overcommit.host.kernel import Advice, Kernel
from overcommit.model.facts import Residency
from overcommit.model.moments import Monotonic
from overcommit.model.ranges import Range

PATHS = ("/sys/kernel/mm/damon", "/sys/module/damon")
DEADLINE_SECONDS = 60.0
"""Much longer than any command takes: the longest wait for one aggregation, or for the slowest scheme."""
_LENGTH = struct.Struct("=Q")
_monotonic = SystemClock().monotonic
_MESSAGE_PART = 1 << 16
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a program that runs, or ran, at a terminal."""
_PR_SET_PDEATHSIG = 1


class DamonWorker:
    """A `overcommit.host.kernel.Kernel` whose DAMON files another process reads and writes.

    Raises (all calls on DAMON's files):
        HostError: the worker has not answered in time, now or earlier.
    """

    def __init__(self, kernel: Kernel, *, deadline_seconds: float = DEADLINE_SECONDS) -> None:
        """Start the worker. Call it before there are threads, and before any lock is held."""
        self._kernel = kernel
        self._deadline_seconds = deadline_seconds
        self._turn = threading.Lock()
        self._hung_at: str | None = None
        self._link, theirs = socket.socketpair()
        program = os.getpid()
        # A signal that came before the worker ignores it would have it unwind the program's stack.
        usual = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        self.pid = os.fork()
        if self.pid == 0:
            self._link.close()
            _serve(kernel, theirs, program, usual)
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)
        theirs.close()

    def read(self, path: str) -> str:
        """See `Kernel.read`."""
        return str(self._ask("read", path)) if path.startswith(PATHS) else self._kernel.read(path)

    def read_all(self, directory: str, names: Sequence[str]) -> tuple[str, ...]:
        """See `Kernel.read_all`; one round trip."""
        if directory.startswith(PATHS):
            return tuple(self._ask("read_all", directory, names))
        return self._kernel.read_all(directory, names)

    def read_tree(self, directory: str, leave_out: Collection[str]) -> dict[str, str]:
        """See `Kernel.read_tree`; one round trip."""
        if directory.startswith(PATHS):
            return dict(self._ask("read_tree", directory, leave_out))
        return self._kernel.read_tree(directory, leave_out)

    def write_all(self, directory: str, writes: Sequence[tuple[str, str]], *, go_on: bool) -> tuple[int, ...]:
        """See `Kernel.write_all`; one round trip."""
        if directory.startswith(PATHS):
            return tuple(self._ask("write_all", directory, writes, go_on=go_on))
        return self._kernel.write_all(directory, writes, go_on=go_on)

    def write(self, path: str, value: str) -> None:
        """See `Kernel.write`."""
        if path.startswith(PATHS):
            self._ask("write", path, value)
        else:
            self._kernel.write(path, value)

    def list(self, path: str) -> tuple[str, ...]:
        """See `Kernel.list`."""
        return tuple(self._ask("list", path)) if path.startswith(PATHS) else self._kernel.list(path)

    def exists(self, path: str) -> bool:
        """See `Kernel.exists`."""
        return bool(self._ask("exists", path)) if path.startswith(PATHS) else self._kernel.exists(path)

    def drain(self, path: str, most_bytes: int) -> str:
        """See `Kernel.drain`."""
        return self._kernel.drain(path, most_bytes)

    def make_directory(self, path: str) -> None:
        """See `Kernel.make_directory`."""
        self._kernel.make_directory(path)

    def remove_directory(self, path: str) -> None:
        """See `Kernel.remove_directory`."""
        self._kernel.remove_directory(path)

    def links(self, directory: str) -> tuple[str, ...]:
        """See `Kernel.links`."""
        return self._kernel.links(directory)

    def lock_holder(self, path: str) -> int | None:
        """See `Kernel.lock_holder`."""
        return self._kernel.lock_holder(path)

    def residency(self, pid: int, ram: Sequence[Range]) -> Residency:
        """See `Kernel.residency`."""
        return self._kernel.residency(pid, ram)

    def count_resident(self, pid: int, ram: Sequence[Range]) -> int:
        """See `Kernel.count_resident`."""
        return self._kernel.count_resident(pid, ram)

    def advise(self, pid: int, start_time: int, ranges: Sequence[Range], advice: Advice) -> None:
        """See `Kernel.advise`."""
        self._kernel.advise(pid, start_time, ranges, advice)

    def close(self) -> None:
        """End the worker. A worker that hangs is not waited for, because it cannot be killed."""
        self._link.close()
        if self._hung_at is None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)

    def _ask(self, what: str, *arguments: Any, **options: Any) -> Any:
        with self._turn, _uninterrupted():
            if self._hung_at is not None:
                raise self._hung(self._hung_at)
            try:
                _send(self._link, (what, arguments, options))
                succeeded, result = _receive(self._link, _monotonic() + self._deadline_seconds)
            except TimeoutError:
                self._hung_at = str(arguments[0])
                raise self._hung(self._hung_at) from None
            except (EOFError, OSError) as error:
                raise HostError("the process that does all DAMON I/O has died") from error
        if not succeeded:
            raise result
        return result

    def _hung(self, path: str) -> HostError:
        return HostError(
            f"the kernel's DAMON has not answered for {self._deadline_seconds:.0f} s ({path})",
            hint="see the kernel log: Linux 6.14 to 7.0 can hang there until the next boot; "
            "to give balloons back all the same: overcommitctl restore",
        )


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Defer signal handlers until the answer is complete.

    An exception in the middle of an answer would leave its rest for the next question.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple[int, Any]] = []
    usual: dict[signal.Signals, Callable[[int, Any], Any]] = {}
    for number in _ENDINGS:
        handler = signal.getsignal(number)
        if callable(handler):
            usual[number] = handler
            signal.signal(number, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for each, frame in came:
            usual[signal.Signals(each)](each, frame)


def _serve(kernel: Kernel, link: socket.socket, program: int, usual: set[int | signal.Signals]) -> NoReturn:
    """The worker's loop: answer until the program has closed the connection."""
    # A Ctrl-C is for the program, which then needs this worker to undo things. But once the program has
    # ended, another controller may be at work, and nothing may be written any more.
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, usual)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # readers of the program's output must see its end, even if this hangs
        os.dup2(nothing, descriptor)
    try:
        while True:
            what, arguments, options = _receive(link, None)
            if os.getppid() != program:
                break
            try:
                answer = (True, getattr(kernel, what)(*arguments, **options))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the program's to judge
                answer = (False, error)
            _send(link, answer)
    finally:
        os._exit(0)  # nothing of the program we were copied from may run here


def _send(link: socket.socket, message: object) -> None:
    data = pickle.dumps(message)
    link.sendall(_LENGTH.pack(len(data)) + data)


def _receive(link: socket.socket, deadline: Monotonic | None) -> Any:
    (length,) = _LENGTH.unpack(_exactly(link, _LENGTH.size, deadline))
    return pickle.loads(_exactly(link, length, deadline))  # noqa: S301 - from the other half of ourselves


def _exactly(link: socket.socket, size: int, deadline: Monotonic | None) -> bytes:
    parts: list[bytes] = []
    while size:
        left = None if deadline is None else max(0.0, deadline - _monotonic())
        if not select.select([link], [], [], left)[0]:
            raise TimeoutError
        part = link.recv(min(size, _MESSAGE_PART))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
