"""Which files make a policy, and their texts."""

from __future__ import annotations

from pathlib import Path

from overcommit.errors import UsageError

SHIPPED = Path(__file__).parent.parent / "policies"
DEFAULT_FILE = Path("/etc/overcommit/policy.yaml")


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
        UsageError: the directory is there and cannot be read.
    """
    main = path or default_path()
    directory = (path or DEFAULT_FILE).with_suffix(".d")
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise UsageError(f"cannot read the overrides in {directory}: {error.strerror}") from error
    return (main, *(directory / n for n in names if n.endswith(".yaml") and not n.startswith(".")))


def read(file: Path) -> str:
    """The text of one file.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(
            f"cannot read the policy {file}: {why}",
            hint="name one with --policy FILE; examples are in policies/",
        ) from error
