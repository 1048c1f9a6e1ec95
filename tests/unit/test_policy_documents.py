"""The shipped policies and the pages about the language say what is so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from overcommit.model.policy import OVERRIDES, Actuator, DomainClass, Policy
from overcommit.policy import loader, schema
from overcommit.units import MIB, format_age, format_duration, format_ratio

ROOT = Path(__file__).parents[2]
POLICIES = sorted(ROOT.glob("policies/*.yaml"))
REFERENCE = (ROOT / "docs/policy.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)
MINIMAL = "version: 1\nclasses: {gold: {}, silver: {}, bronze: {}}\ndefault_class: silver\n"


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_a_shipped_policy_has_no_value_without_effect(path: Path) -> None:
    assert loader.parse_all([(path.read_text(), path.name)]).warnings == ()


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_a_shipped_policy_explains_itself(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert re.match(r"# (For|The default, for) ", lines[0]), "who it is for"
    for number, line in enumerate(lines, start=1):
        header = re.fullmatch(r" *[a-z_]+:", line)
        assert not line.strip() or header or re.search(r"# \w", line), f"line {number}: {line}"


def test_every_example_of_the_reference_is_valid_and_without_warning() -> None:
    assert len(EXAMPLES) >= 6
    for example in EXAMPLES:
        if "classes:" in example and "default_class:" in example:
            files = [example]
        else:
            files = [MINIMAL, example if "version:" in example else f"version: 1\n{example}"]
        loaded = loader.parse_all([(text, str(index)) for index, text in enumerate(files)])
        assert loaded.warnings == (), example


def test_the_defaults_of_the_reference_are_the_defaults() -> None:
    """The host's and a class's sections say so; the node is the example's only addition."""
    host, of_class = EXAMPLES[1], EXAMPLES[2]
    said = loader.parse_all(
        [(MINIMAL, "a"), (f"version: 1\n{host.replace('cold_node: 1', 'cold_node: null')}", "b")]
    )
    plain = loader.parse(MINIMAL, "a")
    for name in Policy.__slots__:
        if name != "digest":
            assert getattr(said.policy, name) == getattr(plain, name), name
    said = loader.parse_all([(MINIMAL, "a"), (f"version: 1\n{of_class}", "b")])
    assert said.policy.classes["silver"] == plain.classes["silver"]


def test_every_key_is_in_the_reference() -> None:
    sections = (schema.HostSection, schema.SwapSection, schema.ClassSection, schema.ObjectiveSection)
    written = {key for example in EXAMPLES for key in re.findall(r"^ *([a-z_]+):", example, re.MULTILINE)}
    for section in (*sections, schema.PolicyFile):
        assert section.model_fields.keys() <= written
    assert all(f"{key}:" in "".join(EXAMPLES) for key in schema.MatchSection.model_fields)
    assert " ".join(OVERRIDES) in REFERENCE


def rows() -> Iterator[str]:
    columns = ("floor", "cold after", "cache after", "step", "promotions", "pages out")
    yield f"| policy | reserve | reclaim | swap | class | {' | '.join(columns)} |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for path in POLICIES:
        policy = loader.load(path)
        swap = f"{format_ratio(policy.swap.max_used)}, {policy.swap.max_write_bytes_per_second // MIB}MiB/s"
        host = f"{format_ratio(policy.reserve)} | {policy.reclaim.value} | {swap}"
        for of in policy.classes.values():
            yield f"| {path.stem} | {host} | {class_cells(of)} |"


def class_cells(of: DomainClass) -> str:
    pages_out = Actuator.PAGEOUT in of.actuators
    cells = (
        of.name,
        format_ratio(of.floor),
        format_duration(of.cold_after_seconds) if pages_out else "–",
        format_age(of.cache_after_seconds),
        format_ratio(of.step),
        f"{format_ratio(of.objective.promotions_per_minute)}/min" if pages_out else "–",
        "yes" if pages_out else "no",
    )
    return " | ".join(cells)


def test_the_comparison_of_the_shipped_policies_is_current() -> None:
    page = (ROOT / "docs/policies.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert table == list(rows())
    assert all(f"`{path.stem}`" in page for path in POLICIES)


def test_the_policy_of_the_demonstration_is_valid() -> None:
    path = ROOT / "integration/demo/policy.yaml"
    assert loader.parse_all([(path.read_text(), path.name)]).warnings == ()
    assert yaml.safe_load(path.read_text())["version"] == 1
