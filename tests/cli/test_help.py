"""Every verb's help ends with examples, and each of them is a command that there is."""

from __future__ import annotations

import shlex
from types import SimpleNamespace

import click
import pytest
from pytest_mock import MockerFixture

from overcommit.cli import verb
from overcommit.cli.main import overcommitctl
from overcommit.errors import HostError

VERBS = sorted(name for name in overcommitctl.commands if name != "completion")
TAKE_A_DOMAIN = ("explain", "history", "prepare", "release", "status")


def examples_of(name: str) -> list[str]:
    """The example commands of a verb, without what is said of them."""
    epilog = overcommitctl.commands[name].epilog or ""
    return [line.split(" # ")[0].strip() for line in epilog.splitlines() if line.startswith("  ")]


@pytest.mark.parametrize("name", VERBS)
def test_each_verb_has_an_example_that_it_takes(name: str) -> None:
    examples = examples_of(name)
    assert examples
    for example in examples:
        program, called, *rest = shlex.split(example)
        assert (program, called) == ("overcommitctl", name)
        command = overcommitctl.commands[name]
        context = click.Context(command, info_name=name)
        command.make_parser(context).parse_args(list(rest))  # an option that there is not raises


@pytest.mark.parametrize("name", VERBS)
def test_examples_are_not_wrapped(name: str) -> None:
    """Click joins lines into paragraphs, unless it is told not to."""
    command = overcommitctl.commands[name]
    shown = command.get_help(click.Context(command, info_name=name))
    for line in (command.epilog or "").splitlines()[1:]:
        assert line.strip() in shown


@pytest.mark.parametrize("name", TAKE_A_DOMAIN)
def test_verbs_that_take_a_domain_complete_its_name(name: str, mocker: MockerFixture) -> None:
    libvirt = mocker.Mock()
    libvirt.defined_domains.return_value = [SimpleNamespace(name="web"), SimpleNamespace(name="kv")]
    mocker.patch.object(verb, "LibvirtClient", return_value=libvirt)
    command = overcommitctl.commands[name]
    argument = next(parameter for parameter in command.params if isinstance(parameter, click.Argument))
    context = click.Context(command, info_name=name)
    assert [item.value for item in argument.shell_complete(context, "")] == ["web", "kv"]
    assert [item.value for item in argument.shell_complete(context, "w")] == ["web"]
    assert libvirt.close.call_count == 2

    mocker.patch.object(verb, "LibvirtClient", side_effect=HostError("no libvirt"))
    assert argument.shell_complete(context, "") == []
