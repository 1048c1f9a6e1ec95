"""Reads a file that root obeys: bounded, with checks of its kind, its owner, and who could change it.

All checks are made on the open file, so that it cannot be replaced between the check and the reading. A file
that others may replace in its directory counts as writable by them. In a directory with the sticky bit, like
``/tmp``, only its owner can replace it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from overcommit.errors import Refused, UsageError

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_AT_ONCE = 1 << 20


class Untrusted(Refused):
    """Somebody else could have written the file, so its content is not obeyed."""


def callers(environment: Mapping[str, str] = os.environ) -> frozenset[int]:
    """The users whose files are trusted: root, the user who runs this, and who became root by sudo for it.

    ``SUDO_UID`` counts only for root. sudo sets it itself, and who else can set it for root is root already.
    """
    own = {0, os.geteuid()}
    by_sudo = environment.get("SUDO_UID", "")
    if os.geteuid() == 0 and by_sudo.isascii() and by_sudo.isdecimal():
        own.add(int(by_sudo[:10]))
    return frozenset(own)


def read(
    path: Path,
    what: str,
    *,
    most_bytes: int,
    owners: Collection[int] | None,
    follow: bool,
    hint: str | None = None,
) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        what: the file's name in messages, like ``the plan``.
        most_bytes: the largest size that is accepted.
        owners: the users that may own it and its directory; None: anybody.
        follow: whether a symbolic link is followed.
        hint: the hint of an `Untrusted`.

    Raises:
        UsageError: it cannot be read, is not a regular file, or is larger than ``most_bytes``.
        Untrusted: it has another owner, or others could write or replace it.
    """
    # Opening a FIFO, or a terminal, must not wait for anybody.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW
    places = [path]
    try:
        if follow and path.is_symlink():
            places.append(path.resolve(strict=True))
        with contextlib.ExitStack() as opened:
            directories = [
                _opened(opened, place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for place in places
            ]
            file = _opened(opened, Path(places[-1].name), flags, directories[-1])
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):
                is_ = _kind(about.st_mode)
                raise UsageError(f"cannot read {what} {path}: it is {is_}, no regular file", hint=hint)
            if owners is not None:
                _require_own(f"{what} {path}", about, map(os.fstat, directories), owners, hint)
            return _content(file, f"{what} {path}", most_bytes)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.ELOOP and not follow:
            why = "it is a symbolic link; name the file itself"
        raise UsageError(f"cannot read {what} {path}: {why}", hint=hint) from error
    except RuntimeError as error:  # what Python 3.11 and 3.12 say of links that lead to each other
        raise UsageError(f"cannot read {what} {path}: {os.strerror(errno.ELOOP)}", hint=hint) from error


def _opened(opened: contextlib.ExitStack, path: Path, flags: int, directory: int | None = None) -> int:
    descriptor = os.open(path, flags, dir_fd=directory)
    opened.callback(os.close, descriptor)
    return descriptor


def _content(file: int, name: str, most_bytes: int) -> bytes:
    parts, size = [], 0
    while part := os.read(file, _AT_ONCE):
        size += len(part)
        if size > most_bytes:
            raise UsageError(f"cannot read {name}: it is larger than {most_bytes >> 10} KiB")
        parts.append(part)
    return b"".join(parts)


def _require_own(
    name: str,
    file: os.stat_result,
    directories: Iterable[os.stat_result],
    owners: Collection[int],
    hint: str | None,
) -> None:
    why = None
    if file.st_uid not in owners:
        why = f"it belongs to uid {file.st_uid}"
    elif file.st_mode & _OTHERS:
        why = f"others may write to it (mode {stat.S_IMODE(file.st_mode):04o})"
    for directory in directories:
        if directory.st_uid not in owners:
            why = why or f"its directory belongs to uid {directory.st_uid}"
        elif directory.st_mode & _OTHERS and not directory.st_mode & stat.S_ISVTX:
            mode = stat.S_IMODE(directory.st_mode)
            why = why or f"others may replace it in its directory (mode {mode:04o})"
    if why is not None:
        raise Untrusted(f"{name} is not trusted: {why}", hint=hint)


def _kind(mode: int) -> str:
    for is_kind, name in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if is_kind(mode):
            return name
    return "something else"
