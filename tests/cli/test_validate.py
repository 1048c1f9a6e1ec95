"""``validate``: what a policy says, and where it is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.policy import files
from tests.cli.conftest import Ended, Run

USAGE = 64
POLICY = """\
version: 1
host: {domain_overrides: [guest_help, class]}
classes:
  gold: {floor: 90%, actuators: [free_page_reporting]}
  standard: {step: 12.5%}
  none: {actuators: []}
domains:
  - {match: {name: "db-'*"}, class: gold}
  - {match: {metadata: {tier: a b}, memory: [">=8GiB", "<32GiB"]}, class: gold}
  - {match: {uuid: 5BA6B4E4-2B5E-4F0E-9D0E-0C1D2E3F4A5B}, class: none}
  - {match: {memory: ">512MiB"}, class: gold}
  - {match: {memory: "<=100MiB"}, class: gold}
default_class: standard
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def beside(policy: Path, text: str) -> Path:
    path = policy.with_suffix(".d") / "10-night.yaml"
    path.parent.mkdir()
    path.write_text(f"version: 1\n{text}")
    return path


def test_a_valid_policy_in_short(run: Run, policy: Path) -> None:
    override = beside(policy, "host: {reserve: 9%}\n")
    assert run("validate", policy) == Ended(
        0,
        f"""\
{policy}: valid
  changed by {override}

  class     floor  cold after  cache after   step  promotions  PSI some  actuators
  gold        90%           -            -   100%           -         -  free_page_reporting
  standard    50%        5min           4h  12.5%    0.2%/min        1%  free_page_reporting, virtio_mem, \
balloon, demotion, pageout
  none        50%           -            -   100%           -         -  none

  1. name "db-'*": gold
  2. metadata 'tier' is 'a b', memory >= 8.0 GiB and < 32.0 GiB: gold
  3. uuid 5ba6b4e4-2b5e-4f0e-9d0e-0c1d2e3f4a5b: none
  4. memory > 512 MiB: gold
  5. memory <= 100 MiB: gold
  all others: standard
  labels of a domain may change: class, guest_help
""",
        "",
    )


def test_without_a_file_it_is_the_hosts_own(run: Run, policy: Path, mocker: MockerFixture) -> None:
    mocker.patch.object(files, "DEFAULT_FILE", policy)
    ended = run("validate")
    assert ended.status == 0
    assert ended.out.startswith(f"{policy}: valid\n")
    mocker.patch.object(files, "DEFAULT_FILE", policy.with_name("none.yaml"))
    ended = run("validate")
    assert ended.out.splitlines()[0].endswith("balanced.yaml: valid")
    assert ended.out.endswith("  all domains: standard\n")


def test_warnings_are_said_and_pass(run: Run, policy: Path) -> None:
    override = beside(policy, "classes:\n  gold: {cold_after: 1h}\nhost: {pageout_actor: damos-paddr}\n")
    ended = run("validate", policy)
    assert ended.status == 0
    assert ended.err == (
        f"{override}:3:22: warning: classes.gold.cold_after: the class uses neither pageout nor demotion\n"
    )


def test_strict_lets_no_warning_pass(run: Run, policy: Path) -> None:
    assert run("validate", "--strict", policy).status == 0
    beside(policy, "classes: {gold: {cold_after: 1h}}\n")
    ended = run("validate", "--strict", policy)
    assert ended.status == USAGE
    assert ended.err.splitlines()[1:] == ["error: 1 warning: --strict treats warnings as faults"]
    assert run("validate", "--strict", "--json", policy).status == USAGE


def test_a_valid_policy_for_programs(run: Run, policy: Path) -> None:
    override = beside(policy, "classes: {gold: {cold_after: 1h}}\n")
    ended = run("validate", "--json", policy)
    assert (ended.status, ended.err) == (0, "")
    found = json.loads(ended.out)
    assert list(found) == ["valid", "files", "classes", "warnings", "faults"]
    assert (found["valid"], found["faults"]) == (True, [])
    assert found["files"] == [str(policy), str(override)]
    assert found["classes"][0] == {
        "name": "gold",
        "floor": 0.9,
        "cold_after_seconds": 3600,
        "cache_after_seconds": 14400,
        "weight": 1.0,
        "step": 1.0,
        "promotions_per_minute": pytest.approx(0.002),
        "psi_some": 0.01,
        "actuators": ["free_page_reporting"],
        "guest_help": [],
    }
    assert found["warnings"] == [
        {
            "file": str(override),
            "line": 2,
            "column": 30,
            "message": "classes.gold.cold_after: the class uses neither pageout nor demotion",
        }
    ]


def test_faults_for_programs(run: Run, policy: Path) -> None:
    override = beside(policy, "host: {reserve: 8}\n")
    ended = run("validate", "--json", policy)
    assert (ended.status, ended.err) == (USAGE, "")
    assert json.loads(ended.out) == {
        "valid": False,
        "files": [str(policy), str(override)],
        "classes": [],
        "warnings": [],
        "faults": [
            {
                "file": str(override),
                "line": 2,
                "column": 17,
                "message": "host.reserve: needs a unit, like 8%",
            }
        ],
    }


def test_a_file_that_is_not_there_is_no_document(run: Run, tmp_path: Path) -> None:
    ended = run("validate", "--json", tmp_path / "none.yaml")
    assert (ended.status, ended.out) == (USAGE, "")
    assert "cannot read the policy" in ended.err


def test_the_schema_is_printed_for_an_editor(run: Run, policy: Path) -> None:
    ended = run("validate", "--schema")
    assert (ended.status, ended.err) == (0, "")
    assert json.loads(ended.out)["properties"]["version"]["const"] == 1
    assert run("validate", "--schema", policy).status == USAGE


def test_other_verbs_read_the_overrides_too(run: Run, policy: Path) -> None:
    override = beside(policy, "host: {reserve: 8}\n")
    ended = run("status", "--policy", policy)
    assert ended.status == USAGE
    assert ended.err == f"error: {override}:2:17: host.reserve: needs a unit, like 8%\n"
