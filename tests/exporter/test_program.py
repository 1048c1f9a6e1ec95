"""The program: its options, its file for node_exporter, and its unit."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from overcommit.errors import UsageError
from overcommit.exporter.latest import Latest
from overcommit.exporter.main import address_of, main, options_of, unit
from overcommit.exporter.textfile import write
from overcommit.wire.server import ControlServer


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("127.0.0.1:10960", ("127.0.0.1", 10960)),
        ("[::1]:9", ("::1", 9)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_where_to_listen(text: str, means: tuple[str, int]) -> None:
    assert address_of(text) == means


@pytest.mark.parametrize("text", ["10960", ":10960", "::1:80", "127.0.0.1:65536", "a:b", "[x]:1", ""])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="not ADDRESS:PORT") as refused:
        address_of(text)
    assert refused.value.hint == "--listen 127.0.0.1:10960"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--most-domains", "-1"],
        ["--every", "-1"],
        ["--every", "inf"],
        ["--textfile", "x.txt"],
        ["--tex", "x"],
    ],
    ids=" ".join,
)
def test_options_that_make_no_sense(arguments: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        options_of(arguments)
    assert refused.value.hint


@pytest.mark.usefixtures("daemon")
def test_the_file_is_whole_readable_and_there_at_once(tmp_path: Path) -> None:
    before = os.umask(0o077)
    path = tmp_path / "overcommit.prom"
    path.write_text("what was there before")
    inode = path.stat().st_ino
    try:
        write(Latest(most_domains=9), path, 0)
    finally:
        os.umask(before)
    assert "overcommit_up 1.0" in path.read_text()
    assert path.stat().st_ino != inode, "another file took its place"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.glob("*.prom*")) == [path]


def test_the_program_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(tmp_path))
    for arguments, status, says in (
        (["--listen", "x"], 64, "error: --listen x: not ADDRESS:PORT\nhint:  --listen 127.0.0.1:10960\n"),
        (["--textfile", str(tmp_path / "no" / "x.prom"), "--every", "0"], 1, "error: cannot write "),
        (["--listen", "192.0.2.1:1"], 1, "error: cannot listen on 192.0.2.1, port 1: "),
    ):
        monkeypatch.setattr(sys, "argv", ["overcommit-exporter", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == status
        assert says in capsys.readouterr().err


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    path = tmp_path / "overcommit-exporter.service"
    path.write_text(unit("/usr/bin/true"))
    checked = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(path)],
        text=True,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout[-300:] + checked.stderr


def test_the_unit_gives_no_right_to_give_orders() -> None:
    lines = unit("/opt/x/overcommit-exporter").splitlines()
    assert "ExecStart=/opt/x/overcommit-exporter" in lines
    assert "DynamicUser=yes" in lines
    assert not [line for line in lines if line.startswith(("SupplementaryGroups=", "Group=", "User="))]


def test_the_program_needs_nothing_of_the_host(daemon: ControlServer) -> None:
    del daemon
    program = "import sys, overcommit.exporter.main; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True
    ).stdout
    for module in ("libvirt", "pydantic", "yaml", "click", "rich", "overcommit.daemon", "overcommit.cli"):
        assert module not in loaded.split()


def test_without_the_library_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("overcommit.exporter.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setattr(sys, "argv", ["overcommit-exporter"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 5
    said = capsys.readouterr().err
    error, hint = said.splitlines()
    assert error == "error: the Python module prometheus_client is not installed"
    assert hint.startswith("hint:  apt-get install python3-prometheus-client")
