"""Ten thousand rules: what is done of them grows as they do, whatever kind they are of.

Calls of functions are counted, not seconds.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from types import FrameType

import pytest

from overcommit.errors import PolicyError
from overcommit.policy import loader
from tests import scenarios

UUID = "00000000-0000-0000-0000-{:012d}"
FEW, MANY = 100, 800

KINDS: dict[str, Callable[[int], str]] = {
    "uuid": lambda i: f"uuid: {UUID.format(i)}",
    "name": lambda i: f"name: vm-{i:05d}",
    "glob": lambda i: f"name: 'vm-{i:05d}-*'",
    "glob with a text inside": lambda i: f"name: '*-{i:05d}-?'",
    "metadata": lambda i: f"metadata: {{tenant: t{i:05d}, tier: x}}",
    "memory": lambda i: f"memory: ['>={i}MiB', '<{i + 1}MiB']",
    "memory of one glob": lambda i: f"name: 'vm-*', memory: ['>={i}MiB', '<{i + 1}MiB']",
    "mixed": lambda i: KINDS[("uuid", "name", "glob", "metadata", "memory")[i % 5]](i),
}
FAULTY: dict[str, Callable[[int], str]] = {
    "every other has the UUID of the one before": lambda i: f"uuid: {UUID.format(i // 2)}",
    "all below one glob": lambda i: f"name: vm-{i:05d}" if i else "name: 'vm-*'",
    "all the same": lambda _: "name: 'vm-*'",
}


def text_of(kind: Callable[[int], str], count: int, class_name: str = "a") -> str:
    rules = "".join(f"- {{match: {{{kind(i)}}}, class: {class_name.format(i)}}}\n" for i in range(count))
    return f"version: 1\ndefault_class: a\nclasses: {{a: {{}}}}\ndomains:\n{rules}"


def calls_of(what: Callable[[], object]) -> int:
    """How many functions of Python's and C's are called."""
    count = 0

    def counted(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(counted)
    try:
        what()
    finally:
        sys.setprofile(None)
    return count


def refused(text: str) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        loader.parse(text, "p.yaml")
    return tuple(fault.message for fault in caught.value.faults)


def require_linear(growth: float) -> None:
    assert growth < 1.3 * MANY / FEW


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_validation_grows_as_the_rules_do(kind: Callable[[int], str]) -> None:
    few, many = (text_of(kind, count) for count in (FEW, MANY))
    loader.parse(few, "p.yaml")  # whatever is done once
    require_linear(calls_of(lambda: loader.parse(many, "p")) / calls_of(lambda: loader.parse(few, "p")))


@pytest.mark.parametrize("kind", FAULTY.values(), ids=FAULTY)
def test_contradictions_are_found_in_as_much_time(kind: Callable[[int], str]) -> None:
    few, many = (text_of(kind, count) for count in (FEW, MANY))
    assert len(refused(few)) >= FEW // 2
    require_linear(calls_of(lambda: refused(many)) / calls_of(lambda: refused(few)))


def test_classes_that_are_not_there_are_named_in_as_much_time_and_text() -> None:
    def text(count: int) -> str:
        classes = ", ".join(f"c{i}: {{}}" for i in range(count))
        return text_of(KINDS["name"], count, "d{}").replace("{a: {}}", f"{{a: {{}}, {classes}}}")

    few, many = text(FEW), text(MANY)
    assert max(map(len, refused(many))) < 300
    require_linear(calls_of(lambda: refused(many)) / calls_of(lambda: refused(few)))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_domain_finds_its_rule_without_asking_all(kind: Callable[[int], str]) -> None:
    few, many = (loader.parse(text_of(kind, count), "p") for count in (FEW, MANY))
    domain = scenarios.domain(
        "vm-00070-x", labels={"tenant": "t00070", "tier": "x"}, size=1 << 40, resident=0
    )
    assert few.class_of(domain) == many.class_of(domain)  # and what is made once for all is made
    assert calls_of(lambda: many.class_of(domain)) <= 1.1 * calls_of(lambda: few.class_of(domain)) + 10


def test_of_many_rules_the_first_that_matches_decides() -> None:
    text = text_of(KINDS["mixed"], MANY).replace("classes: {a: {}}", "classes: {a: {}, b: {}}")
    text += "- {match: {name: 'vm-00001*'}, class: b}\n- {match: {name: '*-00001x'}, class: a}\n"
    policy = loader.parse(text, "p.yaml")
    assert policy.class_of(scenarios.domain("vm-00001", size=1 << 40, resident=0)).name == "a"
    assert policy.class_of(scenarios.domain("vm-00001x", size=1 << 40, resident=0)).name == "b"


def test_a_policy_of_many_rules_goes_from_process_to_process() -> None:
    policy = loader.parse(text_of(KINDS["mixed"], FEW), "p.yaml")
    domain = scenarios.domain("vm-00001")
    policy.class_of(domain)
    again = pickle.loads(pickle.dumps(policy))
    assert again == policy
    assert again.class_of(domain) == policy.class_of(domain)
