"""Connects ``overcommitd`` to the real host, and disconnects it at the end."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from overcommit.clock import SystemClock
from overcommit.control.one_controller import Control
from overcommit.daemon.controller import Controller
from overcommit.daemon.event_log import EventLog
from overcommit.daemon.journald import writer
from overcommit.daemon.loop import Loop
from overcommit.daemon.minutes import Minutes
from overcommit.daemon.mode_state import ModeState
from overcommit.daemon.notify import ServiceManager
from overcommit.daemon.policy_file import PolicyFile
from overcommit.daemon.wakes import LocalWakes
from overcommit.damon.pool import require_free
from overcommit.damon.worker import DamonWorker
from overcommit.host.triggers import LocalTriggers
from overcommit.hypervisor.reconnecting import ReconnectingLibvirt
from overcommit.model import events
from overcommit.policy import reader_process
from overcommit.records.journal import DEFAULT_DIRECTORY, Journal
from overcommit.records.ledger import Ledger
from overcommit.records.series import Series
from overcommit.wire.listening import socket_path
from overcommit.wire.peers import find_group
from overcommit.wire.server import ControlServer

_TURN_SECONDS = 60.0
"""Shorter than systemd's start timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of ``overcommitd``; see its ``--help``."""

    connect: str
    policy: Path | None
    observe: bool
    take_over: bool
    group: str | None


def serve(options: Options, kernel: DamonWorker) -> None:
    """Run until a signal stops it, or the worker ends.

    Raises:
        OvercommitError: it cannot start, or cannot continue.
    """
    with contextlib.ExitStack() as ending:
        loop = _put_together(options, kernel, ending)
        gc.collect()
        gc.freeze()  # what is there now stays, and need not be gone through again and again
        loop.run()


def _put_together(options: Options, kernel: DamonWorker, ending: contextlib.ExitStack) -> Loop:
    clock = SystemClock()
    log = EventLog(writer(os.environ), clock.monotonic)
    ending.callback(log.close)
    directory = Path(os.environ.get("OVERCOMMIT_STATE_DIR", DEFAULT_DIRECTORY))
    control = Control(
        kernel=kernel,
        clock=clock,
        journal=Journal(directory),
        ledger=Ledger(directory, warn=lambda why: log.tell(events.history_fault(why)), repeats=True),
        log=log,
    )
    policy_file = PolicyFile(options.policy, reader_process.Reader)
    ending.callback(policy_file.close)
    members = find_group(options.group)
    wait_for_turn(control)
    if not control.left_in_damon():
        require_free(kernel, take_over=options.take_over)
    generation = ending.enter_context(control.generation("daemon"))
    wakes = LocalWakes(
        LocalTriggers(),
        policy_state=policy_file.state,
        say=lambda why: log.tell(events.pressure_fault(why)),
        worker=kernel.pid,
    )
    ending.callback(wakes.close)
    hypervisor = ReconnectingLibvirt(
        options.connect, read_only=options.observe, clock=clock, notify=wakes.put
    )
    ending.callback(hypervisor.close)
    controller = Controller(
        control,
        hypervisor,
        generation,
        policy_file,
        mode_state=ModeState(observe_only=options.observe),
        take_over=options.take_over,
    )
    ending.callback(controller.close, "overcommitd is stopping")
    server = ControlServer(
        socket_path(os.environ),
        members,
        wakes.poke,
        say=lambda why: log.tell(events.socket_fault(why)),
    )
    ending.callback(server.close)
    manager = ServiceManager(clock, os.environ)

    def lose(why: str) -> None:
        log.tell(events.history_fault(why))

    minutes = Minutes(Series(directory, warn=lose), clock, lose)
    ending.callback(minutes.close)
    loop = Loop(control, controller, hypervisor, wakes, server, manager)
    loop.keep(minutes)
    return loop


def wait_for_turn(control: Control) -> None:
    """Wait for a while for a running verb to end.

    After a refusal, systemd would not start the daemon again.

    Ends at once when the daemon is told to stop.
    """
    deadline = control.clock.monotonic() + _TURN_SECONDS
    said = False
    while (holder := control.journal.holder()) is not None and control.clock.monotonic() < deadline:
        if signal.sigpending():
            return
        if not said:
            control.log.tell(events.waiting(holder))
            said = True
        control.clock.wait(1.0)
