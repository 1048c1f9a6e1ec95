"""The process that does all DAMON I/O: transparent, and left behind when the kernel hangs it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from overcommit.damon import worker
from overcommit.damon.worker import DamonWorker
from overcommit.errors import HostError
from overcommit.host.kernel import LocalKernel


class ThisProcess(LocalKernel):
    """Files, a file that tells who reads it, and one that never answers."""

    def read(self, path: str) -> str:
        if path.endswith("/whoami"):
            return str(os.getpid())
        if path.endswith("/hang"):
            time.sleep(600)
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


def test_a_worker_ends_with_its_program(damon: Path) -> None:
    with_worker = DamonWorker(ThisProcess())
    os.kill(with_worker.pid, signal.SIGINT)
    assert with_worker.read(f"{damon}/whoami") == str(with_worker.pid), "Ctrl-C is not for the worker"
    with_worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(with_worker.pid, 0)
