"""``overcommitctl release``: end a domain's quarantine before its time."""

from __future__ import annotations

import json

import click

from overcommit.cli.session import Session, require_root, with_session
from overcommit.daemon.status import quarantine_json
from overcommit.model.history import RELEASE
from overcommit.model.outcome import Status


@click.command()
@click.argument("domain")
@with_session
def release(session: Session, domain: str) -> None:
    """Let DOMAIN's balloon and virtio-mem be used again, whatever they did before.

    Its failures until now are forgotten: the next one counts as the first.
    """
    require_root()
    found = [q for q in session.past(session.clock.now()).quarantines if q.domain.name == domain]
    for quarantine in found:
        detail = f"not held against it any more: {quarantine.reason}"
        event = session.happened(RELEASE, Status.DONE, detail, about=domain, domain=quarantine.domain)
        session.ledger.record(event)
    if session.json:
        released = [quarantine_json(quarantine) for quarantine in found]
        click.echo(json.dumps({"kind": "release", "released": released}, indent=1))
        return
    for quarantine in found:
        click.echo(f"{domain}: {quarantine.actuator.value} may be used again, although {quarantine.reason}")
    if not found:
        click.echo(f"{domain} is not in quarantine.")
