"""The Debian package, built and checked in a root of the suite that it is for.

The machine that builds may be an older Debian, or lack the tools; nothing is installed on it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from integration.lab import apt_sources, paths
from integration.lab.errors import LabError
from integration.lab.image import build as image
from integration.lab.image import packages

if TYPE_CHECKING:
    from collections.abc import Callable

#: What of the checkout the package is made of.
_SOURCES = ("LICENSE", "README.md", "debian", "docs", "overcommit", "policies", "pyproject.toml")
#: ``mmdebstrap`` runs this with the build root: ``SOURCES OUTPUT`` are directories of this machine.
_BUILD = r"""
set -eu
root=$1
mkdir "$root/build"
cp -R --no-preserve=ownership "$SOURCES" "$root/build/overcommit"
chroot "$root" sh -euc '
  cd /build/overcommit
  dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary
  cd ..
  lintian --allow-root --fail-on error,warning overcommit_*.changes
'
cp "$root"/build/*.deb "$OUTPUT/"
"""


def build(target: Path, report: Callable[[str], None], *, version: str | None = None) -> Path:
    """Build the package of the checkout, uncommitted changes included, and check it with lintian.

    Args:
        target: the directory that gets it; packages that are there stay.
        report: told of each step.
        version: in place of what debian/changelog says, so that one can follow on another.

    Returns: the path of the package.

    Raises:
        LabError: it cannot be built, or lintian found an error or a warning.
    """
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="overcommit-deb-") as name:
        scratch = Path(name)
        scratch.chmod(0o755)
        sources, output = scratch / "sources", scratch / "output"
        _copy(sources, version)
        output.mkdir(mode=0o777)
        output.chmod(0o777)  # mmdebstrap may run as a user of its own
        root = _build_root(report)
        script = scratch / "build"
        script.write_text(f"SOURCES={sources} OUTPUT={output}\n{_BUILD}")
        with image.Steps(report).step("Debian package"):
            _mmdebstrap(
                [f'--setup-hook=tar -x -f {root} -C "$1"', f'--customize-hook=sh {script} "$1"'],
                target=Path(os.devnull), form="null", variant="custom", log=scratch / "log",
            )  # fmt: skip
        target.mkdir(parents=True, exist_ok=True)
        (built,) = output.glob("*.deb")
        return Path(shutil.copy(built, target))


def _copy(target: Path, version: str | None) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *_SOURCES],
        cwd=paths.CHECKOUT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        source, copy = paths.CHECKOUT / name, target / name
        if source.exists():  # else it is removed, and that is not committed yet
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    changelog = target / "debian/changelog"
    first, rest = changelog.read_text().split("\n", 1)
    if version is not None:
        before, after = first.split("(", 1)
        changelog.write_text(f"{before}({version}){after.split(')', 1)[1]}\n{rest}")


def _build_root(report: Callable[[str], None]) -> Path:
    """The root that packages are built in, made once for its list of packages: two minutes."""
    cache = paths.cache()
    cache.mkdir(parents=True, exist_ok=True)
    digest = image.digest(packages.SUITE.encode(), " ".join(packages.BUILD_PACKAGES).encode())
    final = cache / f"deb-{digest}"

    def make(at: Path) -> None:
        _mmdebstrap(
            ['--aptopt=APT::Install-Recommends "0"', '--aptopt=APT::Sandbox::User "root"',
             f"--include={','.join(packages.BUILD_PACKAGES)}"],
            target=at / "root.tar", form="tar", variant="buildd", log=at / "log",
        )  # fmt: skip

    with image.exclusive(cache / "deb.lock", report):
        image.layer(final, "root to build packages in", image.Steps(report), make)
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
        signs = ("E: overcommit", "W: overcommit", "dpkg-buildpackage: error", "E:")
        telling = [line for sign in signs for line in lines if line.startswith(sign)] or lines[-3:]
        raise LabError(f"cannot build the package: {' / '.join(telling[:3])}", "debian/rules has the steps")
