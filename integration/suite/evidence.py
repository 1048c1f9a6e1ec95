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
cp /var/tmp/overcommitd.log .
cp /proc/meminfo /proc/swaps /proc/vmstat /proc/loadavg .
virsh list --all >domains.txt; virsh domstats >>domains.txt
true
"""
LAST = (
    f"cd {REMOTE}; cat loadavg swaps; tail -n 12 kernel.txt; tail -n 25 overcommitd.log; tail -n 3 guests/*"
)
SECONDS = 90


def collect(lab: Lab, directory: Path) -> str:
    """Copy everything into a directory; its end, to be read at once. A host VM that is gone says so."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "console.txt").write_text(lab.console_tail(2000))
    try:
        lab.run(f"{{ {GATHER} }} 2>/dev/null", timeout=SECONDS)
        lab.pull(f"{REMOTE}/.", directory, timeout=SECONDS)
        last = lab.run(f"{{ {LAST}; }} 2>/dev/null", check=False, timeout=SECONDS).stdout
    except LabError as error:
        return f"{error}; its console is in {directory}"
    return f"all of it is in {directory}; its end:\n{last}"
