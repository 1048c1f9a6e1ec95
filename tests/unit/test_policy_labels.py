"""What a domain's own labels may change, and what becomes of those that may not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from overcommit.model.policy import OVERRIDES, Actuator, GuestHelp, Policy
from overcommit.plan.planner import make_plan
from overcommit.policy import loader, schema
from tests import scenarios

CLASSES = {"gold": {"floor": "90%", "cold_after": "10min", "weight": 4}, "batch": {"floor": "0%"}}
RULES = [{"match": {"name": "db-*"}, "class": "batch"}]


def policy(*allowed: str, **more: Any) -> Policy:
    return scenarios.policy(
        {"host": {"domain_overrides": list(allowed)}, "classes": CLASSES, "domains": RULES, **more}
    )


def test_without_leave_labels_change_nothing() -> None:
    domain = scenarios.domain(labels={"class": "gold", "floor": "0%"})
    plain = policy()
    assert plain.class_of(domain) == plain.classes["standard"]
    assert plain.complaints_of(domain) == (
        "its label class is ignored: the policy does not list it in domain_overrides",
        "its label floor is ignored: the policy does not list it in domain_overrides",
    )


@pytest.mark.parametrize(
    ("key", "text", "field", "value"),
    [
        ("floor", "60%", "floor", 0.6),
        ("floor", "0%", "floor", 0.0),
        ("cold_after", "90s", "cold_after_seconds", 90.0),
        ("cache_after", "2d", "cache_after_seconds", 172800.0),
        ("cache_after", "never", "cache_after_seconds", math.inf),
        ("weight", "2.5", "weight", 2.5),
        ("step", "5%", "step", 0.05),
        ("actuators", "balloon, pageout", "actuators", {Actuator.BALLOON, Actuator.PAGEOUT}),
        ("actuators", "", "actuators", set()),
        ("guest_help", "compaction damon_reclaim", "guest_help", set(GuestHelp)),
    ],
)
def test_a_label_that_is_allowed_changes_one_value(key: str, text: str, field: str, value: object) -> None:
    allowed = policy(key)
    domain = scenarios.domain(labels={key: text})
    of, plain = allowed.class_of(domain), allowed.classes["standard"]
    assert getattr(of, field) == value
    assert {name for name in plain.__slots__ if getattr(of, name) != getattr(plain, name)} == {field}
    assert allowed.complaints_of(domain) == ()


def test_what_a_domain_may_feel_can_be_changed() -> None:
    of = policy("promotions", "psi_some").class_of(
        scenarios.domain(labels={"promotions": "0.05%/min", "psi_some": "3%"})
    )
    assert of.objective.promotions_per_minute == pytest.approx(0.0005)
    assert of.objective.psi_some == 0.03


def test_a_label_goes_before_the_rules_and_values_go_by_the_class_it_names() -> None:
    domain = scenarios.domain("db-1", labels={"floor": "70%", "class": "gold"})
    of = policy("class", "floor").class_of(domain)
    assert (of.name, of.floor, of.weight) == ("gold", 0.7, 4)
    assert policy("floor").class_of(domain).name == "batch"


@pytest.mark.parametrize(
    ("key", "text", "why"),
    [
        ("class", "platinum", "no class 'platinum'"),
        ("class", "", "no class ''"),
        ("class", "go\nld", r"no class 'go\nld'"),
        ("floor", "60", "not a percentage: '60' (write it like 8%)"),
        ("floor", "120%", "must be at most 100%, not 120%"),
        ("floor", "-1%", "not a percentage: '-1%' (write it like 8%)"),
        ("floor", "٥٠%", "not a percentage: '٥٠%' (write it like 8%)"),
        ("floor", "1\n%", r"not a percentage: '1\n%' (write it like 8%)"),
        ("floor", "x" * 101, "longer than 100 characters"),
        ("cache_after", "ever", "not a duration: 'ever' (write it like 90s or 5min), or never"),
        ("cold_after", "0s", "must be more than 0, not 0s"),
        ("cold_after", "11min", "longer than that of any class (10min)"),
        ("weight", "0", "must be a number above 0, at most 1000: '0'"),
        ("weight", "inf", "must be a number above 0, at most 1000: 'inf'"),
        ("step", "0%", "must be more than 0, not 0%"),
        ("promotions", "1%", "must end in /min: '1%'"),
        ("psi_some", "1", "not a percentage: '1' (write it like 8%)"),
        (
            "actuators",
            "balloon,magic",
            "'magic' is not one of free_page_reporting, virtio_mem, balloon, demotion, pageout",
        ),
        ("guest_help", "all", "'all' is not one of compaction, damon_reclaim"),
    ],
)
def test_a_value_that_cannot_be_is_ignored_and_said(key: str, text: str, why: str) -> None:
    allowed = policy(*OVERRIDES)
    domain = scenarios.domain(labels={key: text})
    assert allowed.class_of(domain) == allowed.classes["standard"]
    assert allowed.complaints_of(domain) == (f"its label {key} is ignored: {why}",)


def test_no_label_makes_the_watch_longer_than_the_policy_could() -> None:
    """All domains wait for the one that must be watched longest."""
    allowed = policy("cold_after")
    domain = scenarios.domain(labels={"cold_after": "10min"})
    assert allowed.class_of(domain).cold_after_seconds == 600
    assert allowed.class_of(scenarios.domain(labels={"cold_after": "601s"})).cold_after_seconds == 120


def test_one_label_that_is_wrong_leaves_the_others() -> None:
    of = policy("floor", "step").class_of(scenarios.domain(labels={"floor": "x", "step": "5%"}))
    assert (of.floor, of.step) == (0.25, 0.05)


def test_labels_of_other_purposes_are_nobodys_business() -> None:
    assert policy("class").complaints_of(scenarios.domain(labels={"owner": "ops", "tier": "1"})) == ()


def test_a_label_that_a_rule_asks_for_is_not_reported() -> None:
    rules = [{"match": {"metadata": {"class": "A"}}, "class": "gold"}]
    by_rule = policy(domains=rules)
    domain = scenarios.domain(labels={"class": "A"})
    assert by_rule.class_of(domain).name == "gold"
    assert by_rule.complaints_of(domain) == ()


def test_the_plan_says_which_labels_are_ignored() -> None:
    host = scenarios.host()
    domains = (scenarios.domain("web", labels={"floor": "lots"}), scenarios.domain("db-1"))
    plan = make_plan(scenarios.snapshot(host, *domains), {}, policy("floor"))
    assert plan.notes == ("web: its label floor is ignored: not a percentage: 'lots' (write it like 8%)",)


def test_the_policy_can_list_every_label_that_means_something() -> None:
    assert policy(*OVERRIDES).domain_overrides == frozenset(OVERRIDES)
    listed = schema.HostSection.model_json_schema()["properties"]["domain_overrides"]["items"]["enum"]
    assert tuple(listed) == OVERRIDES


def test_names_of_actuators_and_guest_help_are_the_models() -> None:
    properties = schema.ClassSection.model_json_schema()["properties"]
    assert properties["actuators"]["items"]["enum"] == [actuator.value for actuator in Actuator]
    assert properties["guest_help"]["items"]["enum"] == [way.value for way in GuestHelp]


def test_the_same_text_means_the_same_in_the_policy_and_in_a_label() -> None:
    text = "version: 1\nclasses: {a: {floor: 12.5%, cold_after: 1.5min, step: 3 %}}\ndefault_class: a\n"
    written = loader.parse(text, "p").classes["a"]
    labels = {"floor": "12.5%", "cold_after": "1.5min", "step": "3 %"}
    of = policy("floor", "cold_after", "step").class_of(scenarios.domain(labels=labels))
    assert (of.floor, of.cold_after_seconds, of.step) == (
        written.floor,
        written.cold_after_seconds,
        written.step,
    )
