"""The index of rules says what asking each rule in turn says; the globs are those of `fnmatch`."""

from __future__ import annotations

import dataclasses
import fnmatch
import re

from hypothesis import given
from hypothesis import strategies as st

from overcommit.model import globs
from overcommit.model.policy import Rule, Rules, Selector, SizeRange
from overcommit.model.rule_index import RuleIndex
from tests import scenarios

GLOBS = st.text("ab*?[]!-", min_size=1, max_size=6)
NAMES = st.text("ab[]*!-", min_size=1, max_size=8)
LABELS = st.dictionaries(st.sampled_from("klm"), st.sampled_from("xyz"), max_size=3)
SIZES = st.integers(0, 6).flatmap(
    lambda least: st.builds(SizeRange, st.just(least), st.none() | st.integers(least, 7))
)
UUIDS = st.sampled_from("uvw")
SELECTORS = st.builds(Selector, name=st.none() | GLOBS, uuid=st.none() | UUIDS, metadata=LABELS, memory=SIZES)
MANY = st.lists(SELECTORS, max_size=25)


@given(GLOBS, NAMES)
def test_globs_are_those_of_the_library(pattern: str, name: str) -> None:
    matching = fnmatch.fnmatchcase(name, pattern)
    assert globs.matches(pattern, name) == matching
    if matching:
        assert all(text in name for text in globs.literals(pattern))


@given(st.from_regex(r"[a-c]{0,3}(\*|\?|\[[!a-c]?[a-c]\])[a-c]{0,3}(\*|\?)?[a-c]?", fullmatch=True))
def test_the_texts_of_a_glob_are_the_longest_that_are_surely_there(pattern: str) -> None:
    assert "".join(globs.literals(pattern)) == re.sub(r"\*|\?|\[[^]]*\]", "", pattern)


@given(MANY, NAMES, UUIDS, LABELS, st.integers(1, 8))
def test_the_first_rule_that_matches_is_found(
    selectors: list[Selector], name: str, uuid: str, labels: dict[str, str], size: int
) -> None:
    rules = Rules(Rule(selector=each, class_name="a") for each in selectors)
    domain = scenarios.domain(name, size=size, resident=0, labels=labels)
    domain = dataclasses.replace(domain, incarnation=dataclasses.replace(domain.incarnation, uuid=uuid))
    found = rules.first_for(domain)
    assert found is next((rule for rule in rules if rule.selector.matches(domain)), None)


@given(MANY)
def test_the_first_rule_that_covers_is_found(selectors: list[Selector]) -> None:
    index = RuleIndex(enumerate(selectors))
    for selector in selectors:
        covering = (i for i, each in enumerate(selectors) if each.covers(selector))
        assert index.first(selector.matched) == next(covering)
