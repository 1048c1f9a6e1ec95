"""The Debian package: built once for its contents, and installed in a host VM as on an operator's host."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from integration.lab import package_root, paths
from integration.lab.image import build as image
from integration.lab.image import packages

if TYPE_CHECKING:
    from collections.abc import Callable

    from integration.lab.machine import Machine

#: What installs it, in the lab and under Vagrant.
INSTALL = paths.CHECKOUT / "integration/lab/install.sh"
#: What of the checkout the package is made of.
_SOURCES = (
    "LICENSE", "README.md", "contrib/grafana", "contrib/package", "contrib/prometheus", "debian", "docs/*.md",
    "docs/runbooks", "overcommit", "policies", "pyproject.toml",
)  # fmt: skip
_BUILD = """\
dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary
cd ..
lintian --allow-root --fail-on error,warning overcommit_*.changes
cp *.deb output/
"""


def build(
    target: Path, report: Callable[[str], None], *, version: str | None = None, by_contents: bool = False
) -> Path:
    """Build the package of the checkout, uncommitted changes included, and check it with lintian.

    One that was built of the same files is taken from the cache.

    Args:
        target: the directory that gets it; packages that are there stay.
        report: told of each step.
        version: in place of what debian/changelog says, so that one can follow on another.
        by_contents: give it a version that names its contents, so that each change is another version.

    Returns: the path of the package.

    Raises:
        LabError: it cannot be built, or lintian found an error or a warning.
    """
    contents = _digest()
    version = version or _version() + (f"+lab.{contents[:8]}" if by_contents else "")
    name = f"deb-built-{image.digest(contents.encode(), version.encode())}"
    steps = image.Steps(report)

    def make(at: Path) -> None:
        package_root.build_in(
            packages.BUILD_PACKAGES, _SOURCES, _BUILD, at, steps=steps,
            edit=lambda copy: _set_version(copy / "debian/changelog", version),
        )  # fmt: skip

    with package_root.building(report) as directory:
        final = directory / name
        image.layer(final, f"Debian package {version}", steps, make)
        target.mkdir(parents=True, exist_ok=True)
        (built,) = final.glob("*.deb")
        return Path(shutil.copy(built, target))


def prepare(report: Callable[[str], None]) -> None:
    """Build what `push` installs, so that nobody has to wait for it then."""
    with tempfile.TemporaryDirectory() as scratch:
        build(Path(scratch), report, by_contents=True)


def push(vm: Machine, report: Callable[[str], None]) -> bool:
    """Build and install; tell whether the host VM had another one, or none."""
    with tempfile.TemporaryDirectory() as scratch:
        return install(vm, build(Path(scratch), report, by_contents=True))


def install(vm: Machine, package: Path) -> bool:
    """Install a package in the host VM; tell whether that was needed.

    A host VM that has this version is asked only that: nothing is copied.
    """
    _, version, _ = package.name.split("_")
    asked = vm.run(["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", "overcommit"], check=False)
    if asked.stdout == f"installed {version}":
        return False
    remote = f"/tmp/{package.name}"
    vm.copy(package, remote)
    vm.run(["bash", "-s", "--", remote], stdin=INSTALL.read_text(), timeout=300)
    return True


def _version() -> str:
    first, _ = (paths.CHECKOUT / "debian/changelog").read_text().split("\n", 1)
    return first.split("(", 1)[1].split(")", 1)[0]


def _set_version(changelog: Path, version: str) -> None:
    first, rest = changelog.read_text().split("\n", 1)
    before, after = first.split("(", 1)
    changelog.write_text(f"{before}({version}){after.split(')', 1)[1]}\n{rest}")


def _digest() -> str:
    """Names what the package is made of, and how."""
    how = f"{package_root.digest(packages.BUILD_PACKAGES)}\n{_BUILD}"
    parts = [how.encode()]
    for path in package_root.files(_SOURCES):
        mode = "x" if path.stat().st_mode & 0o100 else "-"
        parts += [f"{mode} {path.relative_to(paths.CHECKOUT)}".encode(), path.read_bytes()]
    return image.digest(*parts)
