"""Values that were written and change nothing."""

from __future__ import annotations

import re

import pytest

from overcommit.policy import loader

HEAD = "version: 1\nclasses: {standard: {}}\ndefault_class: standard\n"


def warnings(text: str) -> list[str]:
    return [str(w) for w in loader.parse_all([(text, "p.yaml")]).warnings]


def of_class(section: str, host: str = "{}") -> list[tuple[str, str]]:
    """What is said, and the value that it is said about."""
    text = f"version: 1\nhost: {host}\nclasses:\n  a: {section}\ndefault_class: a\n"
    found = loader.parse_all([(text, "p.yaml")]).warnings
    lines = text.splitlines()
    return [(w.message, re.split(r"[,}]", lines[w.line - 1][w.column - 1 :], maxsplit=1)[0]) for w in found]


@pytest.mark.parametrize(
    ("section", "value", "complaint"),
    [
        (
            "{actuators: [balloon], cold_after: 5min}",
            "5min",
            "classes.a.cold_after: the class uses neither pageout nor demotion",
        ),
        (
            "{actuators: [demotion], slo: {promotions: 1%/min}}",
            "1%/min",
            "classes.a.slo.promotions: limits pageout; the class does not use it",
        ),
        (
            "{actuators: [balloon], slo: {psi_some: 1%}}",
            "1%",
            "classes.a.slo.psi_some: limits pageout and demotion; the class uses neither",
        ),
        (
            "{floor: 100%, actuators: [free_page_reporting, balloon, pageout]}",
            "100%",
            "classes.a.floor: leaves balloon, pageout nothing to take",
        ),
        (
            "{actuators: [free_page_reporting], step: 10%}",
            "10%",
            "classes.a.step: limits virtio_mem, balloon and pageout; the class uses none of them",
        ),
        (
            "{actuators: [pageout], cache_after: never}",
            "never",
            "classes.a.cache_after: limits virtio_mem and balloon; the class uses neither",
        ),
        (
            "{actuators: [balloon], guest_help: [compaction]}",
            "[compaction]",
            "classes.a.guest_help: compaction needs free_page_reporting; the class does not use it",
        ),
        (
            "{actuators: [pageout], guest_help: [damon_reclaim]}",
            "[damon_reclaim]",
            (
                "classes.a.guest_help: damon_reclaim needs free_page_reporting or balloon; the class uses "
                "neither"
            ),
        ),
    ],
)
def test_a_value_of_a_class_without_effect(section: str, value: str, complaint: str) -> None:
    assert of_class(section) == [(complaint, value)]


@pytest.mark.parametrize(
    ("host", "section", "value", "complaint"),
    [
        (
            "{swap: {max_used: 0%}}",
            "{}",
            "0%",
            (
                "host.swap.max_used: leaves no room for page-out; to forbid it, remove pageout from the "
                "actuators"
            ),
        ),
        (
            "{pageout_actor: damos-paddr}",
            "{actuators: [balloon]}",
            "damos-paddr",
            "host.pageout_actor: no class uses pageout",
        ),
        (
            "{swap: {max_write: 20MiB/s}}",
            "{actuators: [balloon]}",
            "20MiB/s",
            "host.swap.max_write: no class uses pageout or demotion",
        ),
        (
            "{swap: {max_write_per_day: 1GiB}}",
            "{actuators: [demotion]}",
            "1GiB",
            "host.swap.max_write_per_day: no class uses pageout",
        ),
        (
            "{swap: {max_latency: 5ms}}",
            "{actuators: [demotion]}",
            "5ms",
            "host.swap.max_latency: no class uses pageout",
        ),
        (
            "{swap: {max_write: 1MiB/s, max_write_per_day: 85GiB}}",
            "{}",
            "85GiB",
            "host.swap.max_write_per_day: max_write is lower: page-out never writes this much in a day",
        ),
        ("{cold_node: 1}", "{actuators: [pageout]}", "1", "host.cold_node: no class uses demotion"),
        (
            "{cold_node: 1, reclaim: on_pressure}",
            "{}",
            "1",
            (
                "host.cold_node: reclaim: on_pressure moves nothing there, because the host as a whole gains "
                "nothing"
            ),
        ),
        (
            "{reserve: 0%, reclaim: on_pressure}",
            "{}",
            "0%",
            "host.reserve: reclaim: on_pressure begins below the reserve, and 0% is never reached",
        ),
    ],
)
def test_a_value_of_the_host_without_effect(host: str, section: str, value: str, complaint: str) -> None:
    assert of_class(section, host) == [(complaint, value)]


@pytest.mark.parametrize(
    ("host", "section"),
    [
        ("{}", "{}"),
        ("{reclaim: 'off'}", "{cold_after: 5min}"),
        ("{}", "{floor: 100%}"),
        ("{}", "{floor: 100%, actuators: [free_page_reporting, demotion], cold_after: 1min}"),
        ("{}", "{actuators: []}"),
        ("{swap: {max_used: 0%}}", "{actuators: [balloon]}"),
        ("{swap: {max_write: 1MiB/s, max_write_per_day: 84GiB}}", "{}"),
        ("{swap: {max_write: 20MiB/s}, cold_node: 0}", "{actuators: [demotion], slo: {psi_some: 1%}}"),
        ("{cold_node: null, pageout_actor: auto}", "{actuators: [balloon], step: 10%}"),
        ("{}", "{actuators: [free_page_reporting], guest_help: [compaction, damon_reclaim]}"),
        ("{}", "{actuators: [balloon], guest_help: [damon_reclaim]}"),
    ],
)
def test_what_can_be_meant_is_not_warned_of(host: str, section: str) -> None:
    assert of_class(section, host) == []


def test_classes_that_no_domain_has_are_fine() -> None:
    assert warnings(HEAD.replace("{standard: {}}", "{standard: {}, night: {floor: 0%}}")) == []


def test_all_warnings_in_the_order_of_the_files() -> None:
    main = HEAD.replace("{standard: {}}", "{standard: {cold_after: 5min}}") + "host: {cold_node: 1}\n"
    above = "version: 1\nclasses: {standard: {step: 5%, actuators: []}}\n"
    found = loader.parse_all([(main, "p.yaml"), (above, "p.d/1.yaml")]).warnings
    assert [warning.place for warning in found] == ["p.yaml:2:34", "p.yaml:4:19", "p.d/1.yaml:2:28"]
