"""What the documents say of the program and of each other is so."""

from __future__ import annotations

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from overcommit.cli.main import overcommitctl
from overcommit.daemon.main import options_of
from overcommit.errors import UsageError

CHECKOUT = Path(__file__).parent.parent
SAFETY = CHECKOUT / "docs/safety.md"
DOCUMENTS = [
    *sorted(CHECKOUT.glob("*.md")),
    *sorted((CHECKOUT / "docs").rglob("*.md")),
    *sorted(
        path
        for folder in ("contrib", "integration", "tests", "vagrant")
        for path in (CHECKOUT / folder).rglob("README.md")
    ),
]
CURRENT = [path for path in DOCUMENTS if path.parent.name != "adr"]

WIDTH = 120
LEAST_STEPS = 30
WORDS_OF_A_CELL = 30
README_LINES, README_CHARACTERS = 63, 4_335
"""A third of what it once was: the first screen and links."""


def name_of(path: Path) -> str:
    return str(path.relative_to(CHECKOUT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_every_command_of_a_document_can_be_typed(document: Path) -> None:
    wrong = {line: why for line in commands_in(document.read_text()) if (why := complaint(line))}
    assert not wrong


@pytest.mark.parametrize(
    "line",
    [
        "overcommitctl squeeze",
        "overcommitctl plan --fast",
        "overcommitctl service --install -- --fast",
        "overcommitd --fast",
        "make coffee",
        ".venv/bin/pytest tests/nowhere",
        "python -m integration.nowhere",
    ],
)
def test_a_command_that_cannot_be_typed_is_seen(line: str) -> None:
    assert commands_in(f"```\n{line}\n```\n") == [line]
    assert commands_in(f"Try `{line}`.") == [line]
    assert complaint(line)


@pytest.mark.parametrize("document", CURRENT, ids=name_of)
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    """Decisions (docs/adr) tell of their time."""
    lost = [name for name, within in files_in(document.read_text()) if not is_there(name, within)]
    assert not lost


def test_a_page_is_followed_through_names_that_are_there() -> None:
    named = files_in((CHECKOUT / "docs/follow-a-page.md").read_text())
    assert len([within for _, within in named if within]) > LEAST_STEPS
    assert not is_there("overcommit/plan/planner.py", "make_no_plan")
    assert not is_there("overcommit/damon/pool.py", "DamonPool.begin_nothing")
    assert not is_there("overcommit/plan/nowhere.py", "")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_a_document_is_no_wider_than_a_terminal(document: Path) -> None:
    """Tables and what is shown literally apart, which cannot be wrapped."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    long = [line for line in text.splitlines() if len(line) > WIDTH and not line.startswith("|")]
    assert not long


def test_the_program_says_what_troubleshooting_quotes() -> None:
    """Symptoms are looked up by the words that are on the screen."""
    page = (CHECKOUT / "docs/troubleshooting.md").read_text()
    quoted = re.findall(r'^## .*?"([^"]+)"', page, re.MULTILINE)
    assert quoted
    said = [text for path in (CHECKOUT / "overcommit").rglob("*.py") for text in literals(path)]
    assert [quote for quote in quoted if not any(contains(text, quote) for text in said)] == []


def literals(path: Path) -> Iterator[str]:
    """Each string of a module, parts that are put together at run time as an ellipsis."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values
            )


def contains(text: str, quote: str) -> bool:
    rest = iter(range(len(text) + 1))
    return all(any(text.startswith(part, at) for at in rest) for part in map(str.strip, quote.split("...")))


def test_the_readme_is_short_and_has_the_two_commands() -> None:
    readme = (CHECKOUT / "README.md").read_text()
    assert len(readme.splitlines()) <= README_LINES
    assert len(readme) <= README_CHARACTERS
    assert {"make demo", "make test"} <= set(commands_in(readme))


def test_the_picture_of_the_layers_is_the_contract() -> None:
    architecture = (CHECKOUT / "docs/architecture.md").read_text()
    picture = re.search(r"^## The layers\n\n```\n(.*?)^```$", architecture, re.MULTILINE | re.DOTALL)
    assert picture
    contracts = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract.get("containers") == ["overcommit"]]
    assert [line.split("  ")[0] for line in picture[1].splitlines()] == layers


def test_the_architecture_names_every_package_and_is_brief() -> None:
    architecture = (CHECKOUT / "docs/architecture.md").read_text()
    packages = {path.parent.name for path in (CHECKOUT / "overcommit").glob("*/__init__.py")}
    assert packages <= set(re.findall(r"^\| `(\w+)/`", architecture, re.MULTILINE))
    cells = [cell for row in re.findall(r"^\|(.*)\|$", architecture, re.MULTILINE) for cell in row.split("|")]
    assert [cell for cell in cells if len(cell.split()) > WORDS_OF_A_CELL] == []


