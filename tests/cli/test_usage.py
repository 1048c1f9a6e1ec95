"""What the operator gets back for what they type: help, exit statuses, one line per error."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit import __version__
from overcommit.cli.main import overcommitctl
from overcommit.plan import document
from overcommit.plan.planner import make_plan
from tests import scenarios
from tests.cli.conftest import Ended, Run

VERBS = sorted(overcommitctl.commands)
NEEDS_ROOT = ["plan", "explain", "apply", "status", "history", "reserve", "release", "restore"]
MUST_HAVE = {"apply": ["--yes"], "explain": ["web"], "reserve": ["1GiB"], "release": ["web"]}
REFUSED, UNSUPPORTED, USAGE = 4, 5, 64
POLICY = "version: 1\nclasses:\n  standard: {}\ndefault_class: standard\n"


def only_talk(ended: Ended) -> str:
    """An error speaks on stderr only, in lines for people."""
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert ended.err.endswith("\n")
    return ended.err


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_every_verb_has_help(run: Run, verb: str, option: str) -> None:
    ended = run(verb, option)
    assert ended.status == 0
    assert ended.err == ""
    assert ended.out.startswith(f"Usage: overcommitctl {verb}")
    assert len(ended.out.splitlines()[2].strip()) > 20, "what it does, in a sentence"
    for line in re.findall(r"^  (?:-\w, )?--[\w-]+.*$", ended.out, re.MULTILINE):
        assert re.search(r"\S {2,}\S|^ {2}\S+( \S+)?$", line), f"an option without a word about it: {line}"


def test_help_lists_the_verbs_and_where_to_start(run: Run) -> None:
    ended = run("--help")
    assert ended.status == 0
    assert all(re.search(rf"^  {verb} ", ended.out, re.MULTILINE) for verb in VERBS)
    assert "Start with: overcommitctl doctor" in ended.out


def test_version(run: Run) -> None:
    assert run("--version") == Ended(0, f"overcommitctl, version {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["dance"], "No such command 'dance'"),
        (["--frobnicate"], "No such option '--frobnicate'"),
        (["plan", "--frobnicate"], "No such option '--frobnicate'"),
        (["plan", "--observe-for", "5"], "not a duration: '5'"),
        (["plan", "--observe-for", "-5s"], "not a duration: '-5s'"),
        (["apply", "--observe-for", "soon"], "not a duration: 'soon'"),
        (["plan", "extra"], "unexpected extra argument"),
        (["plan", "--policy"], "requires an argument"),
        (["validate", "--schema", "--json"], "--schema stands alone"),
        (["restore", "zero"], "'zero' is not a valid integer"),
        (["restore", "0"], "0 is not in the range"),
        (["history", "-n", "0"], "0 is not in the range"),
        (["history", "--since", "tomorrow"], "not a time: 'tomorrow'"),
        (["history", "--since", "2999-01-01"], "2999-01-01 is in the future"),
        (["paln"], "did you mean plan?"),
        (["PLAN"], "did you mean plan?"),
        (["expain", "web"], "did you mean explain?"),
        (["hist"], "did you mean history?"),
        (["reserve", "--cancel", "0"], "0 is not in the range"),
        (["release"], "Missing argument 'DOMAIN'"),
        (["apply", "--wait", "--timeout", "soon"], "not a duration: 'soon'"),
        (["completion", "csh"], "'csh' is not one of"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_understood(run: Run, arguments: list[str], complaint: str) -> None:
    ended = run(*arguments)
    assert ended.status == USAGE
    assert complaint.replace("'", "") in only_talk(ended).replace("'", "")


def test_without_a_verb_there_is_help(run: Run) -> None:
    ended = run()
    assert ended.status == USAGE
    assert "Usage: overcommitctl" in ended.err + ended.out


@pytest.mark.parametrize(
    "verb", [["validate"], ["plan", "--policy"], ["apply", "--yes", "--policy"], ["status", "--policy"]]
)
def test_all_faults_of_a_policy_with_their_places(run: Run, policy_file: Path, verb: list[str]) -> None:
    policy_file.write_text(POLICY.replace("{}", "{flor: 1%}") + "host: {reserve: 8}\n")
    ended = run(*verb, policy_file)
    assert ended.status == USAGE
    assert only_talk(ended).splitlines() == [
        f"error: {policy_file}:3:14: unknown key classes.standard.flor (did you mean floor?)",
        f"error: {policy_file}:5:17: host.reserve: needs a unit, like 8%",
    ]


@pytest.mark.parametrize("verb", [["validate"], ["plan", "--policy"]])
def test_a_missing_policy(run: Run, tmp_path: Path, verb: list[str]) -> None:
    ended = run(*verb, tmp_path / "none.yaml")
    assert ended.status == USAGE
    first, hint = only_talk(ended).splitlines()
    assert first == f"error: cannot read the policy {tmp_path}/none.yaml: No such file or directory"
    assert hint.startswith("hint:  ")


@pytest.mark.parametrize(
    ("content", "status", "complaint"),
    [
        (None, USAGE, "cannot read the plan"),
        (b"\xff\xfe", USAGE, "not text"),
        (b"hello", USAGE, "is not a saved plan"),
        (b'{"kind": "status"}', USAGE, "is not a plan but a status"),
    ],
    ids=["missing", "binary", "text", "another document"],
)
def test_what_is_not_a_saved_plan(
    run: Run, tmp_path: Path, content: bytes | None, status: int, complaint: str
) -> None:
    file = tmp_path / "p.json"
    if content is not None:
        file.write_bytes(content)
    ended = run("apply", file)
    assert ended.status == status
    assert complaint in only_talk(ended)


def test_a_tampered_plan_is_refused(run: Run, tmp_path: Path) -> None:
    plan = make_plan(scenarios.snapshot(scenarios.host()), {}, scenarios.policy())
    data = json.loads(document.dumps(plan))
    data["expires_at"] += 3600
    (tmp_path / "p.json").write_text(json.dumps(data))
    ended = run("apply", "--yes", tmp_path / "p.json")
    assert ended.status == REFUSED
    assert "was changed after it was written" in only_talk(ended)
    assert f"hint:  overcommitctl plan -o {tmp_path}" in ended.err


@pytest.mark.parametrize("verb", NEEDS_ROOT)
def test_not_root(run: Run, state: Path, mocker: MockerFixture, verb: str) -> None:
    mocker.patch("os.geteuid", return_value=1000)
    ended = run(verb, *MUST_HAVE.get(verb, ()))
    assert ended.status == UNSUPPORTED
    assert only_talk(ended).splitlines() == [
        "error: this needs root: only root may use DAMON and read QEMU's memory map",
        "hint:  run it with sudo",
    ]
    assert not state.exists()


@pytest.mark.parametrize("uri", ["test:///default", "qemu+ssh://kvm2/system"])
def test_another_host_cannot_be_managed(run: Run, mocker: MockerFixture, uri: str) -> None:
    mocker.patch("os.geteuid", return_value=0)
    ended = run("status", "--connect", uri)
    assert ended.status == USAGE
    assert f"cannot manage {uri}" in only_talk(ended)


def test_traceback_only_on_request(run: Run, tmp_path: Path) -> None:
    ended = run("plan", "--debug", "--policy", tmp_path / "none.yaml")
    assert ended.status == USAGE
    assert "Traceback" in ended.err
    assert ended.err.splitlines()[-2].startswith("error: cannot read the policy")


def test_an_unforeseen_failure_of_the_host_is_one_line_too(run: Run, mocker: MockerFixture) -> None:
    failure = OSError(5, "Input/output error", "/proc/meminfo")
    mocker.patch("overcommit.host.kernel.LocalKernel.read", side_effect=failure)
    ended = run("doctor")
    assert ended.status == 1
    assert "error: /proc/meminfo: Input/output error" in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("verb", ["plan", "validate"])
def test_a_fault_of_ours_is_one_line_too(run: Run, mocker: MockerFixture, verb: str) -> None:
    mocker.patch("overcommit.policy.files.read_all", side_effect=ValueError("a\nb"))
    ended = run(verb)
    assert ended.status == 1
    error, hint = only_talk(ended).splitlines()
    assert error.startswith("error: unexpected ValueError at overcommit/")
    assert error.endswith(": a?b")
    assert hint == "hint:  run the same command with --debug to see where"
    with pytest.raises(ValueError, match="a\nb"):
        run(verb, "--debug")


def test_a_terminal_without_a_letter_is_shown_its_number(tmp_path: Path) -> None:
    policy = tmp_path / "日.yaml"
    policy.write_text(POLICY)
    program = [sys.executable, "-c", "from overcommit.cli.main import main; main()", "validate", str(policy)]
    ended = subprocess.run(
        program, env={**os.environ, "PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"\\u65e5.yaml: valid" in ended.stdout


@pytest.mark.parametrize("verb", [["validate"], ["plan", "--policy"], ["apply", "--yes", "--policy"]])
@pytest.mark.parametrize("name", ["/", "", ".", ".."])
def test_a_directory_is_no_policy(run: Run, verb: list[str], name: str) -> None:
    ended = run(*verb, name)
    assert ended.status == USAGE
    assert "it is a directory, no regular file" in only_talk(ended)


def test_ctrl_c(run: Run, mocker: MockerFixture) -> None:
    mocker.patch("overcommit.policy.files.read_all", side_effect=KeyboardInterrupt)
    for verb in ("plan", "validate"):
        ended = run(verb)
        assert ended.status == 130
        assert only_talk(ended) == "error: interrupted\n", "nothing had been touched"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(run: Run, shell: str) -> None:
    ended = run("completion", shell)
    assert ended.status == 0
    assert "_OVERCOMMITCTL_COMPLETE" in ended.out
    interpreter = shutil.which(shell)
    if interpreter is None:
        pytest.skip(f"{shell} is not installed: its syntax cannot be checked")
    checked = subprocess.run(
        [interpreter, "-n"], input=ended.out, text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def complete(line: str) -> list[str]:
    """What the shell is offered for the last word, from a process of its own as the script starts it."""
    words = line.split(" ")
    asked = {
        "_OVERCOMMITCTL_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    program = "import sys; sys.argv = ['overcommitctl']; from overcommit.cli.main import main; main()"
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **asked},
        text=True,
        capture_output=True,
        check=True,
    )
    return [offered.partition(",")[2] for offered in answer.stdout.splitlines()]


def test_zsh_completes_each_time(run: Run) -> None:
    """integration/suite/test_package.py has zsh do it."""
    script = run("completion", "zsh").out
    assert "if [[ $funcstack[1] == _overcommitctl ]]; then" in script
    assert "loadautofunc" not in script.replace("# autoload", "")


def test_completion_offers_verbs() -> None:
    assert complete("overcommitctl ") == VERBS
    assert complete("overcommitctl do") == ["doctor"]


def test_completion_offers_options() -> None:
    assert complete("overcommitctl plan --det") == ["--detailed-exitcode"]
