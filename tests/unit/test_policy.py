"""Policy files: what they mean, and where exactly they are wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from overcommit.errors import PolicyError, UsageError
from overcommit.model.policy import (
    Actuator,
    GuestHelp,
    ReclaimMode,
    Selector,
    ServiceObjective,
    SizeRange,
    SwapBudget,
)
from overcommit.policy import files, loader
from overcommit.units import GIB, MIB
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
  idle_tax: 50%
  ksm: true
  domain_overrides: [class, floor]
classes:
  gold: {floor: 90%, actuators: [free_page_reporting], guest_help: [compaction, damon_reclaim]}
  silver:
    floor: 50%
    cold_after: 5min
    step: 12.5%
    slo: {promotions: 0.2%/min, psi_some: 2%}
    weight: 2
domains:
  - match: {name: "db-*"}
    class: gold
  - match: {metadata: {tier: batch}, uuid: 5BA6B4E4-2B5E-4F0E-9D0E-0C1D2E3F4A5B}
    class: silver
  - match: {memory: ">=8GiB"}
    class: gold
  - match: {memory: [">2GiB", "<4GiB"]}
    class: gold
default_class: silver
"""


def faults(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        loader.parse(text, "p.yaml")
    lines = [str(fault) for fault in caught.value.faults]
    assert str(caught.value).splitlines() == lines
    return lines


def rule(match: str) -> str:
    return HEAD + f"domains: [{{match: {match}, class: standard}}]\n"


def test_everything_that_can_be_said() -> None:
    policy = loader.parse(FULL, "p.yaml")
    assert (policy.reserve, policy.max_overcommit) == (0.1, 2)
    assert policy.reclaim is ReclaimMode.ON_PRESSURE
    assert policy.cold_node == 1
    assert policy.swap.max_used == 0.4
    assert policy.swap.max_write_bytes_per_second == 20 * MIB
    gold, silver = policy.classes["gold"], policy.classes["silver"]
    assert gold.actuators == {Actuator.FREE_PAGE_REPORTING}
    assert gold.guest_help == set(GuestHelp)
    assert (silver.floor, silver.cold_after_seconds, silver.weight) == (0.5, 300, 2)
    assert (silver.step, silver.guest_help) == (0.125, frozenset())
    assert silver.actuators == set(Actuator)
    assert silver.objective == ServiceObjective(promotions_per_minute=0.002, psi_some=0.02)
    assert [rule.selector for rule in policy.rules] == [
        Selector(name="db-*"),
        Selector(uuid="5ba6b4e4-2b5e-4f0e-9d0e-0c1d2e3f4a5b", metadata={"tier": "batch"}),
        Selector(memory=SizeRange(8 * GIB)),
        Selector(memory=SizeRange(2 * GIB + 1, 4 * GIB - 1)),
    ]
    assert (policy.idle_tax, policy.ksm, policy.domain_overrides) == (
        0.5,
        True,
        frozenset({"class", "floor"}),
    )


def test_what_is_left_out_has_the_documented_defaults() -> None:
    policy = loader.parse(HEAD, "p.yaml")
    standard = policy.classes["standard"]
    assert (policy.reserve, policy.max_overcommit, policy.swap.max_used) == (0.08, 1.5, 0.6)
    assert policy.reclaim is ReclaimMode.PROACTIVE
    assert policy.cold_node is None
    assert (standard.floor, standard.cold_after_seconds, standard.weight) == (0.5, 300, 1)
    assert (standard.step, standard.guest_help) == (1.0, frozenset())
    assert (policy.idle_tax, policy.ksm, policy.domain_overrides) == (0.75, False, frozenset())
    assert standard.objective == ServiceObjective(promotions_per_minute=0.002, psi_some=0.01)
    assert policy.swap == SwapBudget(
        max_used=0.6,
        max_write_bytes_per_second=50 * MIB,
        max_write_bytes_per_day=100 * GIB,
        max_latency_seconds=0.02,
    )


def test_digest_changes_with_every_byte() -> None:
    digests = {loader.parse(text, "p").digest for text in (HEAD, HEAD + "\n", HEAD + "# why\n")}
    assert len(digests) == 3
    assert loader.parse(HEAD, "p").digest == loader.parse(HEAD, "q").digest


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_shipped_policies_are_valid(path: Path) -> None:
    assert loader.load(path).classes


def test_a_policy_is_shipped() -> None:
    assert "balanced.yaml" in {path.name for path in POLICIES}
    assert files.default_path().name in {"balanced.yaml", "policy.yaml"}


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
        (HEAD.replace("1", "true", 1), "p.yaml:1:10: version: input should be 1"),
        (HEAD.replace("1", "1.0", 1), "p.yaml:1:10: version: input should be 1"),
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
        (HEAD.replace("{}", "{cold_after: 0s}"), "p.yaml:3:26: classes.standard.cold_after: must be more"),
        (HEAD.replace("{}", "{cache_after: 4}"), "p.yaml:3:27: classes.standard.cache_after: needs a unit"),
        (
            HEAD.replace("{}", "{cache_after: ever}"),
            "p.yaml:3:27: classes.standard.cache_after: not a duration",
        ),
        (HEAD.replace("{}", "{step: 0%}"), "p.yaml:3:20: classes.standard.step: must be more than 0, not 0%"),
        (HEAD.replace("{}", "{step: 101%}"), "p.yaml:3:20: classes.standard.step: must be at most 100%"),
        (HEAD.replace("{}", "{step: 1}"), "p.yaml:3:20: classes.standard.step: needs a unit, like 25%"),
        (HEAD.replace("{}", "{guest_help: [prayer]}"), "p.yaml:3:27: classes.standard.guest_help.0: input"),
        (HEAD.replace("{}", "{guest_help: compaction}"), "p.yaml:3:26: classes.standard.guest_help: input"),
        (HEAD.replace("{}", "[]"), "p.yaml:3:13: classes.standard: must be a mapping of keys to values"),
        (HEAD + "host: {idle_tax: 100%}\n", "p.yaml:5:18: host.idle_tax: must be less than 100%, not 100%"),
        (HEAD + "host: {idle_tax: 0.75}\n", "p.yaml:5:18: host.idle_tax: needs a unit, like 75%"),
        (HEAD + "host: {ksm: yes}\n", "p.yaml:5:13: host.ksm: must be true or false"),
        (HEAD + "host: {domain_overrides: [flor]}\n", "p.yaml:5:27: host.domain_overrides.0: input should"),
        (HEAD + "host: {domain_overrides: class}\n", "p.yaml:5:26: host.domain_overrides: input should be"),
        (HEAD + f"host: {{reserve: {'9' * 400}%}}\n", "p.yaml:5:17: host.reserve: not a percentage"),
        (
            HEAD + f"host: {{swap: {{max_write: {'9' * 400}MiB/s}}}}\n",
            "p.yaml:5:26: host.swap.max_write: not a size",
        ),
        (HEAD.replace("  standard:", "  a b:"), "p.yaml:3:3: 'a b': not a name of a class"),
        (HEAD.replace("  standard:", '  "":'), "p.yaml:3:3: '': not a name of a class"),
        (HEAD.replace("  standard:", f"  {'x' * 65}:"), f"p.yaml:3:3: '{'x' * 65}': not a name of a class"),
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
        (rule("{name: ''}"), "p.yaml:5:26: domains.0.match.name: string should have at least 1 character"),
        (
            rule("{uuid: abc}"),
            "p.yaml:5:26: domains.0.match.uuid: not a UUID: 'abc' (write it like 5ba6b4e4-",
        ),
        (rule("{uuid: 7}"), "p.yaml:5:26: domains.0.match.uuid: not a UUID: 7"),
        (rule("{memory: 8GiB}"), "p.yaml:5:28: domains.0.match.memory: needs a comparison and a size, like"),
        (rule("{memory: 8}"), "p.yaml:5:28: domains.0.match.memory: needs a comparison and a size, like"),
        (rule("{memory: []}"), "p.yaml:5:28: domains.0.match.memory: needs a comparison and a size, like"),
        (rule("{memory: {a: b}}"), "p.yaml:5:28: domains.0.match.memory: needs a comparison and a size"),
        (rule("{memory: '>=8GB'}"), "p.yaml:5:28: domains.0.match.memory: not a size: '8GB'"),
        (rule("{memory: '==8GiB'}"), "p.yaml:5:28: domains.0.match.memory: needs a comparison"),
        (rule("{memory: ['>=1GiB', 7]}"), "p.yaml:5:28: domains.0.match.memory: needs a comparison"),
        (
            rule("{memory: ['>=8GiB', '<8GiB']}"),
            "p.yaml:5:28: domains.0.match.memory: no size is >=8GiB and <8GiB",
        ),
        (rule("{memory: '<0'}"), "p.yaml:5:28: domains.0.match.memory: no size is <0"),
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
            (
                "p.yaml:5:15: unknown key host.swap.zzz "
                "(known: max_used, max_write, max_write_per_day, max_latency)"
            ),
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
        (
            HEAD + "domains: [{match: {name: a}, class: gold}]\n",
            "p.yaml:5:37: no class 'gold' (known: standard)",
        ),
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
        (
            rule("{memory: >=8GiB}"),
            "p.yaml:5:28: found character that cannot start any token (what begins with > needs quotes",
        ),
        (
            "a:\n  memory: >8GiB\n",
            "p.yaml:2:13: did not find expected comment or line break (what begins with > needs quotes",
        ),
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
    [
        (None, "No such file"),
        (b"version: \xff\xfe", "not UTF-8 text"),
        ("dir", "it is a directory, no regular file"),
    ],
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


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [
        ('">=8GiB"', [8 * GIB, 9 * GIB], [8 * GIB - 1, 0]),
        ('">8GiB"', [8 * GIB + 1], [8 * GIB]),
        ('"<8GiB"', [8 * GIB - 1, 0], [8 * GIB]),
        ('"<= 8 GiB"', [8 * GIB], [8 * GIB + 1]),
        ('["<=0"]', [0], [1]),
        ('[">=1GiB", "<4GiB"]', [GIB, 4 * GIB - 1], [GIB - 1, 4 * GIB]),
        ('["<4GiB", "<=2GiB", ">0", ">=1MiB"]', [MIB, 2 * GIB], [MIB - 1, 2 * GIB + 1]),
    ],
)
def test_memory_is_matched_by_size(bounds: str, inside: list[int], outside: list[int]) -> None:
    (rule_,) = loader.parse(rule(f"{{memory: {bounds}}}"), "p").rules
    assert all(rule_.selector.matches(scenarios.domain(size=size)) for size in inside)
    assert not any(rule_.selector.matches(scenarios.domain(size=size)) for size in outside)


