"""Build the images, each once for its inputs.

Three layers, because they change at a different pace: the Debian root (a minute to build, changes
rarely), the disk, kernels and initrds made from it (seconds), and the guests' initramfs (a blink,
changes with the workload program).
A layer is built in a directory of its own and renamed when it is complete, so an interrupted build
leaves nothing that looks finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from integration.lab import apt_sources, paths, state
from integration.lab.errors import LabError
from integration.lab.image import kernel, pack, packages
from integration.lab.state import LabState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GUEST_SOURCES = paths.CHECKOUT / "integration/lab/guest"
CUSTOMISE = paths.CHECKOUT / "integration/lab/image/customise.sh"
#: Layers that nobody used for so long are removed.
KEEP_DAYS = 14


@dataclass(frozen=True)
class Image:
    """What a host VM boots from: paths on this machine."""

    root: Path

    @property
    def key(self) -> str:
        """Names the image."""
        return self.root.name

    @property
    def disk(self) -> Path:
        """The host VM's disk, to be overlaid."""
        return self.root / "disk.qcow2"

    @property
    def releases(self) -> list[str]:
        """The kernel releases in the image, oldest first."""
        return kernel.in_order(path.name for path in (self.root / "kernels").iterdir())

    def release(self, wanted: str | None) -> str:
        """The release that a short version such as ``6.12`` means; the newest without one.

        Backports move on: for a version between those that there are the next newer one serves.
        """
        if wanted is None:
            return self.releases[-1]
        for release in self.releases:
            if release == wanted or release.startswith((f"{wanted}.", f"{wanted}-", f"{wanted}+")):
                return release
        if re.fullmatch(r"\d+\.\d+", wanted):
            all_of_them = kernel.in_order((*self.releases, wanted))
            if 0 < (at := all_of_them.index(wanted)) < len(self.releases):
                return all_of_them[at + 1]
        there = ", ".join(self.releases)
        raise LabError(f"no kernel {wanted!r} in the image", f"there are: {there}")

    def vmlinux(self, release: str) -> Path:
        """The uncompressed kernel of a release."""
        return self.root / "kernels" / release / "vmlinux"

    def initrd(self, release: str) -> Path:
        """The host VM's initrd for a release."""
        return self.root / "kernels" / release / "initrd"

    @property
    def probe_initrd(self) -> Path:
        """An initrd that reports and powers off."""
        return self.root / "probe.initrd"


@dataclass(frozen=True)
class GuestImage:
    """What a guest boots from, besides a kernel."""

    directory: Path

    def initrd(self, release: str, *, extras: bool) -> Path:
        """The guests' initramfs for a kernel release.

        The one with the key-value server and the guest agent is several times as large, and a guest
        pays for it in memory and start-up time, so there is one without.
        """
        return self.directory / f"{'full' if extras else 'small'}-{release}"


class Steps:
    """Reports each step with the seconds it took."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Report the start and the end of one step."""
        self._report(f"{what} ...")
        begin = time.monotonic()
        yield
        self._report(f"{what}: {time.monotonic() - begin:.1f} s")

    def cached(self, what: str) -> None:
        """Report a step that had nothing to do."""
        self._report(f"{what}: cached")


def ssh_key() -> Path:
    """The key that opens every host VM; made once."""
    key = _key_file()
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", key], check=True)
    return key


def _key_file() -> Path:
    return paths.cache() / "ssh" / "id_ed25519"


def build(report: Callable[[str], None] = print, *, rebuild: bool = False) -> Image:
    """Build what is missing and return the image.

    Raises:
        LabError: a tool is missing or failed.
    """
    _require_tools()
    cache = paths.cache()
    cache.mkdir(parents=True, exist_ok=True)
    steps = Steps(report)
    with exclusive(cache / "build.lock", report):
        remove_leftovers(cache)
        key = ssh_key()
        debian = cache / f"debian-{_debian_hash(key)}"
        if rebuild and debian.exists():
            debian.rename(cache / f"tmp-old-{os.getpid()}")
        layer(debian, "Debian packages", steps, lambda at: _mmdebstrap(at, key))
        root = cache / f"root-{_root_hash(debian)}"
        layer(root, "host disk and kernels", steps, lambda at: _build_root(debian, at))
        _guest_layer(root, steps)
        _remove_unused(cache)
    return Image(root)


