"""The real program, on this machine, with its hands tied: a write to the kernel fails the test."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from pytest_mock import MockerFixture

from overcommit.cli.main import main
from overcommit.host.kernel import LocalKernel


class Ended(NamedTuple):
    """What a run left for its caller."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "state"
    monkeypatch.setenv("OVERCOMMIT_STATE_DIR", str(directory))
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(tmp_path / "run"))
    return directory


@pytest.fixture
def run(
    state: Path,  # noqa: ARG001 - no run may use the machine's own journal, or daemon
    monkeypatch: pytest.MonkeyPatch,
    mocker: MockerFixture,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    written: list[str] = []

    def refuse(_self: object, path: str, value: str) -> None:
        written.append(f"{value!r} to {path}")
        raise AssertionError(f"wrote {written[-1]}")

    mocker.patch.object(LocalKernel, "write", refuse)
    for change in ("make_directory", "remove_directory"):
        mocker.patch.object(LocalKernel, change, lambda _self, path: refuse(_self, path, "a directory"))
    monkeypatch.delenv("NO_COLOR", raising=False)

    def call(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["overcommitctl", *map(str, arguments)])
        try:
            main()
        except SystemExit as ending:
            status = 0 if ending.code is None else int(ending.code)
        else:
            status = 0
        return Ended(status, *capsys.readouterr())

    at_term = signal.getsignal(signal.SIGTERM)
    yield call
    signal.signal(signal.SIGTERM, at_term)
    assert not written, "the program reports what it did not expect, and goes on to its end"
