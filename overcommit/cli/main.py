"""The ``overcommitctl`` program: its verbs, and how errors are shown."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from types import FrameType

import click
from click.shell_completion import get_completion_class, shell_complete

from overcommit import __version__
from overcommit.cli.apply import apply
from overcommit.cli.console import fail
from overcommit.cli.doctor import doctor
from overcommit.cli.explain import explain
from overcommit.cli.history import history
from overcommit.cli.pause import pause, resume
from overcommit.cli.plan import plan
from overcommit.cli.prepare import prepare
from overcommit.cli.release import release
from overcommit.cli.report import report
from overcommit.cli.reserve import reserve
from overcommit.cli.restore import restore
from overcommit.cli.service import service
from overcommit.cli.session import Interrupted
from overcommit.cli.status import status
from overcommit.cli.top import top
from overcommit.cli.validate import validate
from overcommit.cli.verb import examples
from overcommit.commands import OVERCOMMITCTL
from overcommit.control.naming import nearest
from overcommit.display import plain
from overcommit.errors import OvercommitError, UsageError, in_a_line

INTERRUPTED = 130
USAGE = UsageError.exit_code
_COMPLETE = "_OVERCOMMITCTL_COMPLETE"
"""The variable by which a shell's completion script asks for completions."""


class _Verbs(click.Group):
    """The verbs. For an unknown one the nearest is named."""

    def resolve_command(
        self, context: click.Context, arguments: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See `click.Group.resolve_command`."""
        word = arguments[0]
        if word.startswith("-") or self.get_command(context, word) is not None:
            return super().resolve_command(context, arguments)
        near = nearest(word, self.list_commands(context))
        hint = f"did you mean {near}?" if near else f"verbs: {', '.join(self.list_commands(context))}"
        raise UsageError(f"No such command {word!r}", hint=hint)


_HELP = ["-h", "--help"]


@click.group(cls=_Verbs, context_settings={"help_option_names": _HELP})
@click.version_option(__version__, prog_name=OVERCOMMITCTL)
def overcommitctl() -> None:
    """Take back guest memory that is not in use, verify what the host got, and undo all of it.

    Start with: overcommitctl doctor, then plan, then apply.
    """


@overcommitctl.command(
    epilog=examples(
        "overcommitctl completion bash > /etc/bash_completion.d/overcommitctl",
        "overcommitctl completion fish > ~/.config/fish/completions/overcommitctl.fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL. Packages of distributions install it by themselves."""
    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"no completion for {shell}")
    script = kind(overcommitctl, {}, OVERCOMMITCTL, _COMPLETE).source()
    # zsh loads a file of completions when it is first needed, and calls it by its name from then on. Click's
    # script knows the first call alone: the second one completed nothing.
    click.echo(script.replace("$zsh_eval_context[-1] == loadautofunc", f"$funcstack[1] == _{OVERCOMMITCTL}"))


for _verb in (
    doctor,
    prepare,
    plan,
    explain,
    apply,
    status,
    top,
    pause,
    resume,
    history,
    report,
    reserve,
    release,
    restore,
    validate,
    service,
):
    overcommitctl.add_command(_verb)
for _verb in overcommitctl.commands.values():
    # Click makes a command's help option once, for whoever asks first: a context of the program or another.
    _verb.context_settings.setdefault("help_option_names", _HELP)


_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """End through every ``finally`` that returns DAMON, and ignore further signals meanwhile."""
    for ending in _ENDINGS:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def _show(error: click.ClickException) -> None:
    """Show the error as click does, with what was typed on separate lines."""
    said = io.StringIO()
    error.show(file=said)
    for line in said.getvalue().splitlines():
        click.echo(plain(line), err=True)


def _tell_unforeseen(error: Exception) -> None:
    """Show an unexpected error in a line."""
    if "--debug" in sys.argv:
        raise error
    said = in_a_line(error)
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename or 'the host'}: {error.strerror}"
    fail([said], "run the same command with --debug to see where")


def main() -> None:
    """Run, and end with one of the documented exit statuses."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # as stderr: a letter that the terminal has not is escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    for ending in _ENDINGS:
        signal.signal(ending, _terminate)
    if asked := os.environ.get(_COMPLETE):
        sys.exit(shell_complete(overcommitctl, {}, OVERCOMMITCTL, _COMPLETE, asked))
    try:
        with overcommitctl.make_context(OVERCOMMITCTL, sys.argv[1:]) as root:
            overcommitctl.invoke(root)
    except OvercommitError as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        fail(error.lines, error.hint)
        sys.exit(error.exit_code)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.ClickException as error:
        _show(error)
        sys.exit(USAGE)
    except Interrupted as error:
        fail(["interrupted; DAMON was released"], error.hint)
        sys.exit(INTERRUPTED)
    except (KeyboardInterrupt, click.Abort):
        fail(["interrupted"], None)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has gone; DAMON was given back on the way here.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OvercommitError.exit_code)
    except Exception as error:  # noqa: BLE001 - a fault of the host's, or of ours
        _tell_unforeseen(error)
        sys.exit(OvercommitError.exit_code)
