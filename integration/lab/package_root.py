"""Roots of the suite that packages are built and checked in.

The machine that builds may be an older Debian, or lack the tools; nothing is installed on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from integration.lab import apt_sources, paths
from integration.lab.errors import LabError
from integration.lab.image import build as image
from integration.lab.image import packages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def digest(needed: Sequence[str]) -> str:
    """Names the root that has these packages."""
    return image.digest(packages.SUITE.encode(), " ".join(needed).encode())


def build_in(
    needed: Sequence[str], sources: Sequence[str], script: str, target: Path,
    *, steps: image.Steps, edit: Callable[[Path], None],
) -> None:  # fmt: skip
    """Copy files of the checkout, uncommitted changes included, into such a root, and run a script there.

    The root is made once for its packages, in a minute; the caller is `building`.

    Args:
        needed: packages that the root has.
        sources: what of the checkout the script finds in /build/overcommit, as `files` takes it.
        script: for a shell; what it leaves in /build/output is copied to ``target``.
        target: a directory.
        steps: told of each step.
        edit: changes the copy before the script sees it.

    Raises:
        LabError: a tool is missing, or the script failed.
    """
    root = _root(needed, steps)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="overcommit-package-") as name:
        scratch = Path(name)
        scratch.chmod(0o755)
        copies, output = scratch / "sources", scratch / "output"
        for source in files(sources):
            copy = copies / source.relative_to(paths.CHECKOUT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
        edit(copies)
        output.mkdir()
        output.chmod(0o777)  # mmdebstrap may run as a user of its own
        (scratch / "script").write_text(f"set -eu\ncd /build/overcommit\n{script}")
        hook = (
            f'mkdir -p "$1/build/output"; cp -R --no-preserve=ownership {copies} "$1/build/overcommit"; '
            f'cp {scratch}/script "$1/build/"; chroot "$1" sh /build/script; '
            f'cp "$1"/build/output/* {output}/'
        )
        # Nothing is installed in it any more, so that it needs no network.
        _mmdebstrap(
            ["--skip=update", f'--setup-hook=tar -x -f {root} -C "$1"', f"--customize-hook=set -eu; {hook}"],
            target=Path(os.devnull), form="null", variant="custom", log=scratch / "log",
        )  # fmt: skip
        for built in output.iterdir():
            shutil.copy(built, target / built.name)


def files(patterns: Sequence[str]) -> list[Path]:
    """What of the checkout is meant by paths and globs, sorted; not what git ignores, and what is removed."""
    checkout = paths.CHECKOUT
    if not (checkout / ".git").exists():  # a copy, as Vagrant's user has one
        found = [path for pattern in patterns for path in checkout.glob(pattern)]
        below = [path for each in found for path in ([each] if each.is_file() else each.rglob("*"))]
        return sorted(path for path in below if path.is_file() and "__pycache__" not in path.parts)
    specs = (f":(glob){pattern}" for pattern in patterns)
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *specs],
        cwd=checkout, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    names = (checkout / name for name in filter(None, listed.split("\0")))
    return sorted(name for name in names if name.exists())


@contextmanager
def building(report: Callable[[str], None]) -> Iterator[Path]:
    """The directory of roots and packages, for one process at a time.

    It is not that of the images: who builds those removes what looks like leftovers there.
    """
    directory = paths.cache() / "packages"
    directory.mkdir(parents=True, exist_ok=True)
    with image.exclusive(directory / "lock", report):
        image.remove_leftovers(directory)
        yield directory


def _root(needed: Sequence[str], steps: image.Steps) -> Path:
    final = paths.cache() / "packages" / f"deb-{digest(needed)}"

    def make(at: Path) -> None:
        _mmdebstrap(
            ['--aptopt=APT::Install-Recommends "0"', '--aptopt=APT::Sandbox::User "root"',
             f"--include={','.join(needed)}"],
            target=at / "root.tar", form="tar", variant="buildd", log=at / "log",
        )  # fmt: skip

    image.layer(final, "root to build packages in", steps, make)
    return final / "root.tar"


def _mmdebstrap(options: list[str], *, target: Path, form: str, variant: str, log: Path) -> None:
    if not shutil.which("mmdebstrap"):
        raise LabError("missing: mmdebstrap", "run integration/lab/setup.sh")
    command = ["mmdebstrap", "--quiet", f"--variant={variant}", f"--format={form}", *options, packages.SUITE,
               str(target), *apt_sources.discover().source_lines(packages.SUITE)]  # fmt: skip
    with log.open("wb") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = log.read_text(errors="replace").splitlines()
        signs = ("E: overcommit", "W: overcommit", "dpkg-buildpackage: error", "error:", "E:")
        telling = [line for sign in signs for line in lines if line.startswith(sign)] or lines[-3:]
        raise LabError(
            f"cannot build the package: {' / '.join(telling[:3])}",
            "debian/rules and contrib/rpm have the steps",
        )
