"""Where this machine gets Debian packages from, read from its own apt configuration.

No mirror is named in the project: a machine behind a proxy or with a local mirror builds the lab's
image from there without being told to.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from integration.lab.errors import LabError


@dataclass(frozen=True)
class DebianSites:
    """The archive and, where the machine uses one, the security archive."""

    archive: str
    security: str | None

    def source_lines(self, suite: str) -> list[str]:
        """The apt sources of a Debian suite with its backports, as one-line entries."""
        lines = [f"deb {self.archive} {suite} main", f"deb {self.archive} {suite}-backports main"]
        if self.security:
            lines.append(f"deb {self.security} {suite}-security main")
        return lines


def _codename() -> str:
    with Path("/etc/os-release").open(encoding="utf-8") as release:
        for line in release:
            key, _, value = line.strip().partition("=")
            if key == "VERSION_CODENAME":
                return value.strip('"')
    return ""


def discover() -> DebianSites:
    """Read the Debian sites from apt.

    Raises:
        LabError: apt knows no Debian archive.
    """
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
         "Created-By: Packages"],
        capture_output=True, text=True, check=False, timeout=60,
    ).stdout  # fmt: skip
    codename = _codename()
    archive = security = None
    for line in listing.splitlines():
        uri, release, component = line.split()
        suite = release.removesuffix("-security")
        if component != "main" or suite not in {codename, "stable", "oldstable", "testing"}:
            continue
        if release.endswith("-security"):
            security = security or uri
        elif "security" not in uri:
            archive = archive or uri
    if not archive:
        raise LabError("no Debian archive in this machine's apt sources", "see apt-get indextargets")
    return DebianSites(archive.rstrip("/"), security.rstrip("/") if security else None)
