"""Why a domain gives nothing: that it is true, and that it is read at a glance."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from overcommit.cli import render
from overcommit.cli.tables import plain_lines
from overcommit.model.facts import DomainFacts
from overcommit.model.plan import Cause, DomainPlan, Plan, Reason
from overcommit.model.policy import Actuator
from overcommit.plan import document, planner
from overcommit.plan.arbiter import Candidate
from overcommit.plan.obstacles import obstacles_of
from overcommit.plan.reasons import IN_GENERAL, Sharing, reasons
from overcommit.units import GIB, format_duration
from tests import scenarios
from tests.plan import situation

CASES = Path(__file__).parents[1] / "plan" / "cases"


@pytest.fixture
def considered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Candidate, Sharing]]:
    """What reasons were asked of while plans were made."""
    asked: list[tuple[Candidate, Sharing]] = []

    def asking(candidate: Candidate, sharing: Sharing) -> Iterator[Reason]:
        asked.append((candidate, sharing))
        return reasons(candidate, sharing)

    monkeypatch.setattr(planner, "reasons", asking)
    return asked


def causes(candidate: Candidate, sharing: Sharing, **other: object) -> dict[Actuator, Cause]:
    """Of the same domain, where something is other."""
    domain: DomainFacts = dataclasses.replace(candidate.case.domain, **other)  # type: ignore[arg-type]
    changed = candidate._replace(case=candidate.case._replace(domain=domain))
    return {reason.actuator: reason.cause for reason in reasons(changed, sharing)}


def test_what_cannot_be_read_or_paged_out_is_called_that(
    considered: list[tuple[Candidate, Sharing]],
) -> None:
    assert situation.read(CASES / "gives-nothing-shared.yaml").plan.domains
    ((candidate, sharing),) = considered
    assert causes(candidate, sharing)[Actuator.PAGEOUT] is Cause.SHARED
    assert causes(candidate, sharing, balloon=None)[Actuator.BALLOON] is Cause.NOT_READ
    assert set(causes(candidate, sharing, residency=None).values()) == {Cause.NOT_READ}
    assert causes(candidate, sharing, blocks=())[Actuator.PAGEOUT] is Cause.NOT_PAGEABLE


def many(plan: Plan, count: int) -> Plan:
    """The same with so many domains of its first one's kind."""
    first = plan.domains[0]
    names = (f"guest-{number:02}" for number in range(count))
    domains = [
        dataclasses.replace(first, incarnation=dataclasses.replace(first.incarnation, name=name, uuid=name))
        for name in names
    ]
    return dataclasses.replace(plan, domains=tuple(domains))


def test_few_have_a_line_each_and_forty_have_one_together() -> None:
    plan = situation.read(CASES / "gives-nothing-shared.yaml").plan
    (reason, *_) = plan.domains[0].gives_nothing
    few = list(plain_lines(render.gives_nothing(many(plan, 3).domains)))
    assert [line.split(" gives nothing: ")[0] for line in few] == ["  guest-00", "  guest-01", "  guest-02"]
    assert all(reason.text in line for line in few)
    (line,) = plain_lines(render.gives_nothing(many(plan, 40).domains))
    assert "guest-03 and 36 more give nothing (explain says why): " in line
    assert f"{reason.actuator.value}: {IN_GENERAL[reason.cause]}" in line


def test_each_cause_can_be_said_of_several() -> None:
    assert set(IN_GENERAL) == set(Cause)


def test_explain_says_it_of_each_way() -> None:
    plan = situation.read(CASES / "gives-nothing-shared.yaml").plan
    text = "\n".join(plain_lines(render.explain_text(plan)))
    for reason in plan.domains[0].gives_nothing:
        assert f"  {reason.actuator.value}: can be used, takes nothing now: {reason.text}" in text


def test_an_obstacle_of_who_waits_for_memory_is_that_reason() -> None:
    plan = situation.read(CASES / "gives-nothing-shared.yaml").plan
    obstacle = next(obstacles_of(plan))
    assert all(reason.text in obstacle for reason in plan.domains[0].gives_nothing)


def test_a_document_has_it_with_a_code_and_older_ones_need_not() -> None:
    plan = situation.read(CASES / "gives-nothing-shared.yaml").plan
    data = document.to_document(plan)
    found = data["domains"][0]["gives_nothing"]
    assert [each["code"] for each in found] == [r.cause.value for r in plan.domains[0].gives_nothing]
    assert document.loads(document.dumps(plan), "plan.json") == plan
    del data["domains"][0]["gives_nothing"]
    read: DomainPlan = document._domain_from_json(data["domains"][0])
    assert read.gives_nothing == ()


@pytest.mark.parametrize(
    ("cold_after", "said"),
    [
        (120.0, "its class calls memory cold after 2min"),
        (
            240.0,
            "it is throttled (class: 2min), which calls memory cold after 4min",
        ),
    ],
    ids=["by its class", "throttled"],
)
def test_a_watch_that_is_too_short_is_held_against_what_counts_now(cold_after: float, said: str) -> None:
    """After pain a domain is throttled: its memory is cold later than its class says."""
    policy = scenarios.policy()
    web = scenarios.domain("web")
    short = scenarios.heat(web, [(0.0, GIB)], watched=60.0, policy=policy)
    heat = dataclasses.replace(short, cold_after_seconds=cold_after)
    plan = planner.make_plan(scenarios.snapshot(scenarios.host(), web), {web.incarnation.uuid: heat}, policy)
    assert [note for note in plan.notes if "watched for" in note] == [
        f"web: watched for 1min, but {said}: no page-out"
    ]
    (told,) = (r.text for d in plan.domains for r in d.gives_nothing if r.actuator is Actuator.PAGEOUT)
    assert told == f"it was watched for 1min; memory is cold after {format_duration(cold_after)}"
