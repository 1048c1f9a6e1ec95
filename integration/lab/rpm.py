"""The RPM package: built from the checkout as far as Debian's rpmbuild can, and compared with Debian's.

Debian has none of Fedora's macro packages; ``rpm.macros`` stands in for them. Whether Fedora has the packages
that it depends on, and what its scriptlets do, only Fedora can show.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from integration.lab import deb, package_root
from integration.lab.errors import LabError
from integration.lab.image import build as image
from integration.lab.image import packages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PACKAGES = (*packages.BUILD_PACKAGES, "python3-installer", "rpm", "rpmlint")
_SOURCES = (
    ".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "contrib", "debian", "docs",
    "integration/lab/rpm.macros", "overcommit", "policies", "pyproject.toml",
)  # fmt: skip
_BUILD = """\
top=/build/rpm
mkdir -p $top/SOURCES
python3 -m hatchling build -t sdist -d $top/SOURCES
spec=contrib/rpm/overcommit.spec
install -D integration/lab/rpm.macros /etc/rpm/macros.stand-ins
rpmbuild --nodeps --define "_topdir $top" -ba $spec
rpm=$(ls $top/RPMS/noarch/*.rpm)
rpm -qpl "$rpm" >../output/contents
rpm -qp --requires "$rpm" >../output/requires
cp "$rpm" ../output/
rpmlint -r contrib/rpm/overcommit.rpmlintrc $spec "$rpm" >../output/rpmlint 2>&1 || true
if grep '^overcommit.*: [EW]: ' ../output/rpmlint | sed 's/^/error: /' | grep .; then exit 1; fi
# There is no systemd to be told of units. Plugins would make namespaces.
ln -s /bin/true /usr/local/bin/systemctl
rpm -i --nodeps --noplugins "$rpm"
getent group overcommit
PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$(echo /usr/lib/python3.*/site-packages) overcommitctl --version
rpm -V --nodeps overcommit
rpm -e --noplugins overcommit
left=$(find / -xdev -path /proc -prune -o -path /build -prune -o -name '*overcommit*' -print)
if [ "$left" ]; then echo "error: left behind: $left"; exit 1; fi
"""
#: What lies elsewhere than in the Debian package, by the customs of the distributions.
_PLACES = (
    (r"^/etc/default/", "/etc/sysconfig/"),
    (r"^/usr/lib/python3/dist-packages/", "/usr/lib/python3/site-packages/"),
    (r"^/usr/share/zsh/vendor-completions/", "/usr/share/zsh/site-functions/"),
    (r"\.gz$", ""),
)
#: What only one of them has, or each in its way.
_THEIR_OWN = re.compile(r"^/usr/(share/(doc|licenses)/|lib/tmpfiles\.d/)|\.dist-info(/|$)|^/etc/overcommit")


def build(target: Path, report: Callable[[str], None]) -> Path:
    """Build it, have rpmlint look at it, install and erase it in a root, and return its path.

    Raises:
        LabError: one of that fails, or it has not what the Debian package has.
    """
    target.mkdir(parents=True, exist_ok=True)
    steps = image.Steps(report)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        with package_root.building(report), steps.step("RPM package"):
            package_root.build_in(_PACKAGES, _SOURCES, _BUILD, scratch, steps=steps, edit=lambda _: None)
        (built,) = scratch.glob("*.rpm")
        _compare((scratch / "contents").read_text().splitlines(), deb.build(scratch, report))
        return Path(shutil.copy(built, target))


def _compare(rpm: list[str], package: Path) -> None:
    listed = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    files = [line.split()[5].removeprefix(".") for line in listed.splitlines() if line[0] in "-l"]
    debian, fedora = _common(files), _common(rpm)
    only = [f"only in the Debian package: {name}" for name in sorted(debian - fedora)]
    folders = {str(parent) for name in fedora for parent in Path(name).parents}
    only += [f"only in the RPM package: {name}" for name in sorted(fedora - debian - folders)]
    if only:
        raise LabError(" / ".join(only[:5]), "contrib/rpm/overcommit.spec has the files")


def _common(names: Iterable[str]) -> set[str]:
    """The names of both packages, as Fedora has them."""
    found = set()
    for name in names:
        placed = re.sub(r"^/usr/lib/python3\.\d+/", "/usr/lib/python3/", name)
        for pattern, replacement in _PLACES:
            placed = re.sub(pattern, replacement, placed)
        if not _THEIR_OWN.search(placed):
            found.add(placed)
    return found
