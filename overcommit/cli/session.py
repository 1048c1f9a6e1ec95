"""The options of every verb, and the real ports."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import tenacity

from overcommit.cli.console import MessageConsole
from overcommit.cli.invoked import completed, invoked
from overcommit.clock import SystemClock
from overcommit.commands import DEFAULT_URI, Invocation
from overcommit.control.one_controller import MEND, Control
from overcommit.damon.worker import DamonWorker
from overcommit.errors import OvercommitError, Unsupported
from overcommit.host.kernel import LocalKernel
from overcommit.host.memory import read_boot_id
from overcommit.hypervisor.libvirt_client import LibvirtClient
from overcommit.hypervisor.port import Definitions, Hypervisor
from overcommit.model.policy import Policy
from overcommit.policy import loader
from overcommit.records.journal import DEFAULT_DIRECTORY, Generation, Journal
from overcommit.records.ledger import Ledger

_ATTEMPTS, _AGAIN_SECONDS = 7, 0.5
"""Libvirt may be away for three seconds. A restart of its daemon takes less (1.3 s, measured)."""


def _may_come_back(error: BaseException) -> bool:
    return isinstance(error, Unsupported) and not isinstance(error.__cause__, ImportError)


class Interrupted(KeyboardInterrupt):
    """The operator interrupted a verb that was the controller. Its DAMON slots were returned."""

    def __init__(self, *, hint: str | None) -> None:
        super().__init__()
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Control):
    """One run of a verb."""

    connect_uri: str
    policy_path: Path | None
    json: bool
    console: MessageConsole

    def policy(self) -> Policy:
        """The policy that was named, the host's own, or the shipped default."""
        return loader.load(self.policy_path)

    @contextmanager
    def generation(self, verb: str) -> Iterator[Generation]:
        """As `Control.generation`. An interruption says what is left."""
        number = None
        try:
            with Control.generation(self, verb) as generation:
                number = generation.number
                yield generation
        except (KeyboardInterrupt, click.Abort) as error:
            stays = any(entry.generation == number for entry in self.journal.outstanding())
            hint = "to undo what was done: overcommitctl restore" if stays else None
            raise Interrupted(hint=hint) from error

    def tell_damage(self) -> None:
        """Report lines of the undo journal that cannot be read, with a hint."""
        for fault in self.journal.faults(read_boot_id(self.kernel)):
            self.console.say(f"the undo journal is damaged: {fault}. No memory is taken. {MEND}")

    def hypervisor(self, *, read_only: bool) -> Hypervisor:
        """A connection to libvirt. It waits for one that is just being restarted.

        Raises:
            UsageError: the URI is not local QEMU.
            Unsupported: there is no libvirt binding, or libvirtd does not answer.
        """
        return self._connected(read_only=read_only)

    def definitions(self, *, read_only: bool) -> Definitions:
        """As `hypervisor`, to read or change persistent definitions."""
        return self._connected(read_only=read_only)

    def _connected(self, *, read_only: bool) -> LibvirtClient:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_may_come_back),
            wait=tenacity.wait_fixed(_AGAIN_SECONDS),
            stop=tenacity.stop_after_attempt(_ATTEMPTS),
            sleep=self.clock.wait,
            reraise=True,
        )
        return retrying(LibvirtClient, self.connect_uri, read_only=read_only)


def require_root() -> None:
    """Check for root, because DAMON, other processes' pagemaps and the pid files need it.

    Raises:
        Unsupported: this is not root.
    """
    if os.geteuid() != 0:
        raise Unsupported(
            "this needs root: only root may use DAMON and read QEMU's memory map", hint="run it with sudo"
        )


def verbose_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``-v`` to a verb whose tables leave something out."""
    return click.option("-v", "--verbose", is_flag=True, help="Show every detail.")(command)


def with_session(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the common options to a click command, with a `Session` as its first argument."""

    @click.option("--connect", default=DEFAULT_URI, show_default=True, help="Libvirt URI.")
    @click.option(
        "--policy",
        "policy_path",
        type=click.Path(path_type=Path),
        help="Policy file. [default: /etc/overcommit/policy.yaml, else the shipped balanced.yaml]",
    )
    @click.option("--json", "as_json", is_flag=True, help="Machine-readable output on stdout.")
    @click.option("-q", "--quiet", is_flag=True, help="No progress messages on stderr.")
    @click.option("--no-color", is_flag=True, help="No colours (also: NO_COLOR).")
    @click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback for errors.")
    @click.pass_context
    @functools.wraps(command)
    def wrapped(
        context: click.Context,
        /,
        connect: str,
        policy_path: Path | None,
        as_json: bool,
        quiet: bool,
        no_color: bool,
        **options: Any,
    ) -> Any:
        if no_color or os.environ.get("NO_COLOR"):
            context.color = False
        kernel = DamonWorker(LocalKernel())
        console = MessageConsole(quiet=quiet)
        directory = Path(os.environ.get("OVERCOMMIT_STATE_DIR", DEFAULT_DIRECTORY))
        session = Session(
            connect_uri=connect,
            policy_path=policy_path,
            json=as_json,
            console=console,
            kernel=kernel,
            clock=SystemClock(),
            journal=Journal(directory),
            ledger=Ledger(directory, warn=console.say),
            log=console,
        )
        policy = None if policy_path is None else as_word(policy_path)
        take_over = options.get("take_over", False)
        invoked(Invocation(connect_uri=connect, policy=policy, take_over=take_over))
        try:
            return command(session, **options)
        except (OvercommitError, Interrupted) as error:
            error.hint = completed(error.hint) if error.hint else None  # where it is shown, nobody knows more
            raise
        finally:
            console.done()
            kernel.close()

    return wrapped


def as_argument(word: str) -> tuple[str, ...]:
    """A word after a verb, written so that it is not taken for an option."""
    return ("--", word) if word.startswith("-") else (word,)


def as_word(path: Path) -> str:
    """A path as a word of a command, written so that it is not taken for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)
