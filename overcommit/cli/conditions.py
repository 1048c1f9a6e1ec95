"""The findings of ``doctor`` about settings that make the program useless or dangerous, each with a fix."""

from __future__ import annotations

import math
from collections.abc import Iterator

from overcommit.cli.accounts import Finding
from overcommit.damon.faults import known_faults
from overcommit.display import command
from overcommit.errors import in_a_line
from overcommit.host.kernel import Kernel
from overcommit.host.lru_gen import read_generations
from overcommit.model.facts import HostFacts
from overcommit.model.settings import Hierarchy, HostSettings
from overcommit.units import KIB, format_ratio, format_size

_FAIR_WATERMARK = 0.05
"""A twentieth of memory between the kernel's watermarks: as much as policies reserve."""
_FAIR_RESERVE = 0.1
_LEAST_PART_OF_USUAL = 0.25
_USUAL_SWAPPINESS, _EVEN_SWAPPINESS = 60, 100
_USUAL_WATERMARK = 10
_STRICT = 2
_KILLERS = {
    "earlyoom.service": "earlyoom",
    "nohang.service": "nohang",
    "nohang-desktop.service": "nohang",
}


def condition_findings(settings: HostSettings, host: HostFacts) -> Iterator[Finding]:
    """All settings that need a change."""
    yield from _groups(settings)
    yield from _kernel_settings(settings, host)
    yield from _services(settings, host)
    yield from _khugepaged(settings)


def fault_findings(release: str) -> Iterator[Finding]:
    """Known faults of this kernel's DAMON, and their workarounds."""
    for fault in known_faults(release):
        yield Finding(
            level="warn",
            about="DAMON",
            text=f"kernel {release} has a known fault: {fault.what}. What overcommit does about it: "
            f"{fault.workaround}",
            fix=fault.hint,
        )


def page_ages_finding(kernel: Kernel) -> Finding:
    """Whether the kernel's generations of pages can be read (docs/adr/0027). For root only."""
    about = "page ages"
    try:
        read_generations(kernel, ())
    except (OSError, ValueError) as error:
        return Finding(
            level="warn",
            about=about,
            text=f"the kernel does not tell how long ago pages were used ({in_a_line(error)}). Page-out "
            "chooses by DAMON's regions alone",
            fix="mount -t debugfs debugfs /sys/kernel/debug  # not possible in kernel lockdown",
        )
    return Finding(
        level="ok",
        about=about,
        text="the kernel tells how long ago pages were used; it counts from Linux 6.16 on",
    )


def boot_command(settings: HostSettings, parameter: str) -> str:
    """A command that adds a parameter to the kernel's command line. It takes effect at the next boot."""
    tool = (settings.boot_tool or "").rpartition("/")[2]
    edited = f"sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{parameter} /' /etc/default/grub"
    return {
        "proxmox-boot-tool": f"sed -i '1s/$/ {parameter}/' /etc/kernel/cmdline; {edited} && "
        "proxmox-boot-tool refresh && reboot",
        "update-grub": f"{edited} && update-grub && reboot",
        "grubby": f"grubby --update-kernel=ALL --args={parameter} && reboot",
        "grub2-mkconfig": f"{edited} && grub2-mkconfig -o /boot/grub2/grub.cfg && reboot",
        "rpm-ostree": f"rpm-ostree kargs --append={parameter} && reboot",
    }.get(tool, f"add {parameter} to the kernel's command line in the boot loader, and reboot")


def _groups(settings: HostSettings) -> Iterator[Finding]:
    if settings.hierarchy in {Hierarchy.LEGACY, Hierarchy.HYBRID}:
        yield Finding(
            level="warn",
            about="cgroups",
            text=f"control groups are {settings.hierarchy.value}: a guest's memory and memory pressure "
            f"cannot be read, and the kernel cannot reclaim from one guest",
            fix=boot_command(settings, "systemd.unified_cgroup_hierarchy=1"),
        )
    elif settings.memory_controller is False:
        yield Finding(
            level="warn",
            about="cgroups",
            text="control groups do not count memory: a guest's memory and memory pressure cannot be read. "
            "The kernel booted with cgroup_disable=memory, or has it off by default",
            fix=boot_command(settings, "cgroup_enable=memory"),
        )


