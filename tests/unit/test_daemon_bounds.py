"""What a daemon that runs for months must not do: load code late, or start programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TICKS = """
import pathlib, sys
import overcommit.daemon.main
assert "subprocess" not in sys.modules, "it could start programs"
from overcommit.control import Control
from overcommit.daemon.controller import Controller
from overcommit.daemon.footing import Footing
from overcommit.daemon.loop import Loop
from overcommit.daemon.notify import ServiceManager
from overcommit.daemon.policy_file import PolicyFile
from overcommit.journal import Journal
from overcommit.ledger import Ledger
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.testing.fake_wakes import FakeWakes
from overcommit.units import GIB, MIB

class Server:
    def orders(self):
        return ()

    def publish(self, status, plan):
        pass

directory = pathlib.Path(sys.argv[1])
(directory / "policy.yaml").write_text('''
version: 1
host: {reserve: 8%, pageout_actor: damos-fvaddr, swap: {max_used: 60%, max_write: 50MiB/s}}
classes: {all: {floor: 20%, cold_after: 20s}}
default_class: all
''')
guest = FakeGuest(
    name="cold", uuid="00000000-0000-0000-0000-000000000001", pid=501, memory_bytes=128 * MIB,
    resident=set(range(100)), hot=set(range(16)),
)
host = FakeHost([guest], total_bytes=2 * GIB)
clock, hypervisor, kernel = FakeClock(host), FakeHypervisor(host), FakeKernel(host)
said = []
control = Control(
    kernel=kernel, clock=clock, journal=Journal(directory), ledger=Ledger(directory, warn=said.append),
    say=said.append,
)
before = set(sys.modules)
with control.generation("daemon") as generation:
    controller = Controller(
        control, hypervisor, generation, PolicyFile(directory / "policy.yaml"), footing=Footing(),
        take_over=True, say=said.append,
    )
    loop = Loop(control, controller, FakeWakes(clock), Server(), ServiceManager(clock, {}), say=said.append)
    while controller.ticks < 60:
        loop.go_round()
    controller.close("the end")
print(sum("pageout: done" in sentence for sentence in said), sorted(set(sys.modules) - before))
"""


def test_nothing_is_loaded_once_it_runs(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", TICKS, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    done, _, loaded = ended.stdout.strip().partition(" ")
    assert int(done) >= 1, "it did nothing"
    assert loaded == "[]"
