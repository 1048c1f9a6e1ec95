"""A policy file and the files beside it that change parts of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.errors import PolicyError, UsageError
from overcommit.policy import files, loader
from tests import scenarios

MAIN = """\
version: 1
host: {reserve: 10%, swap: {max_used: 40%, max_write: 20MiB/s}, cold_node: 1}
classes:
  gold: {floor: 90%, actuators: [balloon]}
  standard: {floor: 25%, cold_after: 2min}
domains:
  - {match: {name: "db-*"}, class: gold}
default_class: standard
"""


@pytest.fixture
def main(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(MAIN)
    return path


def override(main: Path, name: str, text: str) -> Path:
    path = main.with_suffix(".d") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"version: 1\n{text}")
    return path


def faults(main: Path) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        loader.load(main)
    return [str(fault) for fault in caught.value.faults]


def test_one_value_of_a_class_or_of_the_host_can_be_changed(main: Path) -> None:
    before = loader.load(main)
    override(main, "10.yaml", "classes: {standard: {floor: 50%}}\nhost: {swap: {max_used: 20%}}\n")
    after = loader.load(main)
    assert (after.classes["standard"].floor, after.classes["standard"].cold_after_seconds) == (0.5, 120)
    assert (after.swap.max_used, after.swap.max_write_bytes_per_second) == (0.2, 20 << 20)
    assert after.classes["gold"] == before.classes["gold"]
    assert (after.reserve, after.default_class, after.rules) == (0.1, "standard", before.rules)
    assert after.source == str(main)


def test_the_last_file_by_name_has_the_last_word(main: Path) -> None:
    override(main, "20.yaml", "host: {reserve: 20%}\n")
    override(main, "10.yaml", "host: {reserve: 15%, max_overcommit: 3}\n")
    policy = loader.load(main)
    assert (policy.reserve, policy.max_overcommit) == (0.2, 3)


def test_lists_are_replaced_and_null_takes_back(main: Path) -> None:
    override(main, "10.yaml", "classes: {gold: {actuators: []}}\nhost: {cold_node: null}\n")
    policy = loader.load(main)
    assert policy.classes["gold"].actuators == frozenset()
    assert policy.cold_node is None


def test_rules_of_overrides_are_asked_first_and_those_of_later_files_before_all(main: Path) -> None:
    override(main, "10.yaml", 'domains: [{match: {name: "db-*"}, class: standard}]\n')
    override(
        main,
        "20.yaml",
        "classes: {batch: {}}\n"
        'domains:\n  - {match: {name: "db-9*"}, class: batch}\n  - {match: {name: a}, class: batch}\n',
    )
    policy = loader.load(main)
    assert [(r.selector.name, r.class_name) for r in policy.rules] == [
        ("db-9*", "batch"),
        ("a", "batch"),
        ("db-*", "standard"),
        ("db-*", "gold"),
    ]
    assert policy.class_of(scenarios.domain("db-1")).name == "standard"
    assert policy.class_of(scenarios.domain("db-99")).name == "batch"


def test_faults_of_all_files_at_once_each_in_its_own_file(main: Path) -> None:
    main.write_text(MAIN.replace("reserve: 10%", "reserve: 10"))
    first = override(main, "10.yaml", "host: {reserve: 12%}\nclasses:\n  gold: {flor: 1%}\n")
    second = override(main, "20.yaml", "host: [\n")
    third = main.with_suffix(".d") / "30.yaml"
    third.write_text("default_class: gold\n")
    fourth = override(main, "40.yaml", "domains: [{class: gold}]\n")
    assert faults(main) == [
        f"{main}:2:17: host.reserve: needs a unit, like 8%",
        f"{first}:4:10: unknown key classes.gold.flor (did you mean floor?)",
        f"{second}:3:1: did not find expected node content",
        f"{third}:1:1: version is missing",
        f"{fourth}:2:11: domains.0.match is missing",
    ]


def test_faults_between_files_are_where_they_were_written(main: Path) -> None:
    main.write_text(MAIN.replace("default_class: standard", "default_class: golt"))
    first = override(main, "10.yaml", "domains: [{match: {name: a}, class: silver}]\n")
    second = override(
        main, "20.yaml", 'domains: [{match: {name: b}, class: gold}, {match: {name: "*"}, class: gold}]\n'
    )
    assert faults(main) == [
        f"{main}:8:16: no class 'golt' (known: gold)",
        f"{first}:2:37: no class 'silver' (known: gold, standard)",
        f"{second}:2:52: domains.1.match: matches every domain: use default_class for all other domains",
    ]


def test_a_rule_may_be_overridden_but_not_twice_in_one_file(main: Path) -> None:
    twice = "{match: {name: a}, class: gold}"
    path = override(main, "10.yaml", f"domains:\n  - {twice}\n  - {twice}\n")
    override(main, "20.yaml", f"domains:\n  - {twice}\n")
    assert faults(main) == [
        f"{path}:4:13: domains.2.match: can never apply: the rule at line 3 matches the same domains first"
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("host: 7\n", ":2:7: host: must be a mapping of keys to values"),
        ("domains: {}\n", ":2:10: domains: input should be a valid list"),
        ("classes: {standard: null}\n", ":2:21: classes.standard: must be a mapping of keys to values"),
        ("version: 2\n", ":2:1: duplicate key 'version' (first at line 1)"),
    ],
)
def test_what_an_override_says_must_be_right_in_itself(main: Path, text: str, complaint: str) -> None:
    path = override(main, "10.yaml", text)
    assert faults(main) == [f"{path}{complaint}"]


def test_the_digest_is_of_all_files(main: Path) -> None:
    digests = [loader.load(main).digest]
    path = override(main, "10.yaml", "")
    digests.append(loader.load(main).digest)
    path.write_text("version: 1\n# why\n")
    digests.append(loader.load(main).digest)
    override(main, "20.yaml", "")
    digests.append(loader.load(main).digest)
    assert len(set(digests)) == 4
    assert loader.load(main).digest == digests[-1]


def test_only_yaml_files_that_are_not_hidden_are_read(main: Path) -> None:
    for name in ("10.yaml.bak", ".10.yaml", "README", "10.yml"):
        override(main, name, "nonsense: true\n")
    assert files.files_of(main) == (main,)
    assert loader.load(main).reserve == 0.1


@pytest.mark.parametrize(
    ("name", "directory"), [("p.yaml", "p.d"), ("site.policy.yaml", "site.policy.d"), ("policy", "policy.d")]
)
def test_the_directory_is_named_like_the_file(tmp_path: Path, name: str, directory: str) -> None:
    (tmp_path / directory).mkdir()
    (tmp_path / directory / "a.yaml").touch()
    assert files.files_of(tmp_path / name) == (tmp_path / name, tmp_path / directory / "a.yaml")


def test_overrides_of_the_host_apply_to_the_shipped_default_too(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    mocker.patch.object(files, "DEFAULT_FILE", tmp_path / "policy.yaml")
    override(tmp_path / "policy.yaml", "10.yaml", "host: {reserve: 33%}\n")
    shipped = loader.load(files.default_path())
    policy = loader.load(None)
    assert (shipped.reserve, policy.reserve) == (0.08, 0.33)
    assert policy.classes == shipped.classes
    (tmp_path / "policy.yaml").write_text(MAIN)
    assert set(loader.load(None).classes) == {"gold", "standard"}
    assert loader.load(None).reserve == 0.33


def test_overrides_that_cannot_be_read(main: Path) -> None:
    directory = main.with_suffix(".d")
    directory.write_text("a file")
    with pytest.raises(UsageError, match=f"cannot read the overrides in {directory}: Not a directory"):
        loader.load(main)
    directory.unlink()
    (directory / "10.yaml").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"cannot read the policy .*10\.yaml: it is a directory"):
        loader.load(main)
