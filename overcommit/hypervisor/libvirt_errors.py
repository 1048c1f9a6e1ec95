"""What libvirt's errors mean."""

from __future__ import annotations

from typing import Any

from overcommit.errors import Gone, HostError


def translated(libvirt: Any, doing: str, error: Any) -> HostError:
    """The error of this program for one of libvirt's, which came of ``doing`` something.

    Returns:
        `Gone` where the domain does not run or is not there, else a `HostError`.
    """
    said = error.get_error_message() or ""
    message = f"libvirt could not {doing}: {said}"
    gone = (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID)
    if error.get_error_code() in gone and "balloon" not in said and "agent" not in said:
        return Gone(message)
    return HostError(message)