def test_every_module_that_the_architecture_names_is_there() -> None:
    architecture = (CHECKOUT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`(\w+/[\w/]+\.py)`", architecture))
    named |= {f"{path}.py" for path in re.findall(r"`((?:plan|control|slo|apply|daemon)/\w+)`", architecture)}
    assert named
    assert [path for path in sorted(named) if not (CHECKOUT / "overcommit" / path).exists()] == []


def test_every_decision_is_listed_in_the_architecture() -> None:
    architecture = (CHECKOUT / "docs/architecture.md").read_text()
    decisions = sorted((CHECKOUT / "docs/adr").glob("*.md"))
    listed = re.findall(r"\[(\d+) [^]]+\]\(adr/([^)]+)\)", architecture)
    assert listed == [(str(int(path.name[:4])), path.name) for path in decisions]


def test_every_test_that_the_safety_rules_name_exists() -> None:
    """A rule whose test was renamed or removed is held by nobody."""
    named = 0
    for rule in safety_rules():
        file = None
        for word in re.findall(r"`((?:tests|integration)/[\w/]+\.py|test_\w+)`", rule):
            if word.endswith(".py"):
                file = CHECKOUT / word
                assert file.is_file(), word
                continue
            assert file is not None, word
            assert word in functions_of(file), f"{file.name}: {word}"
            named += 1
    assert named > 50


def test_every_file_that_the_safety_rules_name_exists() -> None:
    product = [path.as_posix() for path in (CHECKOUT / "overcommit").rglob("*.py")]
    for rule in safety_rules():
        for name in re.findall(r"`([\w/]+\.py)`", rule):
            if not name.startswith(("tests/", "integration/")):
                assert any(path.endswith(f"/{name}") for path in product), name


def test_every_safety_rule_has_what_holds_it_and_tests() -> None:
    rules = [rule for rule in safety_rules() if rule.startswith("S")]
    assert [re.match(r"S(\d+)\.", rule) is not None for rule in rules] == [True] * 15
    for rule in rules:
        assert "- Held by: `" in rule, rule
        assert "- Tests: `" in rule, rule


def test_every_safety_rule_that_the_code_cites_is_defined() -> None:
    defined = set(re.findall(r"^## (S\d+)\. ", SAFETY.read_text(), re.MULTILINE))
    cited = set()
    for path in (CHECKOUT / "overcommit").rglob("*.py"):
        for rules in re.findall(r"\b[Rr]ules? (S\d+(?:(?:, | and | to )S\d+)*)", path.read_text()):
            cited.update(re.findall(r"S\d+", rules))
    assert len(cited) > 5
    assert cited <= defined


def safety_rules() -> list[str]:
    """The sections of the page, each without its ``##``; the first is what stands before the rules."""
    return re.split(r"^## ", SAFETY.read_text(), flags=re.MULTILINE)


def functions_of(file: Path) -> set[str]:
    tree = ast.parse(file.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def prose(document: Path) -> str:
    """Its text without what is shown literally, where brackets mean something else."""
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def headings(document: Path) -> set[str]:
    """What can follow the # of a link, made of the headings as forges make it."""
    found = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


PROGRAM = re.compile(
    r"(?:sudo )?(?:overcommitctl|overcommitd|make|(?:\.venv/bin/)?pytest|(?:\.venv/bin/)?python -m)\b"
)


def commands_in(text: str) -> list[str]:
    """Ours, out of blocks and of the running text, without the comment behind."""
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    running = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", running)]
    found = [re.sub(r"^\S*[#$] |\s+# .*$", "", line).strip() for line in lines]
    return [line for line in found if PROGRAM.match(line) and len(line.split()) > 1]


def complaint(line: str) -> str:
    """What is wrong with a command; empty when it can be typed."""
    program, *words = shlex.split(re.split(r"[;&|]", line.removeprefix("sudo "))[0])
    match program.rpartition("/")[2]:
        case "overcommitctl":
            return of_overcommitctl(words)
        case "overcommitd":
            return of_overcommitd(words)
        case "make":
            targets = re.findall(r"^([\w. -]+):(?!=)", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
            wanted = [word for word in words if "=" not in word]
            return "" if set(wanted) <= set(" ".join(targets).split()) else "no such target"
        case "pytest":
            paths = [word.partition("::")[0] for word in words if re.match(r"(tests|integration)\b", word)]
            return ", ".join(path for path in paths if not (CHECKOUT / path).exists())
        case _:
            module = words[1]
            path = CHECKOUT / module.replace(".", "/")
            is_ours = module.partition(".")[0] in {"integration", "tests"}
            return module if is_ours and not (path.with_suffix(".py").exists() or path.is_dir()) else ""


def of_overcommitctl(words: list[str]) -> str:
    if words[0].startswith("-"):
        return "" if words[0] in {"--help", "--version", "-h"} else words[0]
    if words[0] not in overcommitctl.commands:
        return f"unknown verb {words[0]}" if re.fullmatch(r"[a-z]+", words[0]) else ""
    verb = overcommitctl.commands[words[0]]
    own, _, passed_on = " ".join(words[1:]).partition(" -- ")
    known = {name for parameter in verb.params for name in (*parameter.opts, *parameter.secondary_opts)}
    wrong = [word for word in option_names(own) if word not in {*known, "--help", "-h"}]
    return ", ".join(wrong) or of_overcommitd(passed_on.split())


def of_overcommitd(words: list[str]) -> str:
    for word in option_names(" ".join(words)):
        try:
            options_of([word])
        except UsageError as error:
            if "expected one argument" not in str(error):
                return str(error)
        except SystemExit:  # --help and --version
            pass
    return ""


def option_names(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text)


def files_in(text: str) -> list[tuple[str, str]]:
    """Paths in backquotes that begin with a folder of the checkout, and the name that follows ::, if any."""
    running = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    folders = "overcommit|tests|integration|docs|vagrant|policies"
    found = re.findall(rf"`((?:{folders})/[\w./*-]+)(?:::([\w.]+))?`", running)
    return [(path.rstrip("/"), within) for path, within in found]


def is_there(path: str, within: str) -> bool:
    """Whether the file, or one that the pattern matches, exists and has a definition of that name."""
    if not within:
        return any(CHECKOUT.glob(path))
    if not (CHECKOUT / path).is_file():
        return False
    body: list[ast.stmt] = ast.parse((CHECKOUT / path).read_text()).body
    for name in within.split("."):
        definitions = [node for node in body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        inner = [node.body for node in definitions if node.name == name]
        if not inner:
            return False
        body = inner[0]
    return True
