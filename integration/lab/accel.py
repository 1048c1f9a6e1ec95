"""Which accelerator really runs the host VM on this machine.

That ``/dev/kvm`` opens proves little: inside of some virtual machines it opens and a Debian kernel
dies in early boot.  So the built kernel is booted once, with an initrd that reports and powers off.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from integration.lab import paths

if TYPE_CHECKING:
    from integration.lab.image.build import Image

QEMU = "qemu-system-x86_64"
PROBE_SECONDS = 20
KVM = Path("/dev/kvm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Accel:
    """An accelerator with the processor that goes with it."""

    name: str
    cpu: str
    reason: str

    @property
    def emulated(self) -> bool:
        """Whether every instruction is emulated."""
        return self.name != "kvm"

    def arguments(self) -> list[str]:
        """QEMU's arguments."""
        return ["-accel", self.name, "-cpu", self.cpu]


def _tcg(reason: str) -> Accel:
    # thread=multi loses the host VM as soon as several guests run in it; 5-level page tables only
    # make an emulated page walk longer
    return Accel("tcg,thread=single", "max,-la57", reason)


def probe(image: Image | None) -> Accel:
    """The accelerator to use; found out once per boot of the machine, kernel and QEMU.

    Without an image there is nothing to boot: emulation works everywhere.
    """
    if not KVM.exists():
        return _tcg("emulation, because there is no /dev/kvm")
    if not os.access(KVM, os.R_OK | os.W_OK):
        return _tcg("emulation, because this user may not open /dev/kvm; the group kvm may")
    if image is None:
        return _tcg(
            "emulation, because KVM was not tried: no image of this checkout was built yet "
            "(python -m integration.lab build)"
        )
    cache = paths.cache() / f"accel-{_machine_key(image)}.json"
    if cache.exists():
        return Accel(**json.loads(cache.read_text()))
    accel = _boot(image)
    draft = cache.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(accel)))
    draft.replace(cache)
    return accel


def _machine_key(image: Image) -> str:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    version = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
    boot = BOOT_ID.read_text().strip()  # a load that was too much for the probe, or no nested=1, ends with it
    facts = (boot, platform.release(), cpu[:1], version.splitlines()[0], image.releases)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def _boot(image: Image) -> Accel:
    command = [
        QEMU, "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "512",
        "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none",
        "-kernel", str(image.vmlinux(image.releases[-1])), "-initrd", str(image.probe_initrd),
        "-append", "console=ttyS0 quiet panic=-1",
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False,
            timeout=PROBE_SECONDS, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return _tcg(f"emulation, because a kernel did not come up under KVM in {PROBE_SECONDS} s")
    if "PROBE UP nested" in done.stdout:
        return Accel("kvm", "host", "KVM, a kernel booted under it")
    if "PROBE UP" in done.stdout:
        return _tcg("emulation, because KVM offers no nested virtualisation here")
    return _tcg("emulation, because a kernel died at boot under KVM")