def test_a_uuid_matches_however_it_was_written() -> None:
    facts = scenarios.domain("web")
    text = facts.incarnation.uuid.upper()
    assert text != facts.incarnation.uuid
    (rule_,) = loader.parse(rule(f"{{uuid: {text}}}"), "p").rules
    assert rule_.selector.matches(facts)
    assert not rule_.selector.matches(scenarios.domain("db"))


@pytest.mark.parametrize(
    "name",
    ['it\'s "quoted"', "büro-Ω-桜", "a" * 200, "*?[x" * 50, "[z-a]", "[!", "[]", "\\", "a\nb", "\u202e"],
)
def test_any_text_is_a_glob(name: str) -> None:
    (rule_,) = loader.parse(rule(f"{{name: {json.dumps(name)}}}"), "p").rules
    assert rule_.selector.name == name
    assert not rule_.selector.matches(scenarios.domain("web"))
    if not set("*?[") & set(name):
        assert rule_.selector.matches(scenarios.domain(name))


def test_a_glob_of_asterisks_takes_no_time() -> None:
    (rule_,) = loader.parse(rule(f"{{name: '{'*a' * 100}'}}"), "p").rules
    assert not rule_.selector.matches(scenarios.domain("a" * 99 + "b"))


@pytest.mark.parametrize(
    "match", ["{}", '{name: "*"}', '{name: "**", metadata: {}}', '{memory: ">=0"}', "{name: null}"]
)
def test_a_rule_for_every_domain_is_what_default_class_is_for(match: str) -> None:
    assert faults(rule(match)) == [
        "p.yaml:5:19: domains.0.match: matches every domain: use default_class for all other domains"
    ]


