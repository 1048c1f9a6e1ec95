"""``overcommitctl explain``: what is known of one domain, and why something is or is not done about it."""

from __future__ import annotations

import click

from overcommit.cli import render
from overcommit.cli.plan import observe_for_option, take_over_option
from overcommit.cli.planning import plan_now
from overcommit.cli.session import Session, require_root, with_session
from overcommit.plan import document


@click.command()
@click.argument("domain")
@observe_for_option
@take_over_option
@with_session
def explain(session: Session, domain: str, observe_for: float | None, take_over: bool) -> None:
    """Watch one DOMAIN, and say how its memory is used, what could be taken back, and what stands in the way.

    Changes nothing but the DAMON monitors that it starts and stops itself.
    """
    policy = session.policy()
    require_root()
    session.require_damon(take_over=take_over)
    hypervisor = session.hypervisor(read_only=True)
    with session.generation("explain") as generation:
        made = plan_now(
            session,
            hypervisor,
            generation,
            policy,
            names=(domain,),
            observe_for=observe_for,
            take_over=take_over,
        )
    if session.json:
        click.echo(document.dumps(made), nl=False)
        return
    for line in render.explain_text(made):
        click.echo(line)
