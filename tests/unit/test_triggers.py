from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.errors import HostError
from overcommit.host.triggers import PRESSED, STALLED, LocalTriggers, StallLevel


def test_levels_are_written_in_microseconds() -> None:
    assert str(PRESSED) == "some 100000 1000000"
    assert str(STALLED) == "full 50000 1000000"


@pytest.mark.parametrize(
    ("stall", "window", "complaint"),
    [
        (0.1, 0.49, "a window of 0.49 s is not within 0.5 to 10 s"),
        (0.1, 10.5, "a window of 10.5 s is not within"),
        (0.0, 1.0, "a stall of 0.0 s does not fit into 1.0 s"),
        (1.1, 1.0, "a stall of 1.1 s does not fit into 1.0 s"),
    ],
)
def test_a_level_that_no_kernel_takes_cannot_be_said(stall: float, window: float, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        StallLevel(share="some", stall_seconds=stall, window_seconds=window)


def test_the_last_byte_written_is_one_the_kernel_may_overwrite(tmp_path: Path) -> None:
    file = tmp_path / "memory.pressure"
    file.touch()
    trigger = LocalTriggers().open(str(file), PRESSED)
    assert file.read_bytes() == b"some 100000 1000000\0"
    descriptor = trigger.fileno()
    assert not os.get_inheritable(descriptor)
    trigger.close()
    trigger.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize(
    ("call", "number", "complaint", "hint"),
    [
        ("open", errno.ENOENT, "the kernel has no pressure stall information", "it needs CONFIG_PSI"),
        ("open", errno.EOPNOTSUPP, "pressure stall information is off", "boot with psi=1"),
        ("write", errno.EOPNOTSUPP, "pressure stall information is off", "boot with psi=1"),
        ("open", errno.EPERM, "not permitted", "run as root"),
        ("open", errno.EACCES, "not permitted", "run as root"),
        ("write", errno.EINVAL, "Invalid argument", None),
        ("write", errno.ENOMEM, "Cannot allocate memory", None),
    ],
)
def test_a_kernel_that_refuses_is_quoted_and_nothing_stays_open(
    tmp_path: Path, mocker: MockerFixture, call: str, number: int, complaint: str, hint: str | None
) -> None:
    file = tmp_path / "memory.pressure"
    file.touch()
    closed = mocker.spy(os, "close")
    mocker.patch(f"overcommit.host.triggers.os.{call}", side_effect=OSError(number, os.strerror(number)))
    with pytest.raises(HostError) as caught:
        LocalTriggers().open(str(file), PRESSED)
    mocker.stop(closed)
    assert str(caught.value) == f"cannot be woken by {file} (some 100000 1000000): {complaint}"
    assert caught.value.hint == hint
    assert closed.call_count == (1 if call == "write" else 0)