def _kernel_settings(settings: HostSettings, host: HostFacts) -> Iterator[Finding]:
    mode = settings.zone_reclaim_mode
    if mode and len(host.nodes) > 1:
        yield _setting(
            settings,
            "zone_reclaim_mode",
            mode,
            "a full memory node reclaims from its own guests while other nodes have room",
            0,
        )
    swappiness = settings.swappiness
    if swappiness == 0 and host.swap:
        yield _setting(
            settings,
            "swappiness",
            0,
            "the kernel pages out nothing until free memory and file cache are almost gone. Then it may "
            "kill processes. Page-outs by overcommit still work",
            _USUAL_SWAPPINESS,
        )
    first = max(host.swap, key=lambda area: area.priority, default=None)
    if swappiness is not None and swappiness > _EVEN_SWAPPINESS and first is not None and first.on_disk:
        yield _setting(
            settings,
            "swappiness",
            swappiness,
            f"the kernel pages out guests by itself rather than drop cache, and {first.path} is on a disk",
            _USUAL_SWAPPINESS,
        )
    if settings.overcommit_memory == _STRICT:
        yield _setting(
            settings,
            "overcommit_memory",
            _STRICT,
            "the kernel refuses memory above its CommitLimit: a guest that is promised more does not start",
            0,
        )
    yield from _kept_free(settings, host)


def _kept_free(settings: HostSettings, host: HostFacts) -> Iterator[Finding]:
    """What the kernel keeps free, compared with its own default."""
    usual = min(max(math.isqrt(host.total_bytes // KIB * 16), 128), 256 * KIB)  # mm/page_alloc.c
    free = settings.min_free_bytes
    if free is not None and free > _FAIR_RESERVE * host.total_bytes:
        share = format_ratio(free / host.total_bytes)
        yield _setting(
            settings,
            "min_free_kbytes",
            free // KIB,
            f"{format_size(free)} ({share} of memory) stay unused: the kernel pages out and kills while "
            f"they are free",
            usual,
        )
    elif free is not None and free < _LEAST_PART_OF_USUAL * usual * KIB:
        yield _setting(
            settings,
            "min_free_kbytes",
            free // KIB,
            f"the kernel keeps {format_size(free)} for itself; {format_size(usual * KIB)} is usual. "
            f"Page-out itself needs memory, and a host that is short can lock up",
            usual,
        )
    share_between = settings.watermark_share
    if share_between is not None and share_between >= _FAIR_WATERMARK:
        amount = format_size(2 * share_between * host.total_bytes)
        yield _setting(
            settings,
            "watermark_scale_factor",
            round(share_between * 10_000),
            f"the kernel pages out guests by itself until {amount} are free, whatever the policy says",
            _USUAL_WATERMARK,
        )


def _setting(settings: HostSettings, name: str, value: int, does: str, better: int) -> Finding:
    tuned = ""
    if "tuned.service" in settings.services:
        tuned = f"; tuned has the profile {settings.tuned_profile or 'of unknown name'}, which may set it"
    file = f"/etc/sysctl.d/zz-{name.replace('_', '-')}.conf"
    return Finding(
        level="warn",
        about=f"vm.{name}",
        text=f"is {value}: {does}{tuned}",
        fix=f"echo vm.{name}={better} > {file} && sysctl -p {file}",
    )


def _services(settings: HostSettings, host: HostFacts) -> Iterator[Finding]:
    for service in sorted(settings.services):
        if service in _KILLERS:
            yield Finding(
                level="warn",
                about=_KILLERS[service],
                text="is active. When memory and swap are low it kills the largest process, which is a "
                "guest. Page-out fills swap on purpose",
                fix=command("systemctl", "disable", "--now", service),
            )
    if "systemd-oomd.service" in settings.services:
        yield Finding(
            level="warn",
            about="systemd-oomd",
            text="is active. In the slices that oomctl lists (/ on Fedora) it kills whole groups when 90% "
            "of memory and of swap are in use. It begins with those with most in swap, which are guests",
            fix="systemctl mask --now systemd-oomd.service",
        )
    if "numad.service" in settings.services and len(host.nodes) > 1:
        yield Finding(
            level="warn",
            about="numad",
            text="is active. It moves guests' memory between nodes and undoes demotion",
            fix="systemctl disable --now numad.service",
        )


def _khugepaged(settings: HostSettings) -> Iterator[Finding]:
    """A note, not a warning: it is the default of every distribution, and its cost depends on the guest."""
    if settings.khugepaged_fills and settings.huge_pages in {"always", "madvise"}:
        path = "/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none"
        conf = "/etc/tmpfiles.d/khugepaged.conf"
        yield Finding(
            level="ok",
            about="khugepaged",
            text=f"may fill up to {settings.khugepaged_fills} free pages to make a huge page. Memory that "
            f"a balloon or free page reporting freed can become used again",
            fix=f"echo 'w {path} - - - - 0' > {conf} && systemd-tmpfiles --create {conf}",
        )
