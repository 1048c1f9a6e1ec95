"""Policy files: what they mean, and where exactly they are wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from overcommit.errors import PolicyError, UsageError
from overcommit.model.policy import Actuator, ReclaimMode, Selector
from overcommit.policy import loader
from overcommit.units import MIB
from tests import scenarios

POLICIES = sorted(Path(__file__).parents[2].glob("policies/*.yaml"))
HEAD = "version: 1\nclasses:\n  standard: {}\ndefault_class: standard\n"
FULL = """\
version: 1
host:
  reserve: 10%
  max_overcommit: 2
  swap: {max_used: 40%, max_write: 20MiB/s}
  reclaim: on_pressure
  cold_node: 1
classes:
  gold: {floor: 90%, slo: {promotions: 0.05%/min}, actuators: [free_page_reporting]}
  silver: {floor: 50%, cold_after: 5min, slo: {promotions: 0.2%/min, psi_some: 2%}, weight: 2}
domains:
  - match: {name: "db-*"}
    class: gold
  - match: {metadata: {tier: batch}, uuid: abc}
    class: silver
default_class: silver
"""


def faults(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        loader.parse(text, "p.yaml")
    assert str(caught.value).splitlines() == list(caught.value.faults)
    return list(caught.value.faults)


def test_everything_that_can_be_said() -> None:
    policy = loader.parse(FULL, "p.yaml")
    assert (policy.reserve, policy.max_overcommit) == (0.1, 2)
    assert policy.reclaim is ReclaimMode.ON_PRESSURE
    assert policy.cold_node == 1
    assert policy.swap.max_used == 0.4
    assert policy.swap.max_write_bytes_per_second == 20 * MIB
    gold, silver = policy.classes["gold"], policy.classes["silver"]
    assert gold.actuators == {Actuator.FREE_PAGE_REPORTING}
    assert gold.objective.promotions_per_minute == pytest.approx(0.0005)
    assert (silver.floor, silver.cold_after_seconds, silver.weight) == (0.5, 300, 2)
    assert silver.actuators == set(Actuator)
    assert silver.objective.psi_some == 0.02
    assert policy.rules[1].selector == Selector(uuid="abc", metadata={"tier": "batch"})


def test_what_is_left_out_has_the_documented_defaults() -> None:
    policy = loader.parse(HEAD, "p.yaml")
    standard = policy.classes["standard"]
    assert (policy.reserve, policy.max_overcommit, policy.swap.max_used) == (0.08, 1.5, 0.6)
    assert policy.reclaim is ReclaimMode.PROACTIVE
    assert policy.cold_node is None
    assert (standard.floor, standard.cold_after_seconds, standard.weight) == (0.5, 300, 1)


def test_digest_changes_with_every_byte() -> None:
    digests = {loader.parse(text, "p").digest for text in (HEAD, HEAD + "\n", HEAD + "# why\n")}
    assert len(digests) == 3
    assert loader.parse(HEAD, "p").digest == loader.parse(HEAD, "q").digest


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_shipped_policies_are_valid(path: Path) -> None:
    assert loader.load(path).classes


def test_a_policy_is_shipped() -> None:
    assert "balanced.yaml" in {path.name for path in POLICIES}
    assert loader.default_path().name in {"balanced.yaml", "policy.yaml"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "p.yaml:1:1: the policy: "),
        ("# nothing but a comment\n", "p.yaml:1:1: the policy: "),
        ("just a text", "p.yaml:1:1: the policy: "),
        ("- a\n- b\n", "p.yaml:1:1: the policy: "),
        ("version: 1\ndefault_class: a\n", "p.yaml:1:1: classes is missing"),
        (HEAD.replace("1", "2", 1), "p.yaml:1:10: version: input should be 1"),
        (HEAD.replace("1", "'1'", 1), "p.yaml:1:10: version: input should be 1"),
        (HEAD + "host:\n  reserve: 8\n", "p.yaml:6:12: host.reserve: needs a unit, like 8%"),
        (HEAD + "host:\n  reserve: 120%\n", "p.yaml:6:12: host.reserve: must be at most 100%, not 120%"),
        (HEAD + "host:\n  reserve: lots\n", "p.yaml:6:12: host.reserve: not a percentage: 'lots'"),
        (HEAD + "host: {swap: {max_write: 50MiB}}\n", "p.yaml:5:26: host.swap.max_write: must end in /s"),
        (
            HEAD + "host: {swap: {max_write: 50MB/s}}\n",
            "p.yaml:5:26: host.swap.max_write: not a size: '50MB'",
        ),
        (HEAD + "host: {max_overcommit: 0.5}\n", "p.yaml:5:24: host.max_overcommit: input should be greater"),
        (HEAD + "host: {reclaim: sometimes}\n", "p.yaml:5:17: host.reclaim: input should be 'proactive'"),
        (HEAD + "host: {cold_node: -1}\n", "p.yaml:5:19: host.cold_node: input should be greater"),
        (HEAD + "host: {cold_node: 1024}\n", "p.yaml:5:19: host.cold_node: input should be less"),
        (HEAD + "host: {cold_node: '1'}\n", "p.yaml:5:19: host.cold_node: input should be a valid integer"),
        (HEAD + "host: {cold_node: true}\n", "p.yaml:5:19: host.cold_node: input should be a valid integer"),
        (HEAD.replace("{}", "{cold_after: 5}"), "p.yaml:3:26: classes.standard.cold_after: needs a unit"),
        (HEAD.replace("{}", "{cold_after: 0s}"), "p.yaml:3:26: classes.standard.cold_after: input should be"),
        (HEAD.replace("{}", "{cold_after: 5m}"), "p.yaml:3:26: classes.standard.cold_after: not a duration"),
        (HEAD.replace("{}", "{weight: 0}"), "p.yaml:3:22: classes.standard.weight: input should be greater"),
        (
            HEAD.replace("{}", "{slo: {promotions: 1%}}"),
            "p.yaml:3:32: classes.standard.slo.promotions: must end",
        ),
        (
            HEAD.replace("{}", "{actuators: [swap]}"),
            "p.yaml:3:26: classes.standard.actuators.0: input should be",
        ),
        (HEAD + "domains:\n  - match: {name: a}\n", "p.yaml:6:5: domains.0.class is missing"),
        (HEAD + "domains:\n  - class: standard\n", "p.yaml:6:5: domains.0.match is missing"),
        (
            HEAD + "domains:\n  - match: {name: 7}\n    class: standard\n",
            "p.yaml:6:19: domains.0.match.name: ",
        ),
    ],
)
def test_each_fault_has_its_place(text: str, complaint: str) -> None:
    (fault,) = faults(text)
    assert fault.startswith(complaint)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEAD + "hots: {}\n", "p.yaml:5:1: unknown key hots (did you mean host?)"),
        (HEAD + "host:\n  reserv: 8%\n", "p.yaml:6:3: unknown key host.reserv (did you mean reserve?)"),
        (
            HEAD.replace("{}", "{flor: 1%}"),
            "p.yaml:3:14: unknown key classes.standard.flor (did you mean floor?)",
        ),
        (
            HEAD.replace("{}", "{slo: {psi_som: 1%}}"),
            "p.yaml:3:20: unknown key classes.standard.slo.psi_som (did you mean psi_some?)",
        ),
        (
            HEAD + "host: {swap: {zzz: 1}}\n",
            "p.yaml:5:15: unknown key host.swap.zzz (known: max_used, max_write)",
        ),
    ],
)
def test_unknown_keys_come_with_a_suggestion(text: str, complaint: str) -> None:
    assert faults(text) == [complaint]


def test_a_misspelt_key_of_a_rule_is_named_and_so_is_the_missing_one() -> None:
    assert faults(HEAD + "domains:\n  - match: {name: a}\n    klass: standard\n") == [
        "p.yaml:6:5: domains.0.class is missing",
        "p.yaml:7:5: unknown key domains.0.klass (did you mean class?)",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            HEAD.replace("default_class: standard", "default_class: standart"),
            "p.yaml:4:16: no class 'standart' (known: standard)",
        ),
        (HEAD + "domains: [{match: {}, class: gold}]\n", "p.yaml:5:30: no class 'gold' (known: standard)"),
        ("version: 1\nclasses: {}\ndefault_class: a\n", "p.yaml:3:16: no class 'a' (known: none)"),
    ],
)
def test_unknown_classes_are_named(text: str, complaint: str) -> None:
    assert faults(text) == [complaint]


def test_all_faults_at_once_in_the_order_of_the_file() -> None:
    text = "version: 3\nhost: {reserve: 5}\nclasses:\n  a: {floor: half, colour: red}\ndefault_class: 1\n"
    found = [fault.split(": ")[0] for fault in faults(text)]
    assert found == ["p.yaml:1:10", "p.yaml:2:17", "p.yaml:4:14", "p.yaml:4:20", "p.yaml:5:16"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("version: 1\nversion: 1\n", "p.yaml:2:1: duplicate key 'version' (first at line 1)"),
        (
            HEAD.replace("{}", "{floor: 1%, floor: 2%}"),
            "p.yaml:3:25: duplicate key 'floor' (first at line 3)",
        ),
        ("version: [1\n", "p.yaml:2:1: did not find expected"),
        ("a: b: c\n", "p.yaml:1:5: mapping values are not allowed"),
        ("\tversion: 1\n", "p.yaml:1:1: found character that cannot start any token"),
        ("version: 1\n---\nversion: 1\n", "p.yaml:2:1: but found another document"),
        ("? [a, b]\n: 1\n", "p.yaml:1:3: a key must be a plain word"),
        ("version: !secret 1\n", "p.yaml:1:10: "),
        ("version: \x07\n", "p.yaml:1:1: "),
    ],
)
def test_yaml_faults_have_their_place_too(text: str, complaint: str) -> None:
    (fault,) = faults(text)
    assert fault.startswith(complaint)


@pytest.mark.parametrize(
    "text",
    [
        "a: &x 1\nb: *x\n",
        "a: &x [*x]\n",
        "a: &x {b: *x}\n",
        "base: &b {floor: 1%}\nclasses: {c: {<<: *b}}\n",
    ],
    ids=["alias", "endless list", "endless mapping", "merge key"],
)
def test_aliases_are_refused(text: str) -> None:
    """They can be endless, or billions of times what was written."""
    (fault,) = faults(text)
    assert re.match(r"p\.yaml:\d:\d+: .*alias", fault)


@pytest.mark.parametrize(
    "value",
    ["!!int x", "!!bool maybe", "!!float abc", "!!timestamp x", "!!python/object:os.system {}", "!x {a: 1}"],
)
def test_tags_are_refused(value: str) -> None:
    (fault,) = faults(HEAD.replace("1", value, 1))
    assert fault.startswith("p.yaml:1:10: ")


@pytest.mark.parametrize(
    "text", ["[" * 3000, "[" * 900 + "]" * 900, "{a: " * 900 + "}" * 900, HEAD.replace("1", "9" * 5000)]
)
def test_absurd_documents_are_faults_not_crashes(text: str) -> None:
    assert faults(text)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("no", "no"),
        ("on", "on"),
        ("y", "y"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("0x1f", "0x1f"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("1e3", "1e3"),
        (".5", ".5"),
        ("Yes", "Yes"),
        ("True", "True"),
        ("NULL", "NULL"),
    ],
)
def test_what_yaml_1_1_would_twist_stays_text(value: str, kept: str) -> None:
    policy = loader.parse(HEAD + f"domains: [{{match: {{name: {value}}}, class: standard}}]\n", "p")
    assert policy.rules[0].selector.name == kept


@pytest.mark.parametrize("value", ["true", "7", "-7", "0.5", "[a]", "{a: b}"])
def test_what_is_not_text_is_no_name(value: str) -> None:
    (fault,) = faults(HEAD + f"domains: [{{match: {{name: {value}}}, class: standard}}]\n")
    assert "domains.0.match.name" in fault


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file"), (b"version: \xff\xfe", "not UTF-8 text"), ("dir", "Is a directory")],
)
def test_unreadable_file(tmp_path: Path, content: bytes | str | None, why: str) -> None:
    path = tmp_path / "my policy.yaml"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "dir":
        path.mkdir()
    with pytest.raises(UsageError, match=why) as caught:
        loader.load(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint


def test_the_first_rule_that_matches_decides() -> None:
    policy = scenarios.policy(
        {
            "classes": {"gold": {}, "batch": {}},
            "domains": [
                {"match": {"name": "db-?"}, "class": "gold"},
                {"match": {"name": "db-*", "metadata": {"tier": "batch"}}, "class": "batch"},
            ],
        }
    )

    def chosen(name: str, **labels: str) -> str:
        return policy.class_of(scenarios.domain(name, labels=labels)).name

    assert chosen("db-1", tier="batch") == "gold"
    assert chosen("db-10", tier="batch") == "batch"
    assert chosen("db-10", tier="Batch") == "standard"
    assert chosen("DB-1") == "standard"  # libvirt's names are case-sensitive
    assert chosen("web") == "standard"
