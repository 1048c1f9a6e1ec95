"""Files that root obeys: whose they are, who could have changed them, and what they are (rule S13)."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from overcommit import own_file
from overcommit.errors import OvercommitError, UsageError

OWN = frozenset({0, os.geteuid()})
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


def look(path: Path, **how: object) -> bytes:
    settings: dict[str, object] = {"most_bytes": 100, "owners": OWN, "follow": False, **how}
    return own_file.read(path, "the plan", **settings)  # type: ignore[arg-type]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    path = tmp_path / "p.json"
    path.write_text("{}")
    path.chmod(0o600)
    return path


def linked(file: Path) -> Path:
    link = file.with_name("link")
    link.symlink_to(file)
    return link


def test_what_nobody_else_could_have_written_is_read(file: Path) -> None:
    assert look(file) == b"{}"
    file.chmod(0o644)
    file.parent.chmod(0o1777)
    assert look(file) == b"{}"
    assert look(linked(file), follow=True) == b"{}"


def test_a_name_without_a_directory(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert look(Path(file.name)) == b"{}"


def writable(file: Path) -> Path:
    file.chmod(0o620)
    return file


def replaceable(file: Path) -> Path:
    file.parent.chmod(0o777)
    return file


def given_away(file: Path) -> Path:
    os.chown(file, 65534, 65534)
    return file


def directory_given_away(file: Path) -> Path:
    os.chown(file.parent, 65534, 65534)
    return file


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (writable, r"others may write to it \(mode 0620\)"),
        (replaceable, r"others may replace it in its directory \(mode 0777\)"),
        pytest.param(given_away, "it belongs to uid 65534", marks=AS_ROOT),
        pytest.param(directory_given_away, "its directory belongs to uid 65534", marks=AS_ROOT),
    ],
)
def test_what_others_could_have_written_is_not_obeyed(
    file: Path, make: Callable[[Path], Path], why: str
) -> None:
    path = make(file)
    with pytest.raises(own_file.Untrusted, match=f"the plan .*/p.json is not trusted: {why}") as caught:
        look(path, hint="make your own")
    assert (caught.value.exit_code, caught.value.hint) == (4, "make your own")
    assert look(path, owners=None) == b"{}"


def test_a_link_out_of_a_directory_of_others_is_not_followed(file: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    link = shared / "link"
    link.symlink_to(file)
    with pytest.raises(own_file.Untrusted, match="others may replace it"):
        look(link, follow=True)


def pipe(file: Path) -> Path:
    os.mkfifo(file.with_name("pipe"))
    return file.with_name("pipe")


def listening(file: Path) -> Path:
    path = file.with_name("s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    return path


def in_a_circle(file: Path) -> Path:
    link = file.with_name("circle")
    link.symlink_to(link)
    return link


def large(file: Path) -> Path:
    file.write_bytes(b" " * 101)
    return file


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (pipe, "it is a pipe, no regular file"),
        (listening, "No such device"),
        (lambda file: file.parent, "it is a directory, no regular file"),
        (lambda _: Path("/dev/zero"), "it is a device, no regular file"),
        (lambda file: file.with_name("none"), "No such file"),
        (lambda file: file / "below", "Not a directory"),
        (large, "it is larger than 0 KiB"),
        (in_a_circle, "symbolic link"),
    ],
)
def test_what_is_no_small_file_is_refused_at_once(
    file: Path, make: Callable[[Path], Path], why: str, follow: bool
) -> None:
    """Nothing of it waits, or grows."""
    with pytest.raises(UsageError, match=why):
        look(make(file), follow=follow)


def test_a_link_is_named(file: Path) -> None:
    with pytest.raises(OvercommitError, match="it is a symbolic link; name the file itself"):
        look(linked(file))


@pytest.mark.parametrize(
    ("said", "more"), [("1000", {1000}), ("", set()), ("-1", set()), ("x", set()), ("٣", set())]
)
def test_who_became_root_by_sudo_is_one_of_us(
    said: str, more: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert own_file.callers({"SUDO_UID": said}) == {0} | more
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    assert own_file.callers({"SUDO_UID": said}) == {0, 7}
