"""What doctor says of hosts as distributions and operators set them, and that its fixes mend them."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Mapping, Sequence

import pytest

from overcommit.cli.accounts import swap_finding, zram_command
from overcommit.cli.conditions import boot_command, condition_findings, fault_findings
from overcommit.damon.faults import known_faults
from overcommit.host.kernel import Kernel
from overcommit.host.settings import SYSCTL, read_settings
from overcommit.model.facts import HostFacts
from overcommit.model.settings import Hierarchy, HostSettings
from overcommit.model.swap import SwapArea, SwapKind
from overcommit.units import GIB, KIB
from tests import scenarios

Files = dict[str, str | OSError]
KernelWith = Callable[[Mapping[str, str | OSError]], Kernel]

GROUPS = "/sys/fs/cgroup"
THP = "/sys/kernel/mm/transparent_hugepage"
FINE: Files = {
    f"{SYSCTL}/zone_reclaim_mode": "0\n",
    f"{SYSCTL}/swappiness": "60\n",
    f"{SYSCTL}/overcommit_memory": "0\n",
    f"{SYSCTL}/min_free_kbytes": "67584\n",
    f"{SYSCTL}/watermark_scale_factor": "10\n",
    f"{THP}/enabled": "always madvise [never]\n",
    f"{THP}/khugepaged/max_ptes_none": "511\n",
    f"{GROUPS}/cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n",
}
DISK = SwapArea(path="/dev/sda2", kind=SwapKind.PARTITION, size_bytes=8 * GIB, used_bytes=0, encrypted=True)


def big_host(*, nodes: int = 2, swap: Sequence[SwapArea] = (DISK,)) -> HostFacts:
    each = 64 * GIB // nodes
    return scenarios.host(
        total=64 * GIB,
        available=16 * GIB,
        swap=swap,
        nodes=[scenarios.node(nid, each, each // 4) for nid in range(nodes)],
    )


def active(service: str) -> Files:
    return {f"{GROUPS}/system.slice/{service}/cgroup.procs": "7\n"}


def said(
    kernel_with: KernelWith, files: Files, host: HostFacts | None = None
) -> dict[str, tuple[str, str, str]]:
    """Level, text and fix by what it is about."""
    settings, gaps = read_settings(kernel_with(FINE | files))
    assert gaps == ()
    return {f.about: (f.level, f.text, f.fix) for f in condition_findings(settings, host or big_host())}


def test_of_a_host_in_order_nothing_is_said(kernel_with: KernelWith) -> None:
    assert said(kernel_with, {}) == {}
    assert list(condition_findings(HostSettings(), big_host())) == [], "an old kernel, or one that hides all"


BAD: dict[str, tuple[Files, str, str]] = {
    "two sockets and zone reclaim": (
        {f"{SYSCTL}/zone_reclaim_mode": "1\n"},
        "vm.zone_reclaim_mode",
        "full memory node reclaims",
    ),
    "zone reclaim that writes and swaps": (
        {f"{SYSCTL}/zone_reclaim_mode": "7\n"},
        "vm.zone_reclaim_mode",
        "is 7",
    ),
    "swap as the last resort": (
        {f"{SYSCTL}/swappiness": "0\n"},
        "vm.swappiness",
        "pages out nothing until",
    ),
    "a setting for zram over a disk": (
        {f"{SYSCTL}/swappiness": "180\n"},
        "vm.swappiness",
        "/dev/sda2 is on a disk",
    ),
    "strict accounting": ({f"{SYSCTL}/overcommit_memory": "2\n"}, "vm.overcommit_memory", "CommitLimit"),
    "an old tuning guide": (
        {f"{SYSCTL}/min_free_kbytes": "8388608\n"},
        "vm.min_free_kbytes",
        "8.0 GiB (12.5% of memory) stay unused",
    ),
    "nothing kept free": ({f"{SYSCTL}/min_free_kbytes": "4096\n"}, "vm.min_free_kbytes", "32.0 MiB is usual"),
    "watermarks of a database guide": (
        {f"{SYSCTL}/watermark_scale_factor": "1000\n"},
        "vm.watermark_scale_factor",
        "until 12.8 GiB are free",
    ),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_a_setting_that_endangers_guests_has_a_fix_after_which_nothing_is_said(
    kernel_with: KernelWith, case: tuple[Files, str, str]
) -> None:
    files, about, words = case
    ((found, (level, text, fix)),) = said(kernel_with, files).items()
    assert (found, level) == (about, "warn")
    assert words in text
    match = re.fullmatch(r"echo vm\.(\w+)=(\d+) > (/etc/sysctl\.d/\S+\.conf) && sysctl -p (\S+)", fix)
    assert match is not None
    assert match[3] == match[4]
    assert said(kernel_with, files | {f"{SYSCTL}/{match[1]}": f"{match[2]}\n"}) == {}


def test_what_does_no_harm_there_is_not_said(kernel_with: KernelWith) -> None:
    reclaiming: Files = {f"{SYSCTL}/zone_reclaim_mode": "1\n"}
    assert said(kernel_with, reclaiming, big_host(nodes=1)) == {}
    zram = SwapArea(path="/dev/zram0", kind=SwapKind.ZRAM, size_bytes=8 * GIB, used_bytes=0, priority=100)
    eager: Files = {f"{SYSCTL}/swappiness": "180\n"}
    assert said(kernel_with, eager, big_host(swap=[DISK, zram])) == {}, "zram comes first"
    assert said(kernel_with, {f"{SYSCTL}/swappiness": "0\n"}, big_host(swap=[])) == {}
    assert said(kernel_with, active("numad.service"), big_host(nodes=1)) == {}
    assert said(kernel_with, active("tuned.service") | {"/etc/tuned/active_profile": "virtual-host\n"}) == {}


def test_tuned_is_named_where_a_setting_may_be_its(kernel_with: KernelWith) -> None:
    files = active("tuned.service") | {
        "/etc/tuned/active_profile": "my-numa\n",
        f"{SYSCTL}/zone_reclaim_mode": "1\n",
    }
    _, text, _ = said(kernel_with, files)["vm.zone_reclaim_mode"]
    assert text.endswith("; tuned has the profile my-numa, which may set it")


@pytest.mark.parametrize(
    ("service", "about", "fix"),
    [
        ("systemd-oomd.service", "systemd-oomd", "systemctl mask --now systemd-oomd.service"),
        ("earlyoom.service", "earlyoom", "systemctl disable --now earlyoom.service"),
        ("nohang.service", "nohang", "systemctl disable --now nohang.service"),
        ("nohang-desktop.service", "nohang", "systemctl disable --now nohang-desktop.service"),
        ("numad.service", "numad", "systemctl disable --now numad.service"),
    ],
)
def test_who_kills_or_moves_guests_is_named(
    kernel_with: KernelWith, service: str, about: str, fix: str
) -> None:
    ((found, (level, text, how)),) = said(kernel_with, active(service)).items()
    assert (found, level, how) == (about, "warn", fix)
    assert text.startswith("is active. ")


@pytest.mark.parametrize(
    ("there", "gone", "hierarchy"),
    [
        ({f"{GROUPS}/unified/cgroup.controllers": ""}, True, Hierarchy.HYBRID),
        ({f"{GROUPS}/memory/memory.limit_in_bytes": "9\n"}, True, Hierarchy.LEGACY),
    ],
)
def test_old_control_groups_are_pointed_out(
    kernel_with: KernelWith, there: Files, gone: bool, hierarchy: Hierarchy
) -> None:
    files = {path: text for path, text in FINE.items() if not (gone and path.startswith(GROUPS))}
    grub: Files = {"/usr/sbin/update-grub": ""}
    settings, _ = read_settings(kernel_with(files | there | grub))
    assert settings.hierarchy is hierarchy
    (finding,) = condition_findings(settings, big_host())
    assert (finding.about, finding.level) == ("cgroups", "warn")
    assert f"control groups are {hierarchy.value}: " in finding.text
    assert "systemd.unified_cgroup_hierarchy=1" in finding.fix


def test_a_small_board_whose_kernel_leaves_the_memory_controller_off(kernel_with: KernelWith) -> None:
    _, text, fix = said(kernel_with, {f"{GROUPS}/cgroup.controllers": "cpuset cpu io pids\n"})["cgroups"]
    assert "do not count memory" in text
    assert "cgroup_enable=memory" in fix


@pytest.mark.parametrize(("page", "fills"), [(4, 511), (64, 8191)])
def test_khugepaged_may_take_back_what_was_given(kernel_with: KernelWith, page: int, fills: int) -> None:
    """With pages of 64 KiB a huge page has 512 MiB, of which all but one page may be empty."""
    files: Files = {
        f"{THP}/enabled": "always [madvise] never\n",
        f"{THP}/khugepaged/max_ptes_none": f"{fills}\n",
    }
    level, text, fix = said(kernel_with, files)["khugepaged"]
    assert (level, f"up to {fills} free pages" in text) == ("ok", True)
    assert f"w {THP}/khugepaged/max_ptes_none - - - - 0" in fix
    assert page * KIB * (fills + 1) in {2 << 20, 512 << 20}


def test_what_is_there_and_cannot_be_read_is_a_gap(kernel_with: KernelWith) -> None:
    bad: Files = {f"{SYSCTL}/swappiness": "many\n", f"{THP}/enabled": OSError(5, "Input/output error")}
    settings, gaps = read_settings(kernel_with(FINE | bad))
    assert (settings.swappiness, settings.huge_pages) == (None, None)
    assert sorted(gap.what for gap in gaps) == [f"{SYSCTL}/swappiness", f"{THP}/enabled"]


@pytest.mark.parametrize("kibibytes", [256 * 1024, 4 << 20, 64 << 20, 1 << 30])
def test_what_is_usual_is_the_kernels_own_choice(kernel_with: KernelWith, kibibytes: int) -> None:
    """As init_per_zone_wmark_min computes it: of 64 GiB 32 MiB, and no more than 256 MiB of any."""
    host = scenarios.host(total=kibibytes * KIB, available=0)
    settings, _ = read_settings(kernel_with(FINE | {f"{SYSCTL}/min_free_kbytes": "1\n"}))
    (finding,) = condition_findings(settings, host)
    better = int(finding.fix.partition("=")[2].partition(" ")[0])
    assert better == min(int((kibibytes * 16) ** 0.5), 262144)


FIXES = [
    *(
        boot_command(HostSettings(boot_tool=tool), "psi=1")
        for tool in (
            *("/usr/sbin/update-grub", "/usr/sbin/grubby", "/usr/sbin/proxmox-boot-tool"),
            *("/usr/sbin/grub2-mkconfig", "/usr/bin/rpm-ostree"),
        )
    ),
    zram_command(scenarios.host()),
    swap_finding(
        SwapArea(path="/dev/sda2", kind=SwapKind.PARTITION, size_bytes=GIB, used_bytes=0, encrypted=False),
        scenarios.host(),
    ).fix,
    swap_finding(
        SwapArea(path="/swap", kind=SwapKind.FILE, size_bytes=GIB, used_bytes=0, encrypted=False),
        scenarios.host(),
    ).fix,
    swap_finding(
        SwapArea(path="/dev/zd0", kind=SwapKind.PARTITION, size_bytes=GIB, used_bytes=0), scenarios.host()
    ).fix,
    swap_finding(
        SwapArea(
            path="/mnt/a b;reboot/swap", kind=SwapKind.FILE, size_bytes=GIB, used_bytes=0, filesystem="nfs4"
        ),
        scenarios.host(),
    ).fix,
]


@pytest.mark.parametrize("fix", FIXES)
def test_a_fix_can_be_pasted_into_a_shell(fix: str) -> None:
    assert fix
    assert subprocess.run(["bash", "-n"], input=fix, text=True, capture_output=True, check=False).stderr == ""
    assert "reboot" not in shlex.split(fix.partition("swapoff ")[2], comments=True)


@pytest.mark.parametrize("text", ['GRUB_CMDLINE_LINUX=""\n', 'GRUB_CMDLINE_LINUX="quiet splash"\n'])
def test_the_boot_parameter_comes_into_the_file(text: str) -> None:
    fix = boot_command(HostSettings(boot_tool="/usr/sbin/update-grub"), "psi=1")
    script = shlex.split(fix.partition(" && ")[0])[2]
    edited = subprocess.run(["sed", script], input=text, capture_output=True, text=True, check=True).stdout
    assert edited == text.replace('"', '"psi=1 ', 1)


@pytest.mark.parametrize(
    ("release", "known"),
    [
        ("6.12.107+deb13-amd64", False),
        ("6.13.12", False),
        ("6.14.0-29-generic", True),
        ("6.17.8-1-pve", True),
        ("6.19.11-200.fc43.aarch64+64k", True),
        ("7.0.2-2-pve", True),
        ("7.0.0-rc1", True),
        ("7.1.13", False),
        ("7.3.4+deb14-arm64-16k", False),
        ("60.14", False),
        ("fake", False),
        ("", False),
        ("9" * 5000 + ".1", False),
    ],
)
def test_kernels_whose_damon_may_hang_are_named(release: str, known: bool) -> None:
    assert bool(known_faults(release)) is known
    findings = list(fault_findings(release))
    assert len(findings) == known
    for finding in findings:
        assert (finding.about, finding.level) == ("DAMON", "warn")
        assert f"kernel {release} has a known fault" in finding.text
        assert "What overcommit does about it: each monitor also watches a page" in finding.text
