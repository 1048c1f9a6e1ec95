"""DAMON's sysfs tree: reads, writes, commands, and the retries that its global lock requires.

All access to ``state`` and ``nr_*`` is under one ``mutex_trylock`` (mm/damon/sysfs.c). EBUSY means that
somebody, this program included, is inside a command. It is retried until a deadline.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from overcommit.damon import codec
from overcommit.damon.capabilities import COUNTERS, KEYWORDS, Capabilities, template
from overcommit.damon.tree import REGION_FIELDS, Context, Kdamond, parse_regions
from overcommit.errors import Busy, Conflict, HostError, Unsupported
from overcommit.host.kernel import Kernel
from overcommit.model.heat import AccessRegion

ROOT = "/sys/kernel/mm/damon/admin/kdamonds"
_BUSY_DEADLINE_SECONDS = 20.0
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.02, 1.0
MARK = "contexts/0/monitoring_attrs/intervals/update_us"
"""The file of a slot that carries the mark of its user, in microseconds. Only ``vaddr`` uses this interval,
and a few tenths of a second make no difference to it (Documentation/admin-guide/mm/damon/usage.rst,
monitoring_attrs).
"""
UNMARKED = 60_000_000
"""The value of that file in a new context."""
# Read-only files and those that are commands or results, not configuration.
_BEHIND_THE_LOCK = frozenset({"state", "pid"})
_NOT_CONFIGURATION = _BEHIND_THE_LOCK | {"avail_operations", "effective_bytes", "tried_regions"}
# All of a scheme's statistics are results, but for the one that others may have set.
_STATISTICS, _SETTING_AMONG_THEM = "/stats/", "/max_nr_snapshots"
_ADDRESSES = frozenset({"start", "end"})

_T = TypeVar("_T")
_wait = time.sleep


@dataclass
class _BusyDeadline:
    """The seconds that may still be spent on waiting."""

    left: float


_BUSY_DEADLINE: ContextVar[_BusyDeadline | None] = ContextVar("busy_deadline", default=None)


@contextlib.contextmanager
def busy_deadline_of(seconds: float) -> Iterator[None]:
    """Within it, all waits for DAMON's lock together last at most ``seconds``; after that they fail at once.

    For a caller that has other work meanwhile, and tries again later.
    """
    token = _BUSY_DEADLINE.set(_BusyDeadline(seconds))
    try:
        yield
    finally:
        _BUSY_DEADLINE.reset(token)


def _depth(path: str) -> int:
    return path.count("/")


def _shown(name: str, value: str) -> str:
    """A value as messages show it. Messages are public, and QEMU's addresses must not be."""
    return "an address" if name.rpartition("/")[2] in _ADDRESSES else repr(value)


def _set_up_anew() -> Conflict:
    """The error for a slot that has vanished. Only a write of ``nr_kdamonds`` removes a slot."""
    return Conflict(
        "another tool has reconfigured DAMON: a kdamond slot is gone",
        hint="to see who uses DAMON now: overcommitctl doctor",
    )


