"""Finds and reads the files of a policy."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path

from overcommit import own_file
from overcommit.errors import UsageError

SHIPPED = Path(__file__).parent.parent / "policies"
DEFAULT_FILE = Path("/etc/overcommit/policy.yaml")
_MOST_FILES = 256
_MOST_FILE_BYTES, _MOST_BYTES = 1 << 20, 4 << 20
"""Bounds for one file, and for all together. Ten thousand rules take less."""


def default_path() -> Path:
    """The host's policy file, or the shipped ``balanced.yaml`` where there is none."""
    if DEFAULT_FILE.exists():
        return DEFAULT_FILE
    shipped = SHIPPED if SHIPPED.is_dir() else SHIPPED.parent.parent / "policies"
    return shipped / "balanced.yaml"


def files_of(path: Path | None) -> tuple[Path, ...]:
    """The policy file and its overrides in the order in which they apply; None: the host's own.

    The overrides of ``NAME.yaml`` are the files ``NAME.d/*.yaml`` by name. Those of the host's own policy
    apply to the shipped default too, where the host has no policy file.

    Raises:
        UsageError: the directory exists and cannot be read.
    """
    main = path or default_path()
    if not main.name:  # like / and the empty word
        return (main,)
    directory = (path or DEFAULT_FILE).with_suffix(".d")
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise UsageError(f"cannot read the overrides in {directory}: {error.strerror}") from error
    return (main, *(directory / n for n in names if n.endswith(".yaml") and not n.startswith(".")))


def read_all(path: Path | None, *, obeyed: bool) -> list[tuple[str, str]]:
    """The texts of the policy file and its overrides, each with its name.

    A policy that is to be ``obeyed`` must belong to root or to the user who runs this, and no other user may
    be able to write it. The main file may be a symbolic link, as tools that manage ``/etc`` make them. An
    override may not: a user who may put a file into that directory need not be allowed to read the link's
    target.

    Raises:
        UsageError: a file cannot be read, is not trusted, or they are too many or too large.
    """
    main, *overrides = files_of(path)
    if len(overrides) > _MOST_FILES:
        raise UsageError(f"{len(overrides)} overrides in {overrides[0].parent} are more than {_MOST_FILES}")
    own = own_file.callers() if obeyed else None
    ours = path is None and main != DEFAULT_FILE  # it came with the program, and is as trusted as that
    texts = [(_read(main, None if ours else own, follow=True), str(main))]
    left = _MOST_BYTES - len(texts[0][0])
    for file in overrides:
        texts.append((_read(file, own, follow=False), str(file)))
        left -= len(texts[-1][0])
        if left < 0:
            raise UsageError(f"the policy and its overrides are larger than {_MOST_BYTES >> 20} MiB")
    return texts


def _read(file: Path, owners: Collection[int] | None, *, follow: bool) -> str:
    hint = "name one with --policy FILE; examples are in policies/"
    try:
        data = own_file.read(
            file, "the policy", most_bytes=_MOST_FILE_BYTES, owners=owners, follow=follow, hint=hint
        )
        return data.decode("utf-8")
    except own_file.Untrusted as refused:
        name = shlex.quote(str(file))
        raise UsageError(
            str(refused), hint=f"chown root: {name}; chmod go-w {name} and its directory"
        ) from refused
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the policy {file}: not UTF-8 text", hint=hint) from error
