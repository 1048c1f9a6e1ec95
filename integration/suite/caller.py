"""Runs in the host VM: one long-lived connection to libvirt, asked as the arguments say.

``python caller.py STEP...``, where a step is ``domains``, ``describe``, ``busy_with:UUID``, ``xml:UUID``,
``balloon:UUID``, ``set_balloon:UUID:MIB``, ``wait:SECONDS`` (as the daemon does), ``sleep:SECONDS`` or
``sh:COMMAND``. One JSON line each: what was answered or why not, how long that took, and what would have
woken the daemon since the step before.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from overcommit.clock import SystemClock
from overcommit.daemon.wakes import LocalWakes
from overcommit.errors import HostError
from overcommit.host.triggers import LocalTriggers
from overcommit.hypervisor.reconnecting import ReconnectingLibvirt
from overcommit.model.moments import Wall
from overcommit.model.wake import Wake

MIB = 1 << 20


def main(steps: list[str]) -> None:
    """Take the steps."""
    wakes = LocalWakes(
        LocalTriggers(), policy_state=lambda: None, say=lambda text: print(text, file=sys.stderr)
    )
    libvirt = ReconnectingLibvirt("qemu:///system", read_only=False, clock=SystemClock(), notify=wakes.put)
    calls: dict[str, Callable[..., object]] = {
        "domains": lambda: [domain.name for domain in libvirt.domains()],
        "describe": libvirt.describe,
        "busy_with": libvirt.busy_with,
        "xml": lambda uuid: len(libvirt.xml(uuid)),
        "balloon": lambda uuid: libvirt.balloon(uuid, now=Wall(time.time())).actual_bytes // MIB,
        "set_balloon": lambda uuid, mib: libvirt.set_balloon(uuid, int(mib) * MIB),
        "sh": lambda command: subprocess.run(command, shell=True, check=True, stdout=sys.stderr).returncode,
        "wait": lambda seconds: woken.extend(wakes.wait(float(seconds))),
        "sleep": lambda seconds: time.sleep(float(seconds)),
    }
    woken: list[Wake] = []
    for step in steps:
        name, *arguments = step.split(":", 1) if step.startswith("sh:") else step.split(":")
        begin = time.monotonic()
        try:
            answer, error = calls[name](*arguments), None
        except HostError as failure:
            answer, error = None, str(failure)
        line = {
            "step": step,
            "seconds": round(time.monotonic() - begin, 3),
            "answer": answer,
            "error": error,
            "wakes": [[wake.kind.value, wake.uuid, wake.detail] for wake in (*woken, *wakes.wait(0))],
            "threads": threading.active_count(),
            "sockets": sum("socket:" in str(link.readlink()) for link in _descriptors()),
        }
        print(json.dumps(line), flush=True)
        woken.clear()
    begin = time.monotonic()
    libvirt.close()
    wakes.close()
    print(json.dumps({"step": "close", "seconds": round(time.monotonic() - begin, 3)}), flush=True)


def _descriptors() -> list[Path]:
    return [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


if __name__ == "__main__":
    main(sys.argv[1:])