class DamonSysfs:
    """The tree, through a `Kernel`.

    Raises (all reads and writes below a slot):
        Conflict: the slot is gone, because another tool set DAMON up anew.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def slots(self) -> int:
        """The number of kdamond slots.

        Raises:
            Unsupported: the kernel has no DAMON sysfs, or it may not be read.
        """
        try:
            return int(self._retry(lambda: self._kernel.read(f"{ROOT}/nr_kdamonds")))
        except FileNotFoundError as error:
            raise Unsupported(
                "this kernel has no DAMON sysfs interface",
                hint="boot a kernel with CONFIG_DAMON_SYSFS and CONFIG_DAMON_VADDR (Debian 13 has both)",
            ) from error
        except PermissionError as error:
            raise Unsupported("DAMON's sysfs is readable by root only", hint="run as root") from error

    def set_slots(self, count: int) -> None:
        """Create ``count`` slots, which removes all existing ones.

        Raises:
            Busy: a kdamond is running (the kernel refuses), or the tree stayed locked.
        """
        self._write(f"{ROOT}/nr_kdamonds", str(count))

    def running(self, slot: int) -> bool:
        """Whether the slot's kdamond is on."""
        return self._read(f"{ROOT}/{slot}/state").strip() == "on"

    def kdamond_pid(self, slot: int) -> int:
        """The thread id of the slot's kdamond; -1: off."""
        return int(self._read(f"{ROOT}/{slot}/pid"))

    def operations(self, slot: int) -> str:
        """The operations set of the slot's context; empty: no context."""
        path = f"{ROOT}/{slot}/contexts/0/operations"
        return self._read(path).strip() if self._kernel.exists(path) else ""

    def target_pids(self, slot: int) -> tuple[int, ...]:
        """The pids of the slot's targets."""
        directory = f"{ROOT}/{slot}/contexts/0/targets"
        if not self._kernel.exists(directory):
            return ()
        names = [name for name in self._kernel.list(directory) if name.isdecimal()]
        return tuple(int(self._read(f"{directory}/{name}/pid_target")) for name in names)

    def kdamond(self, slot: int) -> Kdamond:
        """The slot's configuration."""
        return codec.parse(Kdamond, self._configuration(f"{ROOT}/{slot}"))

    def configure(
        self, slot: int, kdamond: Kdamond, capabilities: Capabilities, *, present: Kdamond | None = None
    ) -> None:
        """Configure the slot with as few writes as possible. It takes effect with ``on`` or ``commit``.

        ``present`` is the slot's configuration where it is known. To read it takes thousands of files.

        Raises:
            Unsupported: this kernel lacks something in the configuration.
        """
        writes = codec.difference(present or self.kdamond(slot), kdamond)
        self._write_all(f"{ROOT}/{slot}", tuple(capabilities.require(writes)))

    def mark(self, slots: Sequence[int], value: int) -> None:
        """Give each of these slots, which are off, a context with that mark and nothing else."""
        for slot in slots:
            writes = (codec.Write("contexts/nr_contexts", "1"), codec.Write(MARK, str(value)))
            self._write_all(f"{ROOT}/{slot}", writes)

    def marks(self, slots: Sequence[int]) -> tuple[int | None, ...]:
        """The marks of these slots; None for a slot that does not exist, or has no context."""
        try:
            return tuple(map(int, self._kernel.read_all(ROOT, [f"{slot}/{MARK}" for slot in slots])))
        except FileNotFoundError:  # of one of them; then each by itself
            return tuple(self._mark_of(slot) for slot in slots)

    def _mark_of(self, slot: int) -> int | None:
        try:
            return int(self._kernel.read(f"{ROOT}/{slot}/{MARK}"))
        except FileNotFoundError:
            return None

    def blank(self, slot: int) -> bool:
        """Whether the slot is unconfigured: it has no context, or one with the kernel's defaults."""
        return self.kdamond(slot) in {Kdamond(), Kdamond(contexts=(Context(),))}

    def command(self, slot: int, keyword: str) -> None:
        """Write a keyword to ``state``.

        Raises:
            Busy: an exclusive DAMON user runs, or the tree stayed locked.
            HostError: the kernel refused. EINVAL for ``on`` means that a target is gone or a range is
                invalid.
        """
        self._write(f"{ROOT}/{slot}/state", keyword)

    def stop(self, slot: int) -> None:
        """Turn the slot off. It may be off already, or end by itself meanwhile."""
        if self.running(slot):
            try:
                self.command(slot, "off")
            except HostError:
                if self.running(slot):
                    raise

    def probe(self, slot: int, *, mark: int = UNMARKED) -> Capabilities:
        """Find out in a slot of this program what the kernel offers. The slot is off, and empty on return.

        It carries the mark meanwhile.
        """
        base = f"{ROOT}/{slot}"
        self.mark((slot,), mark)
        for counter in COUNTERS[1:]:
            if self._kernel.exists(f"{base}/{counter}"):
                self._write(f"{base}/{counter}", "1")
        contents = self._read_tree(base, _BEHIND_THE_LOCK)
        files = frozenset(template(path) for path in contents)
        keywords = {
            path: self._taken(base, path, words)
            for path, words in KEYWORDS.items()
            if template(path) in files
        }
        operations = frozenset(contents["contexts/0/avail_operations"].split())
        self._write(f"{base}/contexts/nr_contexts", "0")
        return Capabilities(operations=operations, files=files, keywords=keywords)

    def _taken(self, base: str, path: str, words: tuple[str, ...]) -> frozenset[str]:
        """The words that a file accepts."""
        errors = self._kernel.write_all(base, [(path, word) for word in words], go_on=True)
        for error in set(errors) - {0, errno.EINVAL}:
            raise OSError(error, os.strerror(error), f"{base}/{path}")
        return frozenset(word for word, error in zip(words, errors, strict=True) if not error)

    def access_snapshot(self, slot: int) -> tuple[AccessRegion, ...]:
        """The present regions of the slot's first scheme.

        Raises:
            HostError: the kdamond ended (its targets are gone) or the kernel refused.
            Conflict: the slot is gone.
        """
        self.command(slot, "update_schemes_tried_regions")
        directory = f"{ROOT}/{slot}/contexts/0/schemes/0/tried_regions"
        try:
            names = [
                f"{index}/{field}"
                for index in self._kernel.list(directory)
                if index.isdecimal()
                for field in REGION_FIELDS
            ]
            # Regions' files take no lock: no retry is needed, and there are thousands of them.
            contents = self._kernel.read_all(directory, names)
        except FileNotFoundError as error:
            raise _set_up_anew() from error
        return parse_regions(dict(zip(names, contents, strict=True)))

    def dump(self) -> dict[str, str]:
        """The whole configuration by path relative to `ROOT`, for `load`."""
        return self._configuration(ROOT)

    def load(self, configuration: Mapping[str, str]) -> None:
        """Write a whole configuration back. No kdamond may be on.

        It goes level by level, because counts (``nr_*``) create the directories below them.
        """
        self.set_slots(int(configuration.get("nr_kdamonds", "0")))
        for _, level in itertools.groupby(sorted(configuration, key=_depth), key=_depth):
            present = self.dump()
            writes = [
                codec.Write(path, configuration[path].strip())
                for path in level
                if present.get(path) != configuration[path]
            ]
            self._write_all(ROOT, writes)

    def _configuration(self, directory: str) -> dict[str, str]:
        """The configuration below a directory, by path relative to it."""
        contents = self._read_tree(directory, _NOT_CONFIGURATION)
        return {
            path: content
            for path, content in contents.items()
            if _STATISTICS not in path or path.endswith(_SETTING_AMONG_THEM)
        }

    def _read_tree(self, directory: str, leave_out: frozenset[str]) -> dict[str, str]:
        try:
            return self._retry(lambda: self._kernel.read_tree(directory, leave_out))
        except FileNotFoundError as error:
            raise _set_up_anew() from error
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise Busy(f"DAMON stayed busy: reading {directory.removeprefix(ROOT + '/')}") from error
            raise

    def _write_all(self, directory: str, writes: Sequence[codec.Write]) -> None:
        """Make the writes in order, with as few round trips as possible."""
        left = writes
        while left:
            errors = self._kernel.write_all(directory, left, go_on=False)
            if not errors[-1]:
                return
            path, value = left[len(errors) - 1]
            self._write(f"{directory}/{path}", value)  # tries again, and knows what to say
            left = left[len(errors) :]

    def _read(self, path: str) -> str:
        try:
            return self._retry(lambda: self._kernel.read(path))
        except FileNotFoundError as error:
            raise _set_up_anew() from error
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise Busy(f"DAMON stayed busy: reading {path.removeprefix(ROOT + '/')}") from error
            raise

    def _write(self, path: str, value: str) -> None:
        name = path.removeprefix(ROOT + "/")
        try:
            self._retry(lambda: self._kernel.write(path, value))
        except FileNotFoundError as error:
            raise _set_up_anew() from error
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise Busy(
                    f"DAMON stayed busy: writing {_shown(name, value)} to {name}",
                    hint="to see who uses DAMON: overcommitctl doctor",
                ) from error
            refused = f"the kernel refused {_shown(name, value)} for DAMON's {name}"
            raise HostError(f"{refused}: {error.strerror}") from error

    def _retry(self, call: Callable[[], _T]) -> _T:
        patience = _BUSY_DEADLINE.get() or _BusyDeadline(_BUSY_DEADLINE_SECONDS)
        pause = _SHORTEST_PAUSE_SECONDS
        while True:
            try:
                return call()
            except OSError as error:
                if error.errno != errno.EBUSY or patience.left <= 0:
                    raise
            pause = min(pause, patience.left)
            patience.left -= pause
            _wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
