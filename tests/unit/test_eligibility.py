"""What stands against an actuator, and what would change that."""

from __future__ import annotations

from overcommit.model.policy import Actuator
from overcommit.plan.eligibility import judge
from tests import scenarios


def test_no_way_out_is_named_for_what_could_not_be_read() -> None:
    """The reason says why; no option of ours shows more."""
    unread = scenarios.domain("web", gaps={"residency": "Permission denied"})
    verdict = judge(unread, scenarios.host(), frozenset(Actuator))[Actuator.PAGEOUT]
    assert (verdict.reason, verdict.hint) == ("cannot read its residency: Permission denied", "")


def test_reporting_that_is_off_is_switched_on_by_what_can_be_pasted() -> None:
    plain = scenarios.domain("-web", free_page_reporting=False)
    verdict = judge(plain, scenarios.host(), frozenset(Actuator))[Actuator.FREE_PAGE_REPORTING]
    assert verdict.hint.startswith(f"overcommitctl prepare {plain.incarnation.uuid} --apply, then")
