"""Makes and removes the control socket."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from overcommit.errors import Conflict, HostError
from overcommit.model.moments import Monotonic
from overcommit.wire.peers import peer_of

DEFAULT_DIRECTORY = Path("/run/overcommit")
_BACKLOG = 64


def socket_path(environment: Mapping[str, str]) -> Path:
    """The path of the socket."""
    return Path(environment.get("OVERCOMMIT_RUN_DIR", DEFAULT_DIRECTORY)) / "control.sock"


def path_for_root(path: Path) -> Path:
    """The path of a second socket, which only root can connect to, so that root's queue is not shared."""
    return path.with_name("root.sock")


class Door:
    """A listening socket, and since when it accepts no connections."""

    def __init__(self, path: Path, mode: int) -> None:
        """Make the socket, in place of one that an ended daemon left.

        Raises:
            Conflict: a daemon serves the existing one, or it is not a socket.
            HostError: it cannot be made there.
        """
        self._path = path
        self.listener = _listen(path, mode)
        self._inode = path.stat().st_ino
        self.deaf_until: Monotonic | None = None

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self.listener.fileno()

    def close(self) -> None:
        """Stop listening, and remove the socket, unless somebody has replaced it."""
        self.listener.close()
        with contextlib.suppress(OSError):  # somebody else removed it, or the whole directory
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


def _listen(path: Path, mode: int) -> socket.socket:
    """A socket that listens at ``path``, in place of one that an ended daemon left.

    It is moved there when it is ready, so that no half-made socket is taken for an abandoned one.

    Raises:
        Conflict: a daemon serves the existing one, or it is not a socket.
        HostError: it cannot be made there.
    """
    _require_free(path)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        listener.bind(str(new))
        new.chmod(mode)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        new.rename(path)
    except OSError as error:
        listener.close()
        raise HostError(
            f"cannot make the control socket {path}: {error.strerror or error}", hint="run as root"
        ) from error
    return listener


def _require_free(path: Path) -> None:
    """Check that no daemon serves the socket, and that it is a socket.

    Raises:
        Conflict: one does, or it is not.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise Conflict(f"{path} is no socket", hint="remove it")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.settimeout(1.0)
            trial.connect(str(path))
            raise Conflict(
                f"overcommitd is already running: pid {peer_of(trial).pid}",
                hint="overcommitctl status",
            )
    except (FileNotFoundError, ConnectionRefusedError):
        return
    except OSError as error:
        raise Conflict(f"{path} is in use: {error.strerror or error}") from error
