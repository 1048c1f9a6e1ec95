"""``overcommitctl release``: end a domain's quarantine before its time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from overcommit.cli.daemon_client import find_daemon
from overcommit.cli.session import Session, require_root, with_session
from overcommit.cli.talk import tell
from overcommit.daemon.protocol import Verb
from overcommit.daemon.revoking import release as end_quarantines
from overcommit.daemon.status import quarantine_json


@click.command()
@click.argument("domain")
@with_session
def release(session: Session, domain: str) -> None:
    """Let DOMAIN's balloon and virtio-mem be used again, whatever they did before.

    Its failures until now are forgotten: the next one counts as the first. For root, and where overcommitd is
    at work for the group that it was told.
    """
    released = _release(session, domain)
    if session.json:
        click.echo(json.dumps({"kind": "release", "released": released}, indent=1))
        return
    for quarantine in released:
        tell(f"{domain}: {quarantine['actuator']} may be used again, although {quarantine['reason']}")
    if not released:
        tell(f"{domain} is not in quarantine.")


def _release(session: Session, domain: str) -> Sequence[Mapping[str, Any]]:
    if daemon := find_daemon():
        released: list[dict[str, Any]] = daemon.ask(Verb.RELEASE, {"domain": domain})["released"]
        return released
    require_root()
    return [quarantine_json(quarantine) for quarantine in end_quarantines(session, domain)]
