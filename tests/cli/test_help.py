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

VERBS = sorted(overcommitctl.commands)
SETTINGS = {"help_option_names": overcommitctl.context_settings["help_option_names"]}
TAKE_A_DOMAIN = ("explain", "history", "prepare", "release", "status")


def context_of(name: str) -> click.Context:
    """As the program makes it: click keeps what a verb's first context says of the help option."""
    return click.Context(
        overcommitctl.commands[name], info_name=name, parent=click.Context(overcommitctl, **SETTINGS)
    )


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
        command.make_parser(context_of(name)).parse_args(list(rest))  # an option that there is not raises


@pytest.mark.parametrize("name", VERBS)
def test_examples_are_not_wrapped(name: str) -> None:
    """Click joins lines into paragraphs, unless it is told not to."""
    command = overcommitctl.commands[name]
    shown = command.get_help(context_of(name))
    for line in (command.epilog or "").splitlines()[1:]:
        assert line.strip() in shown


@pytest.mark.parametrize("name", TAKE_A_DOMAIN)
def test_verbs_that_take_a_domain_complete_its_name(name: str, mocker: MockerFixture) -> None:
    libvirt = mocker.Mock()
    libvirt.defined_domains.return_value = [SimpleNamespace(name="web"), SimpleNamespace(name="kv")]
    mocker.patch.object(verb, "LibvirtClient", return_value=libvirt)
    command = overcommitctl.commands[name]
    argument = next(parameter for parameter in command.params if isinstance(parameter, click.Argument))
    context = context_of(name)
    assert [item.value for item in argument.shell_complete(context, "")] == ["web", "kv"]
    assert [item.value for item in argument.shell_complete(context, "w")] == ["web"]
    assert libvirt.close.call_count == 2

    mocker.patch.object(verb, "LibvirtClient", side_effect=HostError("no libvirt"))
    assert argument.shell_complete(context, "") == []
