"""The ``overcommitd`` program: options, the real ports, and how it begins and ends."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from datetime import datetime
from pathlib import Path

import click

from overcommit import __version__
from overcommit.clock import SystemClock
from overcommit.control import Control
from overcommit.daemon.controller import Controller
from overcommit.daemon.footing import Footing
from overcommit.daemon.listening import socket_path
from overcommit.daemon.loop import Loop
from overcommit.daemon.notify import ServiceManager
from overcommit.daemon.peers import find_group
from overcommit.daemon.policy_file import PolicyFile
from overcommit.daemon.socket import ControlServer
from overcommit.daemon.wakes import LocalWakes
from overcommit.damon.pool import require_free
from overcommit.damon.worker import DamonWorker
from overcommit.errors import HostError, OvercommitError, Unsupported, UsageError
from overcommit.host.kernel import LocalKernel
from overcommit.host.triggers import LocalTriggers
from overcommit.hypervisor.reconnecting import ReconnectingLibvirt
from overcommit.journal import DEFAULT_DIRECTORY, Journal
from overcommit.ledger import Ledger

PROGRAM = "overcommitd"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM)
@click.option("--connect", default="qemu:///system", show_default=True, help="Libvirt URI.")
@click.option(
    "--policy",
    "policy_path",
    type=click.Path(path_type=Path),
    help="Policy file. [default: /etc/overcommit/policy.yaml, else the shipped balanced.yaml]",
)
@click.option("--observe", is_flag=True, help="Watch and plan, and change nothing.")
@click.option(
    "--take-over",
    is_flag=True,
    help="Turn off kernel modules that keep DAMON to themselves (damon_stat); back on at the end.",
)
@click.option(
    "--group",
    default=None,
    metavar="NAME",
    help="Its members may give orders, as root may. [default: overcommit, where there is such a group]",
)
def overcommitd(
    *, connect: str, policy_path: Path | None, observe: bool, take_over: bool, group: str | None
) -> None:
    """Keep the host at its target by its policy, until it is stopped.

    It looks every few seconds, gives back to guests that are short, and takes idle memory as long as each
    domain stays within what its class allows. SIGHUP or a change of the file has it read the policy again.
    Ask it by overcommitctl status. When it ends DAMON is given back; what guests gave stays, until
    overcommitctl restore.
    """
    if os.geteuid() != 0:
        raise Unsupported("this needs root: DAMON and QEMU's memory map are root's", hint="try sudo")
    say = _say_to_journal if "JOURNAL_STREAM" in os.environ else _say
    gc.collect()
    gc.freeze()  # what the two processes share stays shared: collecting would write to all of it
    kernel = DamonWorker(LocalKernel())  # it forks, so it comes first
    with contextlib.ExitStack() as ending:
        ending.callback(kernel.close)
        clock = SystemClock()
        directory = Path(os.environ.get("OVERCOMMIT_STATE_DIR", DEFAULT_DIRECTORY))
        control = Control(
            kernel=kernel,
            clock=clock,
            journal=Journal(directory),
            ledger=Ledger(directory, warn=say),
            say=say,
        )
        policy_file = PolicyFile(policy_path)
        members = find_group(group)
        if not control.left_in_damon():
            require_free(kernel, take_over=take_over)
        generation = ending.enter_context(control.generation("daemon"))
        wakes = LocalWakes(LocalTriggers(), policy_state=policy_file.state, say=say, worker=kernel.pid)
        ending.callback(wakes.close)
        hypervisor = ReconnectingLibvirt(connect, read_only=observe, clock=clock, notify=wakes.put)
        ending.callback(hypervisor.close)
        controller = Controller(
            control,
            hypervisor,
            generation,
            policy_file,
            footing=Footing(observe_only=observe),
            take_over=take_over,
            say=say,
        )
        ending.callback(controller.close, "overcommitd is stopping")
        server = ControlServer(socket_path(os.environ), members, wakes.poke)
        ending.callback(server.close)
        Loop(control, controller, wakes, server, ServiceManager(clock, os.environ), say=say).run()


def _say(sentence: str) -> None:
    print(f"{datetime.now().astimezone():%H:%M:%S} {sentence}", file=sys.stderr, flush=True)


def _say_to_journal(sentence: str) -> None:
    """It has the time itself."""
    print(" ".join(sentence.splitlines()), file=sys.stderr, flush=True)


def main() -> None:
    """Run, and end with one of the documented exit statuses."""
    try:
        overcommitd.main(prog_name=PROGRAM, standalone_mode=False)
    except OvercommitError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        if error.hint:
            print(f"hint:  {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(UsageError.exit_code)
    except click.Abort:
        sys.exit(130)
    except OSError as error:
        print(f"error: {error.filename or 'the host'}: {error.strerror}", file=sys.stderr)
        sys.exit(HostError.exit_code)
