"""The JSON Schema for editors: it is what the loader takes, in the words of the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from overcommit.policy import json_schema
from tests.schema_check import complaints

ROOT = Path(__file__).parents[2]
FILES = sorted([*ROOT.glob("policies/*.yaml"), *ROOT.glob("integration/**/*policy.yaml")])
SCHEMA = json_schema.document()
LEAST: dict[str, Any] = {"version": 1, "classes": {"a": {}}, "default_class": "a"}


def test_the_copy_in_docs_is_current() -> None:
    kept = (ROOT / "docs/policy.schema.json").read_text()
    assert kept == json_schema.dumps(), "overcommitctl validate --schema > docs/policy.schema.json"


def sections(schema: Any) -> list[dict[str, Any]]:
    if isinstance(schema, list):
        return [found for item in schema for found in sections(item)]
    if not isinstance(schema, dict):
        return []
    inside = [found for value in schema.values() for found in sections(value)]
    return [schema, *inside] if isinstance(schema.get("properties"), dict) else inside


def test_every_key_is_described_in_a_line() -> None:
    found = [(key, about) for section in sections(SCHEMA) for key, about in section["properties"].items()]
    assert len(found) > 25
    for key, about in found:
        if "$ref" in about:
            about = SCHEMA["$defs"][about["$ref"].rpartition("/")[2]]
        assert about["description"].endswith("."), key
        assert "\n" not in about["description"], key


def test_defaults_and_examples_are_what_one_can_write() -> None:
    checked = 0
    for section in sections(SCHEMA):
        for about in section["properties"].values():
            for value in [*about.get("examples", ()), *([about["default"]] if "default" in about else ())]:
                assert complaints({**about, "$defs": SCHEMA["$defs"]}, value) == [], about
                checked += 1
    assert checked > 25


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_our_own_policies_pass(path: Path) -> None:
    assert complaints(SCHEMA, yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": "1"},
        {"hots": {}},
        {"host": {"reserve": 0.08}},
        {"host": {"reserve": 8}},
        {"host": {"reserve": "108%"}},
        {"host": {"idle_tax": "100%"}},
        {"host": {"max_overcommit": "1.5"}},
        {"host": {"max_overcommit": 0.9}},
        {"host": {"cold_node": -1}},
        {"host": {"ksm": "no"}},
        {"host": {"swap": {"max_write": "50MiB"}}},
        {"host": {"swap": {"max_write_per_day": "100GB"}}},
        {"host": {"swap": {"max_write_per_day": 100}}},
        {"host": {"swap": {"max_latency": "0ms"}}},
        {"host": {"domain_overrides": ["flor"]}},
        {"classes": {"a": {"floor": "half"}}},
        {"classes": {"a": {"cold_after": "0s"}}},
        {"classes": {"a": {"cold_after": "5 minutes"}}},
        {"classes": {"a": {"cache_after": "ever"}}},
        {"classes": {"a": {"step": "0.0%"}}},
        {"classes": {"a": {"weight": 0}}},
        {"classes": {"a": {"slo": {"promotions": "1%"}}}},
        {"classes": {"a": {"actuators": ["swap"]}}},
        {"classes": {"a b": {}}},
        {"classes": {"a" * 65: {}}},
        {"domains": [{"class": "a"}]},
        {"domains": [{"match": {"name": ""}, "class": "a"}]},
        {"domains": [{"match": {"uuid": "abc"}, "class": "a"}]},
        {"domains": [{"match": {"memory": "8GiB"}, "class": "a"}]},
        {"domains": [{"match": {"memory": []}, "class": "a"}]},
        {"domains": [{"match": {"metadata": {"a": 1}}, "class": "a"}]},
    ],
    ids=json.dumps,
)
def test_what_the_loader_refuses_an_editor_marks(change: dict[str, Any]) -> None:
    assert complaints(SCHEMA, LEAST) == []
    assert complaints(SCHEMA, {**LEAST, **change})
