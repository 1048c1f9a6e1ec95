"""What a daemon that runs for months must not do: load code late or for nothing, or start programs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from overcommit.daemon.main import options_of
from overcommit.daemon.service import Options
from overcommit.errors import UsageError

TICKS = """
import pathlib, sys
import overcommit.daemon.main
too_much = {"overcommit.daemon.service", "overcommit.hypervisor", "sqlite3", "click", "pydantic", "tenacity"}
assert not too_much & set(sys.modules), "the worker is forked with this in memory"
import overcommit.daemon.service
too_much = {"click", "pydantic", "pydantic_core", "yaml", "subprocess"}
assert not too_much & set(sys.modules), "the daemon has in memory for ever what it needs once, or never"
from overcommit.policy import reader_process
from overcommit.control.one_controller import Control
from overcommit.daemon.controller import Controller
from overcommit.daemon.mode_state import ModeState
from overcommit.daemon.state import TickRequest
from overcommit.daemon.loop import Loop
from overcommit.daemon.notify import ServiceManager
from overcommit.daemon.policy_file import PolicyFile
from overcommit.records.journal import Journal
from overcommit.records.ledger import Ledger
from overcommit.testing import FakeClock, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.testing.fake_wakes import FakeWakes
from overcommit.testing.sentence_log import SentenceLog
from overcommit.units import GIB, MIB

class Server:
    def orders(self):
        return ()

    def publish(self, status, plan, sums):
        pass

    def tend(self):
        return None

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
    log=SentenceLog(said.append),
)
before = set(sys.modules)
with control.generation("daemon") as generation:
    controller = Controller(
        control, hypervisor, generation, PolicyFile(directory / "policy.yaml", reader_process.Reader),
        mode_state=ModeState(),
        take_over=True,
    )
    wakes, manager = FakeWakes(clock), ServiceManager(clock, {})
    loop = Loop(control, controller, hypervisor, wakes, Server(), manager)
    while controller.state.ticks < 60:
        loop.go_round()
    controller._policy_file.begin()
    controller.tick(TickRequest(new_policy=True))
    assert controller._policy_file.refused is None
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


STARTS = """
import os, signal, sys
from overcommit.daemon import main
from overcommit.daemon.wakes import LocalWakes
import overcommit.daemon.service

class Worker:
    def __init__(self, kernel):
        os.kill(os.getpid(), signal.SIGTERM)

    def close(self):
        print("given back")

class NoTriggers:
    def open(self, path, level):
        from overcommit.errors import HostError
        raise HostError("none")

def serve(options, worker):
    print("put together")
    wakes = LocalWakes(NoTriggers(), policy_state=lambda: 1, say=lambda sentence: None)
    print([wake.kind.name for wake in wakes.wait(0.0)])
    wakes.close()

main.DamonWorker, overcommit.daemon.service.serve, main.os.geteuid = Worker, serve, lambda: 0
main.overcommitd([])
"""


def test_a_signal_to_end_that_comes_too_early_waits_for_who_takes_it() -> None:
    ended = subprocess.run([sys.executable, "-c", STARTS], check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == ["put together", "['STOP']", "given back"]


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--obs"], ["stray"], ["--policy"]])
def test_what_it_does_not_understand_is_refused(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        options_of(arguments)


def test_what_it_is_told() -> None:
    told = Options(**vars(options_of(["--observe", "--policy", "p.yaml", "--group=kvm"])))
    assert told == Options(
        connect="qemu:///system", policy=Path("p.yaml"), observe=True, take_over=False, group="kvm"
    )
