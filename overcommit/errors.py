"""All errors that this program raises on purpose.

::

    OvercommitError
    ├── UsageError         invalid input of the operator: a flag, a file, an unknown domain   (exit 64)
    │   └── PolicyError    an invalid policy file; has every fault with file:line:column
    ├── Refused            the program refuses: stale plan, foreign owner, other controller   (exit 4)
    │   ├── StalePlan      the host changed since the plan was made
    │   └── Conflict       somebody else owns a resource that is needed
    ├── Unsupported        the host cannot: no DAMON, no libvirt, not root                    (exit 5)
    ├── CutShort           something failed after a part was done                             (exit 3)
    └── HostError          the kernel or libvirt refused an operation                         (exit 1)
        ├── Busy           EBUSY for longer than the retries
        ├── Unreadable     a text of the kernel or of libvirt is malformed
        ├── JournalFailed  the undo journal cannot be written, so nothing may be changed
        ├── Implausible    a guest reports an impossible figure about itself
        └── Gone           the domain or its process has ended

The message is one line: lower case, with the object and the value. ``hint`` says what to do next.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple


class OvercommitError(Exception):
    """Root of all errors that are reported as one line plus a hint, without a traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    @property
    def lines(self) -> tuple[str, ...]:
        """The message as it is shown, one item per line. It is not escaped for a terminal yet."""
        return (str(self),)


class UsageError(OvercommitError):
    """The operator's input is invalid."""

    exit_code = 64


class Complaint(NamedTuple):
    """A fault at one place of a policy file. ``line`` and ``column`` count from 1."""

    file: str
    line: int
    column: int
    message: str

    @property
    def place(self) -> str:
        """``file:line:column``, as compilers write it."""
        return f"{self.file}:{self.line}:{self.column}"

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class PolicyError(UsageError):
    """An invalid policy. ``faults`` has all faults, in the order of the files."""

    def __init__(self, faults: tuple[Complaint, ...], *, hint: str | None = None) -> None:
        super().__init__("\n".join(str(fault) for fault in faults), hint=hint)
        self.faults = faults

    @property
    def lines(self) -> tuple[str, ...]:
        """One line per fault."""
        return tuple(map(str, self.faults))


class Refused(OvercommitError):
    """Acting would be unsafe, or the resource is not this program's. Nothing was changed."""

    exit_code = 4


class StalePlan(Refused):
    """The plan no longer describes this host (safety rule S12)."""


class Conflict(Refused):
    """A resource that is needed belongs to somebody else, named in the message."""


class Unsupported(OvercommitError):
    """The host lacks something that a retry does not bring."""

    exit_code = 5


class CutShort(OvercommitError):
    """Something failed after a part was done. That part was reported."""

    exit_code = 3


class HostError(OvercommitError):
    """The kernel or libvirt refused an operation."""


class Busy(HostError):
    """EBUSY for longer than the operation's deadline."""


class Unreadable(HostError, ValueError):
    """A text of the kernel or of libvirt is malformed. The caller records a gap."""


class JournalFailed(HostError):
    """The disk does not accept an undo record."""


class Implausible(HostError):
    """A guest's figure about itself is outside of its possible range (rule S8)."""


class Gone(HostError):
    """The domain, or its QEMU process, no longer exists."""


UNCONTAINED = (JournalFailed, MemoryError)
"""Errors that are never contained in one domain: without the journal nothing may be changed, and after a
MemoryError the program's state is uncertain. What is not an `Exception` (a signal, the end of the program) is
not contained either.
"""
_LONGEST = 300


def in_a_line(error: Exception) -> str:
    """An error in one printable line of bounded length, with its place in the code if it is unexpected."""
    said = str(error)
    if not isinstance(error, OvercommitError):
        place, trace = "", error.__traceback__
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename.replace("\\", "/").rpartition("/overcommit/")
            place = f" at overcommit/{file[2]}:{trace.tb_lineno}" if file[1] else place
            trace = trace.tb_next
        said = f"unexpected {type(error).__name__}{place}: {said[:_LONGEST]}"
    return "".join(letter if letter.isprintable() else "?" for letter in said)[:_LONGEST]
