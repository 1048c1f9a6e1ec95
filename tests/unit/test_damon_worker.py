"""The process that does all DAMON I/O: transparent, and left behind when the kernel hangs it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from overcommit.damon import worker
from overcommit.damon.worker import DamonWorker
from overcommit.errors import HostError
from overcommit.host.kernel import LocalKernel

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ThisProcess(LocalKernel):
    """Files, a file that tells who reads it, and one that never answers."""

    def read(self, path: str) -> str:
        if path.endswith("/whoami"):
            return str(os.getpid())
        if path.endswith("/hang"):
            time.sleep(600)
        if path.endswith("/slow"):
            time.sleep(0.3)
            return "slow"
        return super().read(path)


@pytest.fixture
def damon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "damon"
    directory.mkdir()
    monkeypatch.setattr(worker, "PATHS", (str(directory),))
    return directory


@pytest.fixture
def kernel(damon: Path) -> Iterator[DamonWorker]:  # noqa: ARG001 - its paths are set before the fork
    with_worker = DamonWorker(ThisProcess(), deadline_seconds=0.5)
    yield with_worker
    with contextlib.suppress(ProcessLookupError):
        os.kill(with_worker.pid, signal.SIGKILL)
    with_worker.close()


def test_only_damons_files_are_the_workers(kernel: DamonWorker, damon: Path, tmp_path: Path) -> None:
    assert kernel.read(f"{damon}/whoami") == str(kernel.pid) != str(os.getpid())
    assert kernel.read(f"{tmp_path}/whoami") == str(os.getpid())


def test_files_are_what_they_are(kernel: DamonWorker, damon: Path) -> None:
    (damon / "state").write_text("")
    kernel.write(f"{damon}/state", "on")
    assert (damon / "state").read_text() == "on"
    assert kernel.list(str(damon)) == ("state",)
    assert kernel.exists(f"{damon}/state")
    assert not kernel.exists(f"{damon}/pid")


def test_many_files_in_one_round_trip(kernel: DamonWorker, damon: Path) -> None:
    text = "x" * 3000
    for number in range(200):
        (damon / str(number)).write_text(f"{number}{text}")
    read = kernel.read_all(str(damon), [str(number) for number in range(200)])
    assert read == tuple(f"{number}{text}" for number in range(200))


def test_a_refusal_is_the_kernels_own(kernel: DamonWorker, damon: Path) -> None:
    with pytest.raises(FileNotFoundError) as refusal:
        kernel.read(f"{damon}/nothing")
    assert refusal.value.errno == errno.ENOENT
    assert refusal.value.filename == f"{damon}/nothing"
    (damon / "file").touch()
    with pytest.raises(NotADirectoryError):
        kernel.list(f"{damon}/file")


def test_a_kernel_that_hangs_does_not_hang_us(kernel: DamonWorker, damon: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(HostError, match="has not answered") as failure:
        kernel.read(f"{damon}/hang")
    assert str(damon) in str(failure.value)
    assert failure.value.hint
    (damon / "state").write_text("off\n")
    with pytest.raises(HostError, match="has not answered"):
        kernel.read(f"{damon}/state")
    assert kernel.read(f"{tmp_path}/whoami") == str(os.getpid()), "the rest of the kernel goes on"
    kernel.close()
    assert time.monotonic() - began < 5, "a hung worker is not waited for"


def test_a_dead_worker_is_named(kernel: DamonWorker, damon: Path) -> None:
    os.kill(kernel.pid, signal.SIGKILL)
    os.waitpid(kernel.pid, 0)
    with pytest.raises(HostError, match="has died"):
        kernel.read(f"{damon}/whoami")


@pytest.fixture
def ending() -> Iterator[None]:
    """The program's own handlers, which raise KeyboardInterrupt for all that ends it."""
    before = {number: signal.getsignal(number) for number in ENDINGS}

    def terminate(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for number in ENDINGS:
        signal.signal(number, terminate)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("ending")
@pytest.mark.parametrize("number", ENDINGS)
def test_an_interrupted_question_does_not_shift_the_answers(
    kernel: DamonWorker, damon: Path, number: signal.Signals
) -> None:
    """Ctrl-C while DAMON works: the cleaning up that follows must get answers to its own questions."""
    (damon / "state").write_text("on\n")
    timer = threading.Timer(0.1, os.kill, (os.getpid(), number))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        kernel.read(f"{damon}/slow")
    assert kernel.read(f"{damon}/state") == "on\n"
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


@pytest.mark.usefixtures("ending")
def test_a_worker_ends_with_its_program_and_not_before(damon: Path) -> None:
    with_worker = DamonWorker(ThisProcess())
    for number in ENDINGS:
        os.kill(with_worker.pid, number)
    assert with_worker.read(f"{damon}/whoami") == str(with_worker.pid), "they are for the program"
    with_worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(with_worker.pid, 0)


PROGRAM = """
import os, sys, time
from overcommit.damon import worker
from overcommit.host.kernel import LocalKernel
class Slow(LocalKernel):
    def write(self, path, value):
        time.sleep({seconds})
        super().write(path, value)
worker.PATHS = (sys.argv[1],)
{before}
kernel = worker.DamonWorker(Slow(), deadline_seconds={deadline})
try:
    kernel.write(sys.argv[1] + "/state", "written")
except Exception:
    print("hung", flush=True)
os._exit(0)
"""


def test_a_hung_worker_keeps_nobody_waiting_for_the_end_of_the_programs_output(damon: Path) -> None:
    """In the kernel's grip it cannot even be killed, so here nobody kills it either."""
    undying = "worker._PR_SET_PDEATHSIG = 0"
    program = PROGRAM.format(seconds=25, deadline=0.3, before=undying)
    ended = subprocess.run(
        [sys.executable, "-c", program, str(damon)], capture_output=True, text=True, timeout=20, check=True
    )
    assert ended.stdout == "hung\n"


def test_nothing_is_written_after_the_program_is_dead(damon: Path) -> None:
    """Another controller may be at work by then."""
    (damon / "state").write_text("")
    program = PROGRAM.format(seconds=1.5, deadline=30, before="")
    running = subprocess.Popen([sys.executable, "-c", program, str(damon)])
    time.sleep(0.8)  # it has sent its question, and the worker takes its time
    running.kill()
    running.wait()
    time.sleep(2)
    assert (damon / "state").read_text() == ""
