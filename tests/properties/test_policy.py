"""What holds for every policy, whatever stands in its files and in the labels of domains."""

from __future__ import annotations

import copy
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from overcommit.errors import Complaint, PolicyError
from overcommit.model.policy import OVERRIDES, Selector, SizeRange
from overcommit.policy import json_schema, layers, loader, yaml_positions
from tests import scenarios
from tests.schema_check import complaints

SCHEMA = json_schema.document()
WHOLE: dict[str, Any] = {
    "version": 1,
    "host": {
        "reserve": "8%",
        "max_overcommit": 1.5,
        "swap": {"max_used": "60%", "max_write": "50MiB/s"},
        "pageout_actor": "auto",
        "cold_node": 1,
        "reclaim": "proactive",
        "idle_tax": "75%",
        "ksm": False,
        "domain_overrides": ["class", "floor"],
    },
    "classes": {
        "a": {"floor": "50%", "cold_after": "5min", "weight": 2, "slo": {"promotions": "1%/min"}},
        "b": {"step": "10%", "actuators": ["balloon"], "guest_help": ["compaction"]},
    },
    "domains": [
        {"match": {"name": "db-*", "metadata": {"tier": "x"}}, "class": "a"},
        {"match": {"memory": [">=1GiB", "<8GiB"]}, "class": "b"},
    ],
    "default_class": "a",
}
WORDS = st.sampled_from(
    [
        *("8%", "0%", "100%", "101%", "1e9%", "5min", "0s", "2 h", "50MiB/s", "1B/s", "0.2%/min", ">=8GiB"),
        *(
            "<0",
            "> 1TiB",
            "a",
            "b",
            "*",
            "db-1",
            "auto",
            "off",
            "balloon",
            "class",
            "",
            "x\ny",
            "\u202e",
            "'\"",
        ),
        "9" * 400 + "%",
    ]
)
PLAIN = WORDS | st.none() | st.booleans() | st.integers(-2, 2000) | st.floats(0, 10) | st.text(max_size=20)
JUNK = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A whole policy in which some things were replaced, added or left out."""
    document = copy.deepcopy(WHOLE)
    for _ in range(draw(st.integers(0, 4))):
        place: Any = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
                place = place[key]
                continue
            match draw(st.sampled_from(["replace", "leave out", "add"])):
                case "replace":
                    place[key] = draw(JUNK)
                case "leave out":
                    del place[key]
                case _ if isinstance(place, dict):
                    place[draw(WORDS)] = draw(JUNK)
                case _:
                    place.append(draw(JUNK))
            break
    return document


def texts_of(files: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(yaml.safe_dump(file, allow_unicode=True), f"{index}.yaml") for index, file in enumerate(files)]


def outcome(texts: list[tuple[str, str]]) -> tuple[loader.Loaded | None, tuple[Complaint, ...]]:
    """The policy and its warnings, or its faults."""
    try:
        loaded = loader.parse_all(texts)
    except PolicyError as error:
        return None, error.faults
    return loaded, loaded.warnings


@given(st.lists(documents(), min_size=1, max_size=3))
def test_any_files_are_a_policy_or_faults_with_places(files: list[dict[str, Any]]) -> None:
    texts = texts_of(files)
    lengths = {source: len(text.splitlines()) for text, source in texts}
    loaded, said = outcome(texts)
    if loaded is None:
        assert said
    else:
        assert complaints(SCHEMA, files[0]) == []
        for name in ("web", "db-1"):
            domain = scenarios.domain(name, labels={"tier": "x", "class": "b"})
            assert loaded.policy.class_of(domain).name in loaded.policy.classes
    assert all(1 <= complaint.line <= lengths[complaint.file] + 1 for complaint in said)
    assert all(str(complaint).isprintable() for complaint in said)


@given(st.lists(documents(), min_size=2, max_size=2))
def test_a_file_that_is_wrong_alone_is_wrong_below_an_override(files: list[dict[str, Any]]) -> None:
    main, _ = texts = texts_of(files)
    alone, faults = outcome([main])
    between = all(fault.message.startswith(("no class", "domains.")) for fault in faults)
    both, _ = outcome(texts)
    assert alone or between or not both


PARTS = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "host": st.fixed_dictionaries(
            {},
            optional={
                "reserve": st.sampled_from(["5%", "6%"]),
                "cold_node": st.none() | st.integers(0, 3),
                "swap": st.fixed_dictionaries({}, optional={"max_used": st.sampled_from(["1%", "2%"])}),
            },
        ),
        "classes": st.dictionaries(
            st.sampled_from("ab"),
            st.fixed_dictionaries(
                {},
                optional={
                    "floor": st.sampled_from(["1%", "2%"]),
                    "actuators": st.lists(st.sampled_from(["balloon", "pageout"])),
                },
            ),
        ),
        "domains": st.lists(st.integers(0, 9), max_size=3),
    },
)


def node(part: dict[str, Any]) -> yaml_positions.Node:
    return yaml_positions.parse(yaml.safe_dump(part), "p.yaml")


@given(PARTS, PARTS, PARTS)
def test_it_does_not_matter_which_files_are_merged_first(
    a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]
) -> None:
    one, two, three = map(node, (a, b, c))
    left = layers.merge(layers.merge(one, two), three)
    right = layers.merge(one, layers.merge(two, three))
    assert left.plain() == right.plain()
    assert left == right


@given(PARTS)
def test_an_override_that_says_nothing_changes_nothing(part: dict[str, Any]) -> None:
    merged = layers.merge(node(part), node({"version": 1}))
    assert merged.plain() == part


@given(PARTS, PARTS)
def test_the_upper_file_has_the_last_word(a: dict[str, Any], b: dict[str, Any]) -> None:
    merged = layers.merge(node(a), node(b)).plain()
    for name, section in b.get("classes", {}).items():
        assert merged["classes"][name] == {**a.get("classes", {}).get(name, {}), **section}
    assert merged.get("domains", []) == b.get("domains", []) + a.get("domains", [])


LABELS = st.dictionaries(st.sampled_from(OVERRIDES), WORDS | st.text(max_size=120))


@given(LABELS, st.sets(st.sampled_from(OVERRIDES)))
def test_no_label_breaks_a_plan(labels: dict[str, str], allowed: set[str]) -> None:
    policy = scenarios.policy({"host": {"domain_overrides": sorted(allowed)}, "classes": {"a": {}, "b": {}}})
    domain = scenarios.domain(labels=labels)
    of, said = policy.class_of(domain), policy.complaints_of(domain)
    assert 0 <= of.floor <= 1
    assert 0 < of.step <= 1
    assert 0 < of.weight <= 1000
    assert 0 < of.cold_after_seconds <= 300
    assert 0 <= of.objective.promotions_per_minute <= 1
    assert 0 <= of.objective.psi_some <= 1
    assert all(len(line) < 1000 and line.isprintable() for line in said)
    assert len(said) <= len(labels)
    if not allowed & labels.keys():
        assert of == policy.classes["standard"]
        assert len(said) == len(labels)


@given(st.data())
def test_the_patterns_for_editors_take_what_the_loader_takes(data: st.DataObject) -> None:
    key, prefix = data.draw(st.sampled_from([("floor", ""), ("cold_after", ""), ("promotions", "slo.")]))
    section = SCHEMA["$defs"]["ObjectiveSection" if prefix else "ClassSection"]
    pattern = section["properties"][key]["pattern"]
    right = st.from_regex(pattern.removesuffix("$"), fullmatch=True)
    text = data.draw(right | st.text("0123456789.% minhs/", max_size=9) | right.map(lambda t: t + "0"))
    value = {"slo": {key: text}} if prefix else {key: text}
    document = {"version": 1, "classes": {"a": value}, "default_class": "a"}
    try:
        loader.parse(yaml.safe_dump(document), "p.yaml")
    except PolicyError:
        assert complaints(SCHEMA, document)
    else:
        assert complaints(SCHEMA, document) == []


SIZES = st.builds(SizeRange, st.integers(0, 5), st.none() | st.integers(0, 5))
SELECTORS = st.builds(
    Selector,
    name=st.none() | st.sampled_from(["a", "b", "a*", "*b", "?", "[ab]"]),
    metadata=st.dictionaries(st.sampled_from("kl"), st.sampled_from("xy")),
    memory=SIZES,
)


@given(SELECTORS, SELECTORS, st.sampled_from(["a", "b", "ab", "aab"]), st.data())
def test_what_is_said_to_be_covered_is(
    first: Selector, then: Selector, name: str, data: st.DataObject
) -> None:
    labels = data.draw(st.dictionaries(st.sampled_from("kl"), st.sampled_from("xy")))
    domain = scenarios.domain(name, size=data.draw(st.integers(1, 6)), resident=0, labels=labels)
    if first.covers(then) and then.matches(domain):
        assert first.matches(domain)
    assert first.covers(first)
