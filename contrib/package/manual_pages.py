"""Write the manual pages of overcommitctl and its verbs, from the program's own help, into a directory.

python3 contrib/package/manual_pages.py DIRECTORY
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click_man.core import write_man_pages

from overcommit import __version__
from overcommit.cli.main import overcommitctl

PROGRAM = "overcommitctl"
SECTION = 8
"""For commands of the administrator. click-man writes section 1."""


def main(target: Path) -> None:
    """Write one page for the program and one for each verb, with the examples that their help has."""
    write_man_pages(PROGRAM, overcommitctl, version=__version__, target_dir=str(target))
    context = click.Context(overcommitctl)
    for page in target.glob("*.1"):
        verb = page.stem.removeprefix(PROGRAM).removeprefix("-")
        command = overcommitctl.get_command(context, verb) if verb else overcommitctl
        assert command is not None, page
        text = _with_examples(_with_whole_name(page, command), command)
        title, rest = text.split("\n", 1)
        title = title.replace('"1"', f'"{SECTION}"', 1)
        page.with_suffix(f".{SECTION}").write_text(f"{title}\n{rest}")
        page.unlink()


def _with_whole_name(page: Path, command: click.Command) -> str:
    """The page, with a line under NAME that is not cut short."""
    before, name, after = page.read_text().partition(".SH NAME\n")
    line, rest = after.split("\n", 1)
    title = line.split(r" \- ", 1)[0]
    return rf"{before}{name}{title} \- {_escaped(command.get_short_help_str(limit=300))}" + f"\n{rest}"


def _with_examples(page: str, command: click.Command) -> str:
    """The page, with what follows the help: click-man leaves that out."""
    _, heading, examples = (command.epilog or "").partition("Examples:\n")
    if not heading:
        return page
    lines = "\n".join(_escaped(line.strip()) for line in examples.splitlines())
    return f"{page.rstrip()}\n.SH EXAMPLES\n.nf\n{lines}\n.fi\n"


def _escaped(text: str) -> str:
    r"""As troff prints it: a backslash is \e, a dash that is pasted \-, and a dot begins no command."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    main(Path(sys.argv[1]))
