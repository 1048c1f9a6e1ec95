"""``overcommitctl explain``: what is known of one domain, and why something is or is not done about it."""

from __future__ import annotations

import click

from overcommit.cli import render
from overcommit.cli.plan import observe_for_option, take_over_option
from overcommit.cli.planning import look_and_plan
from overcommit.cli.session import Session, with_session
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
    made = look_and_plan(session, "explain", names=(domain,), observe_for=observe_for, take_over=take_over)
    if session.json:
        click.echo(document.dumps(made), nl=False)
        return
    for line in render.explain_text(made):
        click.echo(line)
