"""A host VM's whole state, kept in its disk, and come back to as often as one likes.

All that is measured from one state starts alike: the same pages in the same places, the same order of the
kernel's lists, the same moment in each guest's work.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from integration.lab import paths, qmp
from integration.lab.errors import LabError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from integration.lab.hostvm import HostVm

_SECONDS = 300.0
_COME_BACK_SECONDS = 60.0


def save(vm: HostVm, name: str, guests: Sequence[str]) -> None:
    """Keep the state as it is now, with its guests paused; they go on afterwards.

    An emulated processor that is in the middle of a guest is saved without what belongs to that guest, and
    cannot be loaded. So guests are paused, and loading is tried at once.

    Raises:
        LabError: QEMU cannot save it, or what it saved cannot be loaded.
    """
    _each(vm, "suspend", guests)
    vm.ssh.close()
    with qmp.connected(paths.socket_dir(vm.name) / "qmp", _SECONDS) as link:
        link.execute("stop")
        link.monitor(f"savevm {name}")
        link.monitor(f"loadvm {name}")
        link.execute("cont")
    _reconnect(vm)
    _each(vm, "resume", guests)


def load(vm: HostVm, name: str, guests: Sequence[str]) -> None:
    """Go back to a state that was kept, and let its guests go on.

    Raises:
        LabError: there is none of the name, or the VM does not answer afterwards.
    """
    vm.check_alive()
    vm.ssh.close()
    with qmp.connected(paths.socket_dir(vm.name) / "qmp", _SECONDS) as link:
        link.execute("stop")
        link.monitor(f"loadvm {name}")
        link.execute("cont")
    _reconnect(vm)
    _each(vm, "resume", guests)


def _reconnect(vm: HostVm) -> None:
    """The connections of the state are nobody's: forwarded sockets are made anew with the shared one."""
    for stale in paths.socket_dir(vm.name).glob("g-*"):
        stale.unlink()
    vm.wait_for_ssh(time.monotonic() + _COME_BACK_SECONDS)


def _each(vm: HostVm, verb: str, guests: Sequence[str]) -> None:
    """Pause or resume guests, one after the other.

    Raises:
        LabError: one is not as it should be then.
    """
    wanted = {"suspend": "paused", "resume": "running"}[verb]
    line = "; ".join(f"virsh -q {verb} {guest} 2>&1; virsh -q domstate {guest}" for guest in guests)
    said = vm.run(line, check=False, timeout=120).stdout.split("\n")
    if sum(word.strip() == wanted for word in said) != len(guests):
        raise LabError(f"not every guest is {wanted}: {' '.join(said)}")
