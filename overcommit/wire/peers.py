"""Identifies the client of the control socket, and decides whether it may give orders."""

from __future__ import annotations

import contextlib
import enum
import grp
import socket
import struct
from typing import NamedTuple

from overcommit.display import command
from overcommit.errors import UsageError

DEFAULT_GROUP = "overcommit"
_SO_PEERGROUPS = 59
_CREDENTIALS = struct.Struct("=iII")
_GROUP_ID = struct.Struct("=I")
_MOST_GROUPS = 256


class Group(NamedTuple):
    """The group whose members may give orders."""

    name: str
    gid: int


def find_group(name: str | None) -> Group | None:
    """The group with that name; without a name the default one, if this host has it.

    Raises:
        UsageError: no group has this name.
    """
    try:
        return Group(name or DEFAULT_GROUP, grp.getgrnam(name or DEFAULT_GROUP).gr_gid)
    except KeyError as error:
        if name is None:
            return None
        raise UsageError(
            f"no group {name!r} on this host", hint=command("groupadd", "--system", name)
        ) from error


class Rank(enum.Enum):
    """A client's privileges."""

    ROOT = "root"
    MEMBER = "member"
    """A member of the group that may give orders, like root."""
    READER = "reader"


class Peer(NamedTuple):
    """A process, as the kernel knew it when it connected."""

    pid: int
    uid: int
    gids: frozenset[int]

    def rank(self, group: Group | None) -> Rank:
        """Whether it is root's, of a group member, or of another user."""
        if self.uid == 0:
            return Rank.ROOT
        return Rank.MEMBER if group is not None and group.gid in self.gids else Rank.READER

    def may_order(self, group: Group | None) -> bool:
        """Whether it is root's, or of a group member."""
        return self.rank(group) is not Rank.READER


def peer_of(connection: socket.socket) -> Peer:
    """The connected process, with all of its groups.

    Raises:
        OSError: the connection is gone.
    """
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    more = b""
    with contextlib.suppress(OSError):  # in more groups than fit: only its first one counts
        more = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUP_ID.size * _MOST_GROUPS)
    return Peer(pid, uid, frozenset({gid, *(group for (group,) in _GROUP_ID.iter_unpack(more))}))
