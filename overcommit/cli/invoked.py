"""How this run of ``overcommitctl`` was called, for the commands that it prints; kept in click's context."""

from __future__ import annotations

import click

from overcommit.commands import Invocation

_KEY = "overcommit.invocation"


def invoked(invocation: Invocation) -> None:
    """From now on commands are printed so; ``Invocation()``: as the daemon has them, not the operator."""
    click.get_current_context().meta[_KEY] = invocation


def completed(text: str) -> str:
    """The text with its commands as the operator has to type them; see `Invocation.complete`."""
    context = click.get_current_context(silent=True)
    invocation = context.meta.get(_KEY) if context is not None else None
    return text if invocation is None else str(invocation.complete(text))
