"""Options and error endings of the programs without verbs."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from overcommit import __version__
from overcommit.display import plain
from overcommit.errors import OvercommitError, UsageError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """See `argparse.ArgumentParser.error`; with our exit status."""
        raise UsageError(message, hint=f"{self.prog} --help")


def option_parser(program: str, description: str) -> argparse.ArgumentParser:
    """A parser with ``--help`` and ``--version``, to which the program adds its own options.

    It raises invalid options as `UsageError`.
    """
    parser = _Parser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{program}, version {__version__}")
    return parser


def end(error: OvercommitError) -> NoReturn:
    """Print the error and its hint on stderr, and exit with the error's status."""
    for line in lines_of(error):
        print(line, file=sys.stderr)
    sys.exit(error.exit_code)


def lines_of(error: OvercommitError) -> list[str]:
    """The error as printable lines: one for each fault, and one for the hint."""
    hint = [f"hint:  {plain(error.hint)}"] if error.hint else []
    return [*(f"error: {plain(line)}" for line in error.lines), *hint]
