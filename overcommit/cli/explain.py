"""``overcommitctl explain``: what is known of one domain, and why something is or is not done about it."""

from __future__ import annotations

import dataclasses

import click

from overcommit.cli import render
from overcommit.cli.beside_daemon import own_watch, plan_of, refuse_options
from overcommit.cli.console import tell
from overcommit.cli.plan import observe_for_option, take_over_option
from overcommit.cli.planning import observe_and_plan
from overcommit.cli.session import Session, as_argument, with_session
from overcommit.cli.verb import domain_names, examples
from overcommit.commands import OVERCOMMITCTL
from overcommit.control.naming import names_of
from overcommit.control.planning import Scope
from overcommit.display import command
from overcommit.model.action import KsmAction
from overcommit.model.plan import Plan
from overcommit.plan import document
from overcommit.wire.client import find_daemon


@click.command(epilog=examples("overcommitctl explain web"))
@click.argument("domain", shell_complete=domain_names)
@observe_for_option
@take_over_option
@with_session
def explain(session: Session, domain: str, observe_for: float | None, take_over: bool) -> None:
    """Explain how DOMAIN uses its memory and what can be taken.

    It watches DOMAIN, and says why no more can be taken. It changes nothing but the DAMON monitors that it
    starts and stops itself. While overcommitd runs, this prints what the daemon knows of DOMAIN. Every user
    may see it. Nothing is started for it.
    """
    daemon = find_daemon()
    if daemon is None:
        scope = Scope(names=(domain,), observe_for=observe_for)
        made = observe_and_plan(session, "explain", scope, take_over=take_over)
    else:
        given = own_watch(session, observe_for, take_over=take_over)
        refuse_options(daemon, given, command(OVERCOMMITCTL, "explain", *as_argument(domain)))
        made = _about(domain, plan_of(daemon, session))
    if session.json:
        click.echo(document.dumps(made), nl=False)
        return
    for line in render.explain_text(made):
        tell(line)


def _about(word: str, plan: Plan) -> Plan:
    """The part of a host's plan that is about one domain."""
    (name,) = names_of((word,), {domain.incarnation.uuid: domain.incarnation.name for domain in plan.domains})
    return dataclasses.replace(
        plan,
        domains=tuple(domain for domain in plan.domains if domain.incarnation.name == name),
        actions=tuple(a for a in plan.actions if not isinstance(a, KsmAction) and a.domain.name == name),
        drift=tuple(drift for drift in plan.drift if drift.domain.name == name),
    )