def built() -> Image | None:
    """The image of today's inputs, if it was built; builds nothing."""
    cache = paths.cache()
    key = _key_file()
    if not key.exists():
        return None
    debian = cache / f"debian-{_debian_hash(key)}"
    if not (debian / "root.tar").exists():
        return None
    root = cache / f"root-{_root_hash(debian)}"
    return Image(root) if root.exists() else None


def guest_image(image: Image, report: Callable[[str], None]) -> GuestImage:
    """The guests' part for a host VM that runs: of today's workload, in that VM's image."""
    with exclusive(paths.cache() / "build.lock", report):
        return GuestImage(_guest_layer(image.root, Steps(report)))


def _guest_layer(root: Path, steps: Steps) -> Path:
    guest = paths.cache() / f"guest-{_guest_hash(root)}"
    layer(guest, "guest image", steps, lambda at: _build_guest(root, at))
    return guest


def _require_tools() -> None:
    tools = ("mmdebstrap", "qemu-img", "qemu-system-x86_64", "mke2fs", "cpio", "zstd", "gcc",
             "ssh-keygen")  # fmt: skip
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [tool for tool in tools if not shutil.which(tool, path=search)]:
        raise LabError(f"missing: {', '.join(missing)}", "run integration/lab/setup.sh")


@contextmanager
def exclusive(lock: Path, report: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock file; wait, and say so, while another process has it."""
    with lock.open("w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("another build is running, waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


@contextmanager
def _published(final: Path) -> Iterator[Path]:
    """A directory that gets its name only when all of it is there."""
    target = Path(tempfile.mkdtemp(dir=final.parent, prefix="tmp-"))
    try:
        yield target
        target.chmod(0o755)
        target.rename(final)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def layer(final: Path, what: str, steps: Steps, make: Callable[[Path], None]) -> None:
    """Make one layer unless it is there, and note that it was used."""
    if final.exists():
        steps.cached(what)
    else:
        with steps.step(what), _published(final) as target:
            make(target)
    os.utime(final)


def remove_leftovers(cache: Path) -> None:
    """Remove what a killed build left; nobody else builds in that directory while its lock is held."""
    for path in cache.glob("tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def _remove_unused(cache: Path) -> None:
    """Remove layers of long ago, unless a lab's disk stands on one."""
    labs = [known.image for known in map(LabState.load, state.names()) if known]
    oldest = time.time() - KEEP_DAYS * 86400
    for kind in ("debian", "root", "guest", "deb"):
        for path in (*cache.glob(f"{kind}-*"), *cache.glob(f"packages/{kind}-*")):
            if path.stat().st_mtime < oldest and path.name not in labs:
                shutil.rmtree(path, ignore_errors=True)


def digest(*parts: bytes) -> str:
    """A short name for some inputs; where one ends and the next begins counts."""
    summed = hashlib.sha256()
    for part in parts:
        summed.update(len(part).to_bytes(8) + part)
    return summed.hexdigest()[:16]


def _debian_hash(key: Path) -> str:
    sources = (Path(packages.__file__), CUSTOMISE, key.with_suffix(".pub"))
    return digest(*(path.read_bytes() for path in sources))


def _root_hash(debian: Path) -> str:
    # a rebuilt Debian root has the same hash but other contents
    stamp = (debian / "root.tar").stat().st_mtime_ns
    sources = (Path(pack.__file__), Path(kernel.__file__), *sorted(pack.FILES.iterdir()))
    return digest(debian.name.encode(), str(stamp).encode(), *(p.read_bytes() for p in sources))


def _guest_hash(root: Path) -> str:
    files = sorted(path for path in GUEST_SOURCES.rglob("*") if path.is_file())
    names = "\n".join(str(path.relative_to(GUEST_SOURCES)) for path in files)
    return digest(
        root.name.encode(), Path(__file__).read_bytes(), names.encode(),
        *(path.read_bytes() for path in files),
    )  # fmt: skip


def _build_root(debian: Path, target: Path) -> None:
    tar = debian / "root.tar"
    _as_root([sys.executable, "-m", "integration.lab.image.pack", str(tar), str(target)])


def _mmdebstrap(target: Path, key: Path) -> None:
    tar = target / "root.tar"
    # For an ordinary user the hook runs with another user's rights, to whom a home may be closed.
    scratch = Path(tempfile.mkdtemp(dir="/tmp", prefix="overcommit-lab-"))
    scratch.chmod(0o755)
    shutil.copy(CUSTOMISE, scratch / "customise.sh")
    shutil.copy(key.with_suffix(".pub"), scratch / "key")
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar"]
    command += ['--aptopt=APT::Install-Recommends "0"', '--aptopt=APT::Sandbox::User "root"']
    command += [f"--dpkgopt={option}" for option in packages.DPKG_OPTIONS]
    command += [f"--include={','.join(packages.HOST_PACKAGES)}"]
    # the tiny initrd of pack.py replaces the distribution's
    configuration = '"$1/etc/initramfs-tools"'
    setting = f"echo update_initramfs=no > {configuration}/update-initramfs.conf"
    command += [f"--essential-hook=mkdir -p {configuration}; {setting}"]
    command += [f'--customize-hook={scratch}/customise.sh "$1" {scratch}/key {packages.SUITE}']
    command += [packages.SUITE, str(tar), *apt_sources.discover().source_lines(packages.SUITE)]
    log = target / "mmdebstrap.log"
    try:
        with log.open("wb") as output:
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    finally:
        shutil.rmtree(scratch)
    if done.returncode:
        lines = log.read_text(errors="replace").splitlines()
        errors = [line for line in lines if line.startswith("E:")] or lines
        raise LabError(f"mmdebstrap failed: {' / '.join(errors[-3:])}", "is the package mirror up?")


def _as_root(command: list[str]) -> None:
    """Run as root, which for an ordinary user is root of a user namespace."""
    if os.getuid() != 0:
        command = ["unshare", "--map-auto", "--map-root-user", "--setuid", "0", "--setgid", "0",
                   *command]  # fmt: skip
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(
        command, cwd=paths.CHECKOUT, env={**os.environ, "PATH": path}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise LabError(f"cannot pack the host's disk: {last[0]}")


def _build_guest(root: Path, target: Path) -> None:
    init = GUEST_SOURCES / "init"
    if not init.exists():
        raise LabError(f"{init} is missing")
    parts = root / "guest-parts"
    tree = target / "tree"
    shutil.copytree(parts / "tree", tree)
    for directory in ("proc", "sys", "dev", "tmp", "etc", "run"):
        (tree / directory).mkdir(exist_ok=True)
    (tree / "bin/sh").symlink_to("busybox")
    for source in sorted(GUEST_SOURCES.glob("*.c")):
        _compile(source, tree / "bin" / source.stem)
    shutil.copy(init, tree / "init")
    (tree / "init").chmod(0o755)
    for modules in sorted((parts / "modules").iterdir()):
        shutil.copytree(modules, tree / "mod")
        kernel.write_initramfs(tree, target / f"small-{modules.name}")
        shutil.rmtree(tree / "mod")
    # an initramfs may be several archives one behind the other
    kernel.write_initramfs(parts / "extras", target / "extras")
    for small in sorted(target.glob("small-*")):
        full = small.with_name(small.name.replace("small-", "full-"))
        full.write_bytes(small.read_bytes() + (target / "extras").read_bytes())
    (target / "extras").unlink()
    shutil.rmtree(tree)


def _compile(source: Path, target: Path) -> None:
    done = subprocess.run(
        ["gcc", "-O2", "-static", "-pthread", "-Wall", "-o", target, source, "-lm"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr)
        raise LabError(f"cannot compile {source.name}: {first}")
    target.chmod(0o755)
