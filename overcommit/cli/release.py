"""``overcommitctl release``: end a domain's quarantine early."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from overcommit.cli.console import tell
from overcommit.cli.session import Session, require_root, with_session
from overcommit.cli.verb import domain_names, examples
from overcommit.control.naming import names_of
from overcommit.control.revoking import release as end_quarantines
from overcommit.control.status import quarantine_json
from overcommit.errors import OvercommitError
from overcommit.wire.client import Daemon, find_daemon
from overcommit.wire.protocol import Verb


@click.command(epilog=examples("overcommitctl release web"))
@click.argument("domain", shell_complete=domain_names)
@with_session
def release(session: Session, domain: str) -> None:
    """End the quarantine of DOMAIN.

    Its balloon and virtio-mem may be used again. Former failures no longer count: the next one is the
    first. Only root may do this, and the group of overcommitd while the daemon runs.
    """
    daemon = find_daemon()
    released = _release(session, daemon, domain)
    if not released:
        _require_running(session, daemon, domain)
    if session.json:
        click.echo(json.dumps({"kind": "release", "released": released}, indent=1))
        return
    for quarantine in released:
        tell(
            f"{domain}: {quarantine['actuator']} can be used again. It was in quarantine because "
            f"{quarantine['reason']}"
        )
    if not released:
        tell(f"{domain} is not in quarantine.")


def _require_running(session: Session, daemon: Daemon | None, word: str) -> None:
    """Check that the word names a running domain, because it may be misspelled.

    Where libvirt does not list the running domains, every name is accepted.

    Raises:
        UsageError: no running domain has this name.
    """
    if daemon is not None:
        running = {domain["uuid"]: domain["name"] for domain in daemon.ask(Verb.STATUS)["domains"]}
    else:
        try:
            running = {listed.uuid: listed.name for listed in session.hypervisor(read_only=True).domains()}
        except OvercommitError:
            return
    names_of((word,), running)


def _release(session: Session, daemon: Daemon | None, domain: str) -> Sequence[Mapping[str, Any]]:
    if daemon is not None:
        released: list[dict[str, Any]] = daemon.ask(Verb.RELEASE, {"domain": domain})["released"]
        return released
    require_root()
    return [quarantine_json(quarantine) for quarantine in end_quarantines(session, domain)]
