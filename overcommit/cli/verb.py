"""What all verbs share: examples in their help, and completion of domain names."""

from __future__ import annotations

import contextlib

import click
from click.shell_completion import CompletionItem

from overcommit.commands import DEFAULT_URI
from overcommit.errors import OvercommitError
from overcommit.hypervisor.libvirt_client import LibvirtClient


def examples(*commands: str) -> str:
    """The end of a verb's help: commands that can be pasted, one per line, not wrapped.

    Each is as typed, without a prompt. ``# ...`` behind it may say what it does.
    """
    return "\b\n" + "\n".join(("Examples:", *(f"  {each}" for each in commands)))


def domain_names(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """The defined domains whose names begin with the word; none where libvirt does not answer."""
    with contextlib.suppress(OvercommitError):
        client = LibvirtClient(context.params.get("connect") or DEFAULT_URI, read_only=True)
        with contextlib.closing(client):
            return [CompletionItem(d.name) for d in client.defined_domains() if d.name.startswith(begun)]
    return []
