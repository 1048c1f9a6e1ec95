"""Build the images, each once for its inputs.

Two layers, because they change at a different pace: the Debian root with its kernels (minutes to
build, changes rarely) and the guests' initramfs (seconds, changes with the workload program).
A layer is built in a directory of its own and renamed when it is complete, so an interrupted build
leaves nothing that looks finished.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from integration.lab import apt_sources, paths
from integration.lab.errors import LabError
from integration.lab.image import kernel, packages, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GUEST_SOURCES = Path(
    os.environ.get("OVERCOMMIT_LAB_GUEST") or paths.CHECKOUT / "integration/lab/guest"
)


@dataclass(frozen=True)
class Image:
    """A finished image: paths on this machine."""

    root: Path
    guest: Path

    @property
    def key(self) -> str:
        """Names the host's part of the image."""
        return self.root.name

    @property
    def guest_key(self) -> str:
        """Names the guests' part."""
        return self.guest.name

    @property
    def disk(self) -> Path:
        """The host VM's disk, to be overlaid."""
        return self.root / "disk.qcow2"

    @property
    def releases(self) -> list[str]:
        """The kernel releases in the image, oldest first."""
        names: list[str] = json.loads((self.root / "releases.json").read_text())
        return names

    def release(self, wanted: str | None) -> str:
        """The release that a short version such as ``6.12`` means; the newest without one."""
        if wanted is None:
            return self.releases[-1]
        for release in self.releases:
            if release == wanted or release.startswith((f"{wanted}.", f"{wanted}-", f"{wanted}+")):
                return release
        raise LabError(f"no kernel {wanted!r} in the image", f"there are: {', '.join(self.releases)}")

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

    def guest_initrd(self, release: str) -> Path:
        """The guests' initramfs for a release."""
        return self.guest / f"initrd-{release}"


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
    key = paths.cache() / "ssh" / "id_ed25519"
    if not key.exists():
        key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", key], check=True
        )
    return key


def build(report: Callable[[str], None] = print, *, rebuild: bool = False) -> Image:
    """Build what is missing and return the image.

    Raises:
        LabError: a tool is missing or failed.
    """
    _require_tools()
    cache = paths.cache()
    cache.mkdir(parents=True, exist_ok=True)
    steps = Steps(report)
    with _exclusive(cache / "build.lock", report):
        key = ssh_key()
        root = cache / f"root-{_root_hash(key)}"
        if rebuild and root.exists():
            root.rename(root.with_name(f"tmp-old-{root.name}-{os.getpid()}"))
        _remove_leftovers(cache)
        if root.exists():
            steps.cached("host root")
        else:
            with _published(root) as target:
                _build_root(target, key, steps)
        guest = cache / f"guest-{_guest_hash(root)}"
        if guest.exists():
            steps.cached("guest image")
        else:
            with _published(guest) as target:
                _build_guest(root, target, steps)
    return Image(root, guest)


def _require_tools() -> None:
    tools = ("mmdebstrap", "qemu-img", "qemu-system-x86_64", "mke2fs", "cpio", "zstd", "gcc")
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if missing := [tool for tool in tools if not shutil.which(tool, path=search)]:
        raise LabError(f"missing: {', '.join(missing)}", "run integration/lab/setup.sh")


@contextmanager
def _exclusive(lock: Path, report: Callable[[str], None]) -> Iterator[None]:
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


def _remove_leftovers(cache: Path) -> None:
    """Remove what a killed build left; nobody else builds while the lock is held."""
    for path in cache.glob("tmp-*"):
        shutil.rmtree(path, ignore_errors=True)


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()[:16]


def _root_hash(key: Path) -> str:
    sources = [Path(packages.__file__), Path(pack.__file__), Path(kernel.__file__),
               *sorted(pack.FILES.iterdir()), key.with_suffix(".pub")]  # fmt: skip
    return _digest(*(path.read_bytes() for path in sources))


def _guest_hash(root: Path) -> str:
    files = sorted(path for path in GUEST_SOURCES.rglob("*") if path.is_file())
    names = "\n".join(str(path.relative_to(GUEST_SOURCES)) for path in files)
    return _digest(
        root.name.encode(), Path(__file__).read_bytes(), names.encode(),
        *(path.read_bytes() for path in files),
    )  # fmt: skip


def _build_root(target: Path, key: Path, steps: Steps) -> None:
    tar = target / "root.tar"
    with steps.step("host root: Debian packages"):
        _mmdebstrap(tar, key)
    with steps.step("host root: kernels and disk"):
        _as_root(["python3", "-m", "integration.lab.image.pack", str(tar), str(target)])
        tar.unlink()
    names = [path.name for path in (target / "kernels").iterdir()]
    order = sorted(names, key=lambda name: [int(n) for n in name.split("+")[0].split("-")[0].split(".")])
    (target / "releases.json").write_text(json.dumps(order))


def _mmdebstrap(tar: Path, key: Path) -> None:
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--format=tar"]
    command += ["--aptopt=APT::Install-Recommends \"0\"", "--aptopt=APT::Sandbox::User \"root\""]
    command += [f"--dpkgopt={option}" for option in packages.DPKG_OPTIONS]
    command += [f"--include={','.join(packages.HOST_PACKAGES)}"]
    # the tiny initrd of pack.py replaces the distribution's
    command += [
        '--essential-hook=mkdir -p "$1/etc/initramfs-tools"; echo update_initramfs=no '
        '> "$1/etc/initramfs-tools/update-initramfs.conf"'
    ]
    customise = pack.FILES / "customise.sh"
    command += [f'--customize-hook={customise} "$1" {key.with_suffix(".pub")} {packages.SUITE}']
    command += [packages.SUITE, str(tar), *apt_sources.discover().source_lines(packages.SUITE)]
    log = tar.with_name("mmdebstrap.log")
    with log.open("wb") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith("E")]
        raise LabError(f"mmdebstrap failed: {' / '.join(lines[-3:])}", "is the package mirror up?")


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
        raise LabError(f"{command[-3]} failed: {done.stderr.strip().splitlines()[-1:]}")


def _build_guest(root: Path, target: Path, steps: Steps) -> None:
    init = GUEST_SOURCES / "init"
    if not init.exists():
        raise LabError(f"{init} is missing")
    with steps.step("guest image"):
        tree = target / "tree"
        shutil.copytree(root / "guest-parts/tree", tree)
        for directory in ("proc", "sys", "dev", "tmp", "etc", "run"):
            (tree / directory).mkdir(exist_ok=True)
        (tree / "bin/sh").symlink_to("busybox")
        for source in sorted(GUEST_SOURCES.glob("*.c")):
            _compile(source, tree / "bin" / source.stem)
        shutil.copy(init, tree / "init")
        (tree / "init").chmod(0o755)
        for modules in sorted((root / "guest-parts/modules").iterdir()):
            shutil.copytree(modules, tree / "mod")
            kernel.write_initramfs(tree, target / f"initrd-{modules.name}")
            shutil.rmtree(tree / "mod")
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
