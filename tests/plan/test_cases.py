"""Each file in ``cases/`` is a situation and its plan; together they document the planner."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from overcommit.model.action import BalloonAction, DemotionAction, KsmAction
from overcommit.model.plan import Cause
from overcommit.model.policy import Actuator
from overcommit.plan import eligibility, immovable, vetoes
from tests.hosts import situation as hosts
from tests.plan import situation

HOSTS = sorted((Path(__file__).parent.parent / "hosts").glob("cases/*.yaml"))
REPORTING = Actuator.FREE_PAGE_REPORTING
CASES = sorted(Path(__file__).parent.glob("cases/*.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_plan(path: Path, request: pytest.FixtureRequest) -> None:
    case = situation.read(path)
    found = situation.outcome(case.plan)
    if request.config.getoption("--update-golden", default=False):
        situation.write(path, found)
    assert found == situation.read(path).expected, f"{case.title}: if that is right, pass --update-golden"


def test_titles_are_sentences_and_different() -> None:
    titles = [situation.read(path).title for path in CASES]
    assert len(set(titles)) == len(titles) >= 30
    assert all(title[0].isupper() and not title.endswith(".") for title in titles)


def objections() -> set[str]:
    """What can be said against an actuator, up to the first part that varies."""
    calls = [
        node
        for module in (eligibility, immovable, vetoes)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "refusal"
    ]
    texts = [
        call.args[0].values[0] if isinstance(call.args[0], ast.JoinedStr) else call.args[0] for call in calls
    ]
    return {text.value for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str)}


def test_every_objection_has_a_case() -> None:
    known = objections()
    plans = [situation.read(path).plan for path in CASES] + [hosts.read(path).plan for path in HOSTS]
    domains = [domain for plan in plans for domain in plan.domains]
    verdicts = [v for d in domains for v in (*d.eligible.values(), *d.guest_help.values())]
    said = {v.reason for v in verdicts if not v.ok}
    shown = {max((o for o in known if reason.startswith(o)), key=len) for reason in said}
    assert len(known) >= 15
    assert known - shown == set()


def test_every_reason_to_give_nothing_has_a_case() -> None:
    """But for two that no situation in these words leads to (tests/unit/test_reasons.py has them)."""
    plans = [situation.read(path).plan for path in CASES] + [hosts.read(path).plan for path in HOSTS]
    shown = {reason.cause for plan in plans for domain in plan.domains for reason in domain.gives_nothing}
    assert set(Cause) - shown == {Cause.NOT_READ, Cause.NOT_PAGEABLE}


def test_only_who_is_left_alone_has_reasons_and_one_for_each_way() -> None:
    for plan in (situation.read(path).plan for path in CASES):
        acted_on = {action.domain for action in plan.actions if not isinstance(action, KsmAction)}
        for domain in plan.domains:
            usable = [way for way, verdict in domain.eligible.items() if verdict.ok]
            ways = [] if domain.incarnation in acted_on else [way for way in usable if way is not REPORTING]
            assert [reason.actuator for reason in domain.gives_nothing] == ways


@pytest.mark.parametrize("what", ["balloon", "guest RAM", "residency", "job state", "placement"])
def test_every_gap_that_an_action_depends_on_has_a_case(what: str) -> None:
    plans = [situation.read(path).plan for path in CASES]
    gapped = [p for p in plans if any(g.what == what for d in p.domains for g in d.gaps)]
    assert gapped
    needed_by = {"balloon": BalloonAction, "placement": DemotionAction}.get(what, object)
    assert not any(isinstance(action, needed_by) for plan in gapped for action in plan.runnable)
