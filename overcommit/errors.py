"""Every error this program raises on purpose.

::

    OvercommitError
    ├── UsageError         the operator's input is wrong: a flag, a file, an unknown domain   (exit 64)
    │   └── PolicyError    the policy file; carries every fault with file:line:column
    ├── Refused            we will not: stale plan, foreign owner, another controller         (exit 4)
    │   ├── StalePlan      the world moved since the plan was made
    │   └── Conflict       somebody else owns what we would need
    ├── Unsupported        this host cannot: no DAMON, no libvirt, not root                   (exit 5)
    ├── CutShort           something went wrong after a part was done                         (exit 3)
    └── HostError          the host said no while we worked                                   (exit 1)
        ├── Busy           EBUSY that outlasted our retries
        ├── Unreadable     a text of the kernel's or of libvirt's is not what it should be
        ├── JournalFailed  the undo journal cannot be written, so that nothing may be changed
        ├── Implausible    a guest says of itself what cannot be
        └── Gone           the domain or its process left

The message is one line: lower case, names the object and the value. ``hint`` says what to do next.
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
        """The message as it is shown, a line each; not yet safe for a terminal."""
        return (str(self),)


class UsageError(OvercommitError):
    """The operator's input cannot be used as it is."""

    exit_code = 64


class Complaint(NamedTuple):
    """What is wrong at one place of a policy file; ``line`` and ``column`` count from 1."""

    file: str
    line: int
    column: int
    message: str

    @property
    def place(self) -> str:
        """As editors and compilers write it."""
        return f"{self.file}:{self.line}:{self.column}"

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class PolicyError(UsageError):
    """A policy that does not validate; ``faults`` has all that is wrong, in the order of the files."""

    def __init__(self, faults: tuple[Complaint, ...], *, hint: str | None = None) -> None:
        super().__init__("\n".join(str(fault) for fault in faults), hint=hint)
        self.faults = faults

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each fault."""
        return tuple(map(str, self.faults))


class Refused(OvercommitError):
    """Acting would be unsafe or not ours to do; nothing was changed."""

    exit_code = 4


class StalePlan(Refused):
    """A plan no longer describes this host (safety rule S12)."""


class Conflict(Refused):
    """A resource that we need belongs to somebody else, who is named in the message."""


class Unsupported(OvercommitError):
    """The host lacks something that no retry will bring."""

    exit_code = 5


class CutShort(OvercommitError):
    """What went wrong after a part was done, which was reported."""

    exit_code = 3


class HostError(OvercommitError):
    """The kernel or libvirt refused an operation."""


class Busy(HostError):
    """EBUSY for longer than the operation's deadline."""


class Unreadable(HostError, ValueError):
    """A text of the kernel's or of libvirt's is not what it should be; who reads on leaves a gap."""


class JournalFailed(HostError):
    """The disk does not take an undo record."""


class Implausible(HostError):
    """A guest's own figure is outside of what it can be (rule S8)."""


class Gone(HostError):
    """The domain, or the QEMU process behind it, is no longer there."""


UNCONTAINED = (JournalFailed, MemoryError)
"""What is never one domain's own: without the journal nothing may be changed, and after the other nothing is
sure. What is no `Exception` (a signal, the end of the program) is contained nowhere either."""
_LONGEST = 300


def in_a_line(error: Exception) -> str:
    """What went wrong and, where nobody expected it, at which line: printable, and not long."""
    said = str(error)
    if not isinstance(error, OvercommitError):
        place, trace = "", error.__traceback__
        while trace is not None:
            file = trace.tb_frame.f_code.co_filename.replace("\\", "/").rpartition("/overcommit/")
            place = f" at overcommit/{file[2]}:{trace.tb_lineno}" if file[1] else place
            trace = trace.tb_next
        said = f"unexpected {type(error).__name__}{place}: {said[:_LONGEST]}"
    return "".join(letter if letter.isprintable() else "?" for letter in said)[:_LONGEST]
