"""What a failed test leaves behind: the host VM's journal, kernel log, DAMON tree, libvirt and guest logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from integration.lab.errors import LabError

if TYPE_CHECKING:
    from pathlib import Path

    from integration.lab.lab import Lab

REMOTE = "/var/tmp/evidence"
GATHER = f"""\
rm -rf {REMOTE}; mkdir -p {REMOTE}; cd {REMOTE}
journalctl -b --no-pager -o short-monotonic >journal.txt
dmesg >kernel.txt
grep -rs . /sys/kernel/mm/damon/admin >damon.txt
cp -r /var/log/libvirt/qemu guests
cp -r /var/lib/overcommit state
cp /var/tmp/overcommitd.log /var/tmp/migration.log .
cp /proc/meminfo /proc/swaps /proc/vmstat /proc/loadavg .
timeout 20 virsh list --all >domains.txt; timeout 20 virsh domstats >>domains.txt
true
"""
LAST = (
    f"cd {REMOTE}; cat loadavg swaps; tail -n 12 kernel.txt; tail -n 25 overcommitd.log; tail -n 3 guests/*"
)
SECONDS = 90


def collect(lab: Lab, directory: Path) -> str:
    """Copy everything into a directory; its end, to be read at once. A host that is gone says so."""
    directory.mkdir(parents=True, exist_ok=True)
    last, missing = "", ""
    for part in (_console, _gather, _fetch):
        try:
            last = part(lab, directory)
        except (LabError, OSError) as error:  # what was gathered before it is of use all the same
            missing += f"{error}; "
    return f"{missing}what there is is in {directory}; its end:\n{last}"


def _console(lab: Lab, directory: Path) -> str:
    (directory / "console.txt").write_text(lab.console_tail(2000))
    return ""


def _gather(lab: Lab, _: Path) -> str:
    lab.run(f"{{ {GATHER} }} 2>/dev/null", timeout=SECONDS)
    return ""


def _fetch(lab: Lab, directory: Path) -> str:
    lab.pull(f"{REMOTE}/.", directory, timeout=SECONDS)
    return lab.run(f"{{ {LAST}; }} 2>/dev/null", check=False, timeout=SECONDS).stdout
