"""What ``apply --json`` tells programs while it works."""

from __future__ import annotations

import json

import pytest

from overcommit.cli.doing import _JsonTeller
from overcommit.model.outcome import Controller, Outcome, Status
from overcommit.plan.planner import make_plan
from overcommit.units import MIB
from tests import scenarios


@pytest.mark.parametrize(
    ("controller", "word"), [(Controller.OWN, "own"), (Controller.DAMON_GOAL, "damon-goal"), (None, None)]
)
@pytest.mark.parametrize(("status", "kind"), [(Status.DONE, "done"), (Status.PARTIAL, "failed")])
def test_the_end_of_an_action_says_who_kept_its_pace(
    controller: Controller | None,
    word: str | None,
    status: Status,
    kind: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = scenarios.domain(balloon=scenarios.guest_says(600 * MIB))
    (action,) = make_plan(scenarios.snapshot(scenarios.host(), facts), {}, scenarios.policy()).actions
    teller = _JsonTeller()
    teller.finished(
        Outcome(
            action=action,
            status=status,
            freed_bytes=3 * MIB,
            promoted_pages=7,
            seconds=1.5,
            detail="as it went",
            controller=controller,
        )
    )
    line = json.loads(capsys.readouterr().out)
    assert (line["type"], line["domain"], line["controller"]) == (kind, "web", word)
    assert (line["freed_bytes"], line["promoted_pages"], line["seconds"]) == (3 * MIB, 7, 1.5)


def test_what_is_done_to_the_host_is_of_no_domain(capsys: pytest.CaptureFixture[str]) -> None:
    host, policy = scenarios.host(ksm=scenarios.ksm()), scenarios.policy({"host": {"ksm": True}})
    two = (scenarios.domain("a"), scenarios.domain("host"))
    (action,) = make_plan(scenarios.snapshot(host, *two), {}, policy).actions
    teller = _JsonTeller()
    teller.started(action)
    teller.progress(action, "saved 1.0 MiB")
    for line in map(json.loads, capsys.readouterr().out.splitlines()):
        assert (line["domain"], line["kind"]) == (None, "ksm")
