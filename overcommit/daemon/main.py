"""The ``overcommitd`` program: its options, its start, and how it ends.

First its signals are blocked. Then the worker is forked, while only what it needs is loaded. The rest
follows.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from overcommit.damon.worker import DamonWorker
from overcommit.errors import HostError, OvercommitError, Unsupported
from overcommit.host.kernel import LocalKernel
from overcommit.program import end, lines_of, option_parser

PROGRAM = "overcommitd"
_ENDINGS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""The signals that `overcommit.daemon.wakes.LocalWakes` handles later."""
_DESCRIPTION = """\
Keep the host at its target by its policy, until it is stopped.

It reads the host every few seconds, gives memory back to guests that are short, and takes idle memory
within the SLO of each domain. It reads the policy again on SIGHUP, and when the file changes. To see its
state: overcommitctl status.

When it is stopped, DAMON is put back; balloons, memory devices, KSM and settings inside of guests stay as
they are. When it crashes or is killed, DAMON stays as well. overcommitctl restore puts back all of these. The
unit of overcommitctl service runs it after every end. What is in swap stays there until its guest uses it.
"""


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed options.

    Raises:
        UsageError: an option is not known, or its value is invalid.
    """
    parser = option_parser(PROGRAM, _DESCRIPTION)
    parser.add_argument(
        "--connect", default="qemu:///system", metavar="URI", help="Libvirt URI. [default: %(default)s]"
    )
    parser.add_argument(
        "--policy",
        type=Path,
        metavar="PATH",
        help="Policy file. [default: /etc/overcommit/policy.yaml, else the shipped balanced.yaml]",
    )
    parser.add_argument("--observe", action="store_true", help="Watch and plan only; change nothing.")
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="Turn off kernel modules that use DAMON (damon_stat), and turn them on again at the end.",
    )
    parser.add_argument(
        "--group",
        metavar="NAME",
        help="Members of this group may give orders, like root. [default: overcommit, if that group exists]",
    )
    return parser.parse_args(arguments)


def overcommitd(arguments: Sequence[str]) -> None:
    """Run until a signal stops it.

    Raises:
        Unsupported: this is not root.
        OvercommitError: it cannot start, or cannot continue.
    """
    options = options_of(arguments)
    if os.geteuid() != 0:
        raise Unsupported(
            "this needs root: only root may use DAMON and read QEMU's memory map", hint="run it with sudo"
        )
    # A signal that comes early is held until there is a handler, because DAMON may be half returned then.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    gc.collect()
    gc.freeze()  # what the two processes share stays shared: collecting would write to all of it
    worker = DamonWorker(LocalKernel())  # it forks, so it comes first
    try:
        from overcommit.daemon.service import Options, serve

        serve(Options(**vars(options)), worker)
    finally:
        worker.close()


def main() -> None:
    """Run, and end with one of the documented exit statuses."""
    try:
        overcommitd(sys.argv[1:])
    except OvercommitError as error:
        _end(error)
    except OSError as error:
        _end(HostError(f"{error.filename or 'the host'}: {error.strerror}"))


def _end(error: OvercommitError) -> NoReturn:
    """Exit with the error's status; in the journal the error is an event like any other."""
    from overcommit.daemon.journald import last_words, stderr_is_journal
    from overcommit.model import events

    if not stderr_is_journal(os.environ):
        end(error)
    for line in lines_of(error):
        last_words(events.failed(line, error.exit_code))
    sys.exit(error.exit_code)
