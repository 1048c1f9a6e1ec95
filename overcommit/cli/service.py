"""``overcommitctl service``: overcommitd as a systemd unit."""

from __future__ import annotations

import importlib.resources
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from overcommit.cli.console import tell
from overcommit.cli.doing import agreed
from overcommit.cli.session import Session, with_session
from overcommit.cli.verb import examples
from overcommit.commands import OVERCOMMITCTL
from overcommit.damon.owners import Owner, find_owners
from overcommit.damon.sysfs import DamonSysfs
from overcommit.display import command, plain
from overcommit.errors import Conflict, OvercommitError, Refused, Unsupported, UsageError

DIRECTORY = Path("/etc/systemd/system")
_NAME = "overcommitd.service"
PACKAGED = Path("/usr/lib/systemd/system") / _NAME
"""Where the package of a distribution has its unit, which says where its options are."""
_TAKE_OVER = "--take-over"
_OURS = "# Written by: overcommitctl service --install."
"""The first line of a unit that this verb wrote begins with this."""


@click.command(
    epilog=examples(
        "overcommitctl service --install",
        "overcommitctl service --install -- --take-over",
        "overcommitctl service --remove",
    )
)
@click.option("--print", "printing", is_flag=True, help="Print the unit file.")
@click.option("--install", "installing", is_flag=True, help=f"Write the unit file to {DIRECTORY}.")
@click.option("--remove", "removing", is_flag=True, help="Remove the unit file.")
@click.argument("options", nargs=-1, metavar="[-- OPTION...]")
@with_session
def service(
    session: Session, printing: bool, installing: bool, removing: bool, options: tuple[str, ...]
) -> None:
    """Show, write or remove the systemd unit of overcommitd.

    A package of a distribution has a unit of its own: there --install refuses, and names the file that has
    the options.

    The unit limits what overcommitd may write to, protects it when the host is short of memory, and
    restarts it when it fails or hangs. Options of overcommitd follow after --.

    After every end, a crash included, systemd runs overcommitctl restore: DAMON, balloons, memory
    devices, KSM and settings inside of guests are put back. What is in swap stays there until its guest
    uses it. Without the unit only DAMON is put back when overcommitd is stopped, and nothing when it
    crashes or is killed.
    """
    if [printing, installing, removing].count(True) != 1:
        raise UsageError("one of --print, --install and --remove is needed")
    path = DIRECTORY / _NAME
    if printing:
        click.echo(unit(options), nl=False)
        return
    in_the_way: tuple[Owner, ...] = ()
    if installing:
        _require_no_package(options)
        in_the_way = _in_the_way(session, options)
        if _may_be_moved(in_the_way) and _wanted(in_the_way):
            options, in_the_way = (*options, _TAKE_OVER), ()
        _write(path, unit(options))
        said, then = f"wrote {path}", "systemctl daemon-reload && systemctl enable --now overcommitd"
    else:
        _remove(path)
        said, then = f"removed {path}", "systemctl daemon-reload"
    if session.json:
        found = {"kind": "service", "path": str(path), "installed": installing}
        click.echo(json.dumps({**found, "conflicts": [owner.what for owner in in_the_way]}, indent=1))
    else:
        tell(said)
    for owner in in_the_way:
        session.console.say(f"overcommitd will not start: {owner.what}")
    if _may_be_moved(in_the_way):
        session.console.say(
            "To let overcommitd turn it off while it runs, and put it back afterwards, first run:"
        )
        session.console.say(f"  {command(OVERCOMMITCTL, 'service', '--install', '--', *options, _TAKE_OVER)}")
    elif in_the_way:
        session.console.say(f"first: {in_the_way[0].hint}")
    session.console.say(f"then: {then}")


def _in_the_way(session: Session, options: Sequence[str]) -> tuple[Owner, ...]:
    """What uses DAMON now, so that overcommitd refuses to start; empty where that is not known."""
    try:
        if session.left_in_damon():
            return ()  # it is ours
        owners = find_owners(session.kernel, DamonSysfs(session.kernel))
    except (OvercommitError, OSError):
        return ()
    return tuple(owner for owner in owners if not (owner.can_take_over and _TAKE_OVER in options))


def _may_be_moved(owners: Sequence[Owner]) -> bool:
    return bool(owners) and all(owner.can_take_over for owner in owners)


def _wanted(owners: Sequence[Owner]) -> bool:
    """Whether the operator, if there is one to ask, wants it moved aside."""
    if not sys.stdin.isatty():
        return False
    for owner in owners:
        click.echo(plain(f"{owner.what}: overcommitd does not start while this is so"), err=True)
    return agreed("Let overcommitd turn it off while it runs, and put it back afterwards?")


def unit(options: Sequence[str]) -> str:
    """The unit, with the paths of this installation's programs.

    Raises:
        Unsupported: overcommitd is not beside this program.
    """
    programs = Path(sys.argv[0]).resolve().parent
    if not (programs / "overcommitd").exists():
        raise Unsupported(
            f"no overcommitd in {programs}",
            hint="install the whole package: overcommitd belongs beside overcommitctl",
        )
    template = importlib.resources.files("overcommit.daemon").joinpath(_NAME).read_text()
    begins = " ".join(_quoted(word) for word in (str(programs / "overcommitd"), *options))
    return template.replace("@OVERCOMMITD@", begins).replace(
        "@OVERCOMMITCTL@", _quoted(str(programs / "overcommitctl"))
    )


def _quoted(word: str) -> str:
    """A word of a command line in systemd's syntax: C escapes, % and $ doubled."""
    plain = word.replace("%", "%%").replace("$", "$$")
    return plain if re.fullmatch(r"[\w%+=:,./@-]+", plain) else json.dumps(plain, ensure_ascii=False)


def _write(path: Path, text: str) -> None:
    _require_ours(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o644)
    except OSError as error:
        raise Unsupported(f"cannot write {path}: {error.strerror}", hint="run it with sudo") from error


def _remove(path: Path) -> None:
    if not path.exists():
        raise Refused(f"there is no {path}")
    _require_ours(path)
    try:
        path.unlink()
    except OSError as error:
        raise Unsupported(f"cannot remove {path}: {error.strerror}", hint="run it with sudo") from error


def _require_no_package(options: Sequence[str]) -> None:
    """Raise `Conflict` where the unit of a package would be hidden."""
    if not PACKAGED.exists():
        return
    hint = "systemctl enable --now overcommitd"
    found = re.search(r"^EnvironmentFile=-?(\S+)$", PACKAGED.read_text(), re.MULTILINE)
    if options and found:
        setting = shlex.quote(f"OVERCOMMITD_OPTIONS={shlex.join(options)}")
        hint = f"echo {setting} >{found[1]} && systemctl enable overcommitd && systemctl restart overcommitd"
    raise Conflict(f"a package has installed {PACKAGED}: a second unit would hide it", hint=hint)


def _require_ours(path: Path) -> None:
    """Check that this verb wrote the unit.

    Raises:
        Conflict: somebody else wrote it.
    """
    if path.is_symlink() or (path.exists() and not path.read_text().startswith(_OURS)):
        raise Conflict(f"{path} was not written by overcommitctl service --install", hint="move it away")
