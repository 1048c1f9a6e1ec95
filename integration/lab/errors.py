"""What can go wrong in the lab, in words a user can act upon."""

from __future__ import annotations


class LabError(Exception):
    """A failure with a one-line reason and, where one is known, what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class HostVmDiedError(LabError):
    """The host VM is gone; carries the last lines of its console."""

    def __init__(self, name: str, console: str) -> None:
        super().__init__(f"host VM {name!r} died", f"see the console: {console}" if console else "")
        self.console = console


class LabTimeoutError(LabError):
    """Something did not happen in the time it was given."""
