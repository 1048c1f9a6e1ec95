"""The alerts: they fire when they should, by promtool, and each has a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from overcommit.exporter import catalogue
from overcommit.exporter.catalogue import Kind
from tests.exporter.prometheus import program

CHECKOUT = Path(__file__).parents[2]
FOLDER = CHECKOUT / "contrib" / "prometheus"
RULES = FOLDER / "overcommit.rules.yaml"
TESTS = sorted((FOLDER / "tests").glob("*.yaml"))


def rules() -> list[dict[str, Any]]:
    document = yaml.safe_load(RULES.read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def exposed_names() -> set[str]:
    names = set()
    for each in catalogue.ALL:
        suffixes = {Kind.SUMMARY: ("_sum", "_count"), Kind.GAUGE_HISTOGRAM: ("_bucket",)}
        names |= {each.exposed + suffix for suffix in suffixes.get(each.kind, ("",))}
    return names


@pytest.mark.parametrize(
    "arguments", [["check", "rules", RULES], ["test", "rules", *TESTS]], ids=["check", "test"]
)
def test_promtool_has_nothing_to_say(arguments: list[str | Path]) -> None:
    ended = subprocess.run(
        [program("promtool"), *arguments], text=True, capture_output=True, check=False, cwd=CHECKOUT
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_each_alert_is_tested_both_ways() -> None:
    cases = [
        case
        for path in TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    named = {rule["alert"] for rule in rules()}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == named
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == named


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_alert_has_a_runbook_of_its_own(rule: dict[str, Any]) -> None:
    page = CHECKOUT / rule["annotations"]["runbook"]
    text = page.read_text()
    assert text.startswith(f"# {rule['alert']}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["What it means", "What to look at", "What to do"]
    assert f"| {rule['alert']} | [{page.stem}]({page.name}) |" in (page.parent / "README.md").read_text()
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_for_metrics_that_there_are(rule: dict[str, Any]) -> None:
    asked = set(re.findall(r"overcommit_\w+", rule["expr"]))
    assert asked
    assert asked <= exposed_names()