def two_rules(first: str, second: str) -> str:
    lines = [f"  - {{match: {match}, class: standard}}\n" for match in (first, second)]
    return HEAD + "domains:\n" + "".join(lines)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{name: a}", "{name: a}"),
        ('{name: "db-*"}', '{name: "db-*", metadata: {tier: gold}}'),
        ('{name: "db-*"}', "{name: db-1}"),
        ("{metadata: {a: b}}", '{metadata: {c: d, a: b}, memory: "<1GiB"}'),
        ('{memory: "<8GiB"}', '{memory: [">1GiB", "<4GiB"]}'),
        (
            "{uuid: 5BA6B4E4-2B5E-4F0E-9D0E-0C1D2E3F4A5B}",
            "{uuid: 5ba6b4e4-2b5e-4f0e-9d0e-0c1d2e3f4a5b, name: a}",
        ),
    ],
)
def test_a_rule_that_can_never_apply_is_a_fault(first: str, second: str) -> None:
    assert faults(two_rules(first, second)) == [
        "p.yaml:7:13: domains.1.match: can never apply: the rule at line 6 matches the same domains first"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{name: a}", "{name: b}"),
        ("{name: db-1}", '{name: "db-*"}'),
        ('{name: "db-?"}', '{name: "db-*"}'),
        ('{name: "db-*", metadata: {tier: gold}}', '{name: "db-*"}'),
        ("{metadata: {a: b}}", "{metadata: {a: c}}"),
        ('{memory: "<8GiB"}', '{memory: "<=8GiB"}'),
        ('{memory: ">=8GiB"}', "{name: a}"),
    ],
)
def test_rules_that_can_apply_are_no_fault(first: str, second: str) -> None:
    assert len(loader.parse(two_rules(first, second), "p.yaml").rules) == 2


def test_a_fault_is_one_line_whatever_the_file_contains() -> None:
    assert faults(HEAD + '"a\\nb\\e[1m": 1\n') == [
        "p.yaml:5:1: unknown key a\\nb\\x1b[1m (known: version, host, classes, domains, default_class)"
    ]
