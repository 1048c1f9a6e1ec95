"""Kernel same-page merging (KSM): its figures, settings and other users. Only `write_setting` writes.

Documentation/admin-guide/mm/ksm.rst and Documentation/ABI/testing/sysfs-kernel-mm-ksm.
"""

from __future__ import annotations

import errno
import os
import re

from overcommit.errors import Unreadable
from overcommit.host.cgroup import ROOT as CGROUPS
from overcommit.host.figures import number, read_number, signed_number
from overcommit.host.kernel import Kernel
from overcommit.model.action import KSM_SETTINGS
from overcommit.model.facts import KsmFacts, KsmRun
from overcommit.units import PAGE_SIZE

DIRECTORY = "/sys/kernel/mm/ksm"
_TUNERS = ("ksmtuned.service", "mom-vdsm.service", "momd.service")
"""Services that write ``run`` themselves. Systemd gives each a cgroup while it is active."""


def read_ksm(kernel: Kernel) -> KsmFacts | None:
    """The figures of KSM; None where the kernel has no KSM (CONFIG_KSM).

    Raises:
        OSError: a file that every KSM has cannot be read.
        Unreadable: a file is malformed.
    """
    if not kernel.exists(f"{DIRECTORY}/run"):
        return None

    def count(name: str) -> int:
        return number(read_setting(kernel, name), f"{DIRECTORY}/{name}")

    run = count("run")
    if run not in {known.value for known in KsmRun}:
        raise Unreadable(f"{DIRECTORY}/run is {run}, not 0, 1 or 2")
    return KsmFacts(
        run=KsmRun(run),
        pages_to_scan=count("pages_to_scan"),
        sleep_seconds=count("sleep_millisecs") / 1000,
        shared_bytes=count("pages_shared") * PAGE_SIZE,
        sharing_bytes=count("pages_sharing") * PAGE_SIZE,
        unshared_bytes=count("pages_unshared") * PAGE_SIZE,
        full_scans=count("full_scans"),
        profit_bytes=signed_number(read_setting(kernel, "general_profit"), "general_profit")
        if _has(kernel, "general_profit")
        else None,
        advisor=read_setting(kernel, "advisor_mode") if _has(kernel, "advisor_mode") else None,
        # Only a kernel for hosts with several memory nodes has the choice.
        across_nodes=not _has(kernel, "merge_across_nodes") or count("merge_across_nodes") == 1,
        tuner=next((name for name in _TUNERS if kernel.exists(f"{CGROUPS}/system.slice/{name}")), None),
    )


def read_setting(kernel: Kernel, name: str) -> str:
    """The value of one of KSM's files, in the form in which it is written.

    Raises:
        OSError: there is no such file.
    """
    text = kernel.read(f"{DIRECTORY}/{name}").strip()
    chosen = re.search(r"\[(\S+)\]", text)  # advisor_mode shows what there is, and marks what is chosen
    return chosen[1] if chosen else text


def write_setting(kernel: Kernel, name: str, value: str) -> None:
    """Change one of KSM's files, from the closed set `KSM_SETTINGS`.

    Raises:
        OSError: there is no such file, or the kernel refuses.
    """
    if name not in KSM_SETTINGS:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), f"{DIRECTORY}: {name!r}")
    kernel.write(f"{DIRECTORY}/{name}", value)


def read_merged(kernel: Kernel, pid: int) -> int | None:
    """Bytes of a process in merged pages, shared with itself or others (Linux 5.19); None: not counted.

    Raises:
        OSError: the process has exited.
        Unreadable: the file does not hold a number.
    """
    path = f"/proc/{pid}/ksm_merging_pages"
    return read_number(kernel, path) * PAGE_SIZE if kernel.exists(path) else None


def _has(kernel: Kernel, name: str) -> bool:
    return kernel.exists(f"{DIRECTORY}/{name}")
