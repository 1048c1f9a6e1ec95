"""The lab guest's workload program, run natively over stdin and stdout.

The product is judged by what this program says about its own memory, so what it says is checked
here against what can be seen from outside.
"""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

MIB = 1 << 20
PAGE = 4096
SOURCE = Path(__file__).parents[3] / "integration" / "lab" / "guest" / "workload.c"

# Answers as memcached does, with a mapping for a store.
FAKE_SERVER = """#!{python}
import socket, sys
path = sys.argv[sys.argv.index("-s") + 1]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
stream = listener.accept()[0].makefile("rwb")
store = {{}}
for line in stream:
    verb, *args = line.split()
    if verb == b"set":
        store[args[0]] = stream.read(int(args[3]) + 2)
        reply = b"" if args[-1] == b"noreply" else b"STORED\\r\\n"
    elif verb == b"get" and args[0] in store:
        data = store[args[0]]
        reply = b"VALUE %b 0 %d\\r\\n%bEND\\r\\n" % (args[0], len(data) - 2, data)
    elif verb == b"get":
        reply = b"END\\r\\n"
    elif verb == b"version":
        reply = b"VERSION 1.6\\r\\n"
    else:
        used = b"STAT 9:chunk_size 1184\\r\\nSTAT 9:used_chunks %d\\r\\n" % len(store)
        reply = used + b"STAT total_malloced 1048576\\r\\nEND\\r\\n"
    if reply:
        stream.write(reply)
        stream.flush()
"""


class Workload:
    """One running program; its channel is stdin and stdout, its console a file."""

    def __init__(self, binary: Path, console: Path, *words: str) -> None:
        self._console = console
        console.touch()
        self._process = subprocess.Popen(
            [binary, "--port", "-", "--console", console, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=10)

    def send(self, line: str | bytes) -> None:
        assert self._process.stdin is not None
        data = line.encode() if isinstance(line, str) else line
        self._process.stdin.write(data + b"\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.endswith(b"\n"), "the program went away"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def ask(self, line: str | bytes) -> dict[str, Any]:
        self.send(line)
        return self.receive()

    def ok(self, line: str) -> dict[str, Any]:
        answer = self.ask(line)
        assert answer["ok"] is True, answer
        return answer

    def until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while not condition(answer := self.ok("stat")):
            assert time.monotonic() < deadline, answer
            time.sleep(0.01)
        return answer

    def until_phase(self, phase: str) -> dict[str, Any]:
        return self.until(lambda answer: answer["phase"] == phase)

    def console(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._console.read_text().splitlines()]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.console() if line.get("event") == name]

    def until_event(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        deadline = time.monotonic() + 10
        while len(found := self.events(name)) < count:
            assert time.monotonic() < deadline, self.console()
            time.sleep(0.01)
        return found

    def wait(self) -> int:
        return self._process.wait(timeout=10)


Start = Callable[..., Workload]


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: the guest workload cannot be compiled")
    target = tmp_path_factory.mktemp("guest") / "workload"
    flags = ["-O2", "-static", "-pthread", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", target, SOURCE], check=True, timeout=60)
    return target


@pytest.fixture
def start(binary: Path, tmp_path: Path) -> Start:
    def run(*words: str) -> Workload:
        return Workload(binary, tmp_path / "console", *words)

    return run


def largest_private_mapping(pid: int, size: int) -> tuple[int, int]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0\s*$", line)
        if found and int(found[2], 16) - int(found[1], 16) >= size:
            return int(found[1], 16), int(found[2], 16)
    raise AssertionError(f"no mapping of {size} bytes")


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_idle_holds_nothing_by_default(start: Start) -> None:
    with start("idle") as guest:
        answer = guest.until_phase("idle")
        assert (answer["hot_bytes"], answer["total_bytes"], answer["ops"]) == (0, 0, 0)


def test_idle_fills_once_and_leaves_it(start: Start) -> None:
    with start("idle", "total=4M") as guest:
        answer = guest.until_phase("idle")
        assert (answer["hot_bytes"], answer["total_bytes"], answer["ops"]) == (0, 4 * MIB, 0)
        assert resident_bytes(answer["pid"]) >= 4 * MIB


def test_hotset_touches_exactly_the_hot_part(start: Start) -> None:
    with start("hotset", "total=4M", "hot=1M", "hz=50") as guest:
        answer = guest.until(lambda a: a["ops"] >= 5 * MIB // PAGE)
        assert (answer["hot_bytes"], answer["total_bytes"]) == (MIB, 4 * MIB)
        assert (answer["hot_from"], answer["hot_to"]) == (0, MIB)
        guest.ok("pause")
        time.sleep(0.05)
        low, _ = largest_private_mapping(answer["pid"], 4 * MIB)
        with Path(f"/proc/{answer['pid']}/mem").open("rb") as memory:
            memory.seek(low)
            data = memory.read(4 * MIB)
        touches = [int.from_bytes(data[at + 8 : at + 16], "little") for at in range(0, len(data), PAGE)]
        hot = touches[: MIB // PAGE]
        assert min(hot) >= 5
        assert max(hot) - min(hot) <= 1
        assert not any(touches[MIB // PAGE :])
        assert sum(hot) == guest.ok("stat")["ops"]


def test_filler_compresses_like_memory(start: Start) -> None:
    with start("idle", "total=4M") as guest:
        pid = guest.until_phase("idle")["pid"]
        low, _ = largest_private_mapping(pid, 4 * MIB)
        with Path(f"/proc/{pid}/mem").open("rb") as memory:
            memory.seek(low)
            pages = [memory.read(PAGE) for _ in range(4 * MIB // PAGE)]
    ratios = [PAGE / len(zlib.compress(page, 1)) for page in pages]
    assert min(ratios) > 2
    assert max(ratios) < 4.5
    assert len(set(pages)) == len(pages), "equal pages would be merged, not paged out"


def test_hotset_keeps_the_pace_it_is_given(start: Start) -> None:
    with start("hotset", "total=2M", "hot=1M", "rate=20000") as guest:
        guest.until_phase("touch")
        guest.ok("stat")
        time.sleep(0.5)
        assert guest.ok("stat")["rate"] == pytest.approx(20000, rel=0.4)
        guest.ok("set hz=0")
        time.sleep(0.2)
        assert guest.ok("stat")["rate"] > 100_000


def test_hot_size_changes_while_running(start: Start) -> None:
    with start("hotset", "total=4M", "hot=1M", "hz=50") as guest:
        guest.until_phase("touch")
        guest.ok("set hot=2M")
        assert guest.until(lambda a: a["hot_bytes"] == 2 * MIB)["hot_to"] == 2 * MIB
        refused = guest.ask("set hot=5M")
        assert refused["ok"] is False
        assert "larger" in refused["error"]
        assert guest.ok("stat")["hot_bytes"] == 2 * MIB


def test_a_slow_pace_is_left_at_once(start: Start) -> None:
    with start("hotset", "total=2M", "hot=1M", "hz=0.01") as guest:
        first = guest.until(lambda a: a["ops"] == MIB // PAGE)["ops"]
        guest.ok("set hz=100")
        guest.until(lambda a: a["ops"] >= first + 3 * MIB // PAGE)


def test_pause_stops_and_resume_goes_on(start: Start) -> None:
    with start("hotset", "total=2M", "hot=1M", "hz=50") as guest:
        guest.until(lambda a: a["ops"] > 0)
        guest.ok("pause")
        time.sleep(0.1)
        before = guest.ok("stat")
        time.sleep(0.1)
        after = guest.ok("stat")
        assert after["ops"] == before["ops"]
        assert (after["paused"], after["hot_bytes"], after["rate"]) == (True, 0, 0)
        guest.ok("resume")
        assert guest.until(lambda a: a["ops"] > before["ops"])["hot_bytes"] == MIB


def test_phases_move_the_hot_window(start: Start) -> None:
    with start("phases", "total=4M", "hot=1M", "every=0.15", "hz=50") as guest:
        events = guest.until_event("phase", 6)
        windows = [(e["hot_from"] // MIB, e["hot_to"] // MIB) for e in events[:6]]
        assert windows == [(0, 1), (1, 2), (2, 3), (3, 4), (0, 1), (1, 2)]
        assert events[5]["t"] - events[0]["t"] > 0.5
        answer = guest.ok("stat")
        assert answer["hot_to"] - answer["hot_from"] == answer["hot_bytes"] == MIB


def test_phases_move_on_when_woken(start: Start) -> None:
    with start("phases", "total=4M", "hot=2M", "every=1000", "hz=1") as guest:
        guest.until_event("phase")
        guest.ok("wake")
        assert guest.until_event("phase", 2)[1]["hot_from"] == 2 * MIB


def test_pagecache_reads_all_then_only_the_hot_part(start: Start, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4 * MIB))
    with start("pagecache", f"dev={disk}", "files=4M", "hot=1M", "hz=20") as guest:
        answer = guest.until_phase("read")
        assert answer["total_bytes"] == 4 * MIB
        answer = guest.until(lambda a: a["ops"] >= 6 * MIB // PAGE)
        assert (answer["hot_bytes"], answer["errors"]) == (MIB, 0)


def test_pagecache_without_a_disk_says_so(start: Start, tmp_path: Path) -> None:
    with start("pagecache", f"dev={tmp_path / 'none'}") as guest:
        assert guest.until_phase("error")["hot_bytes"] == 0
        assert "no device" in guest.until_event("error")[0]["error"]


def test_kv_serves_from_its_own_store(start: Start) -> None:
    with start("kv", "keys=4000", "value=1K", "rate=2000", "server=/nonexistent") as guest:
        answer = guest.until(lambda a: a["ops"] > 400)
        assert answer["server"] == "builtin"
        assert answer["total_bytes"] == 4000 * 1024
        assert answer["hot_estimate"] is True
        # 90 % of the accesses of zipf(0.99) go to about N^0.9 of N keys.
        assert 0.3 < answer["hot_bytes"] / answer["total_bytes"] < 0.6
        assert (answer["errors"], answer["misses"]) == (0, 0)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    script = tmp_path / "server"
    script.write_text(FAKE_SERVER.format(python=sys.executable))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def test_kv_drives_a_server(start: Start, server: Path) -> None:
    with start("kv", "keys=1000", "value=1K", "rate=1000", f"server={server}") as guest:
        answer = guest.until(lambda a: a["ops"] > 200)
        assert (answer["server"], answer["errors"], answer["misses"]) == ("memcached", 0, 0)
        assert answer["total_bytes"] == 1000 * 1184, "the server's own chunk size counts"
        assert answer["max_us"] > 0


def test_kv_fills_again_after_the_server_died(start: Start, server: Path) -> None:
    with start("kv", "keys=100", "rate=500", f"server={server}") as guest:
        first = guest.until_phase("serve")["server_pid"]
        os.kill(first, signal.SIGKILL)
        answer = guest.until(lambda a: a["server_restarts"] == 1 and a["phase"] == "serve")
        assert answer["server_pid"] != first
        assert (answer["errors"], answer["total_bytes"]) == (0, 100 * 1184)


def test_kv_scattered_keys_make_more_pages_hot(start: Start) -> None:
    with start("kv", "keys=1000", "scatter=1", "server=/nonexistent") as guest:
        answer = guest.until_phase("serve")
        assert answer["hot_bytes"] < answer["hot_pages_bytes"] <= answer["total_bytes"]


def test_hog_wakes_by_itself_and_gives_back(start: Start) -> None:
    words = ("total=8M", "base=1M", "wake=0.2", "hold=0.2", "hz=20")
    with start("hog", *words) as guest:
        before = guest.until_phase("base")
        assert (before["hot_bytes"], before["total_bytes"]) == (MIB, MIB)
        full = guest.until_phase("full")
        assert (full["hot_bytes"], full["total_bytes"]) == (8 * MIB, 8 * MIB)
        grown = guest.until_event("grown")[0]
        assert grown["bytes"] == 7 * MIB
        assert grown["need_us"] == full["need_us"] > 0
        guest.until_event("released")
        again = guest.until(lambda a: a["phase"] == "base" and a["hot_bytes"] == MIB)
        assert again["total_bytes"] == MIB
        assert again["errors"] == 0


def test_hog_wakes_when_told(start: Start) -> None:
    with start("hog", "total=8M", "base=0") as guest:
        guest.until_phase("base")
        guest.ok("wake")
        assert guest.until_phase("full")["total_bytes"] == 8 * MIB


def test_freed_gives_its_memory_back(start: Start) -> None:
    with start("freed", "total=8M", "after=0.2") as guest:
        held = guest.until_phase("held")
        assert held["total_bytes"] == 8 * MIB
        assert resident_bytes(held["pid"]) >= 8 * MIB
        assert guest.until_event("freed")[0]["bytes"] == 8 * MIB
        freed = guest.until_phase("freed")
        assert freed["total_bytes"] == 0
        assert resident_bytes(freed["pid"]) < 8 * MIB


def test_frag_gives_back_about_half_of_its_pages(start: Start) -> None:
    with start("frag", "total=8M", "after=0.2") as guest:
        guest.until_phase("held")
        given = guest.until_event("freed")[0]["bytes"]
        freed = guest.until_phase("freed")
        assert freed["total_bytes"] == 8 * MIB - given
        assert 3 * MIB < given < 5 * MIB
        assert resident_bytes(freed["pid"]) < 8 * MIB


def test_reports_appear_on_the_console(start: Start) -> None:
    with start("hotset", "total=2M", "hot=1M", "hz=50", "report=0.1") as guest:
        time.sleep(0.45)
        reports = [line for line in guest.console() if "event" not in line]
    assert len(reports) >= 2
    for report in reports:
        assert report["workload"] == "hotset"
        wanted = {"t", "phase", "ops", "rate", "hot_bytes", "total_bytes", "max_us", "majflt"}
        assert wanted <= report.keys()
    assert [r["ops"] for r in reports] == sorted(r["ops"] for r in reports)


def test_alloc_and_free_beside_the_workload(start: Start) -> None:
    with start("hotset", "total=2M", "hot=1M", "hz=50") as guest:
        guest.until_phase("touch")
        assert guest.ok("alloc 4M")["extra_target"] == 4 * MIB
        held = guest.until(lambda a: a["extra_bytes"] == 4 * MIB)
        assert held["total_bytes"] == 6 * MIB
        assert guest.ask("alloc 4M")["ok"] is False
        guest.ok("free")
        assert guest.until(lambda a: a["extra_bytes"] == 0)["total_bytes"] == 2 * MIB


def test_mem_reports_bytes_and_counts(start: Start) -> None:
    with start("idle") as guest:
        answer = guest.ok("mem")
    sizes = {"MemTotal", "MemFree", "MemAvailable", "Cached", "SwapTotal", "SwapFree"}
    counts = {"pswpin", "pswpout", "pgmajfault", "oom_kill"}
    assert sizes | counts <= answer.keys()
    assert answer["MemTotal"] >= answer["MemAvailable"] > MIB


def test_the_channel_answers_while_memory_is_filled(start: Start) -> None:
    with start("idle", "total=1500M") as guest:
        guest.until_phase("fill")
        for _ in range(50):
            began = time.monotonic()
            assert guest.ok("ping")["phase"] == "fill"
            assert time.monotonic() - began < 1
        assert guest.ok("stat")["total_bytes"] < 1500 * MIB


def test_the_channel_answers_while_the_worker_hangs(start: Start) -> None:
    with start("hotset", "total=2M", "hot=1M", "hz=100") as guest:
        pid = guest.until(lambda a: a["ops"] > 0)["pid"]
        os.kill(pid, signal.SIGSTOP)
        assert guest.ok("ping")["phase"] == "touch"
        time.sleep(0.05)
        guest.ok("stat")
        time.sleep(0.05)
        assert guest.ok("stat")["rate"] == 0
        os.kill(pid, signal.SIGCONT)


def test_a_killed_worker_is_reported_and_started_again(start: Start) -> None:
    with start("hotset", "total=2M", "hot=1M", "hz=50") as guest:
        pid = guest.until(lambda a: a["ops"] > 0)["pid"]
        os.kill(pid, signal.SIGKILL)
        assert guest.until_event("worker_died")[0]["signal"] == signal.SIGKILL
        assert guest.ok("stat")["total_bytes"] == 0
        answer = guest.until(lambda a: a["restarts"] == 1 and a["phase"] == "touch")
        assert answer["pid"] != pid
        assert answer["total_bytes"] == 2 * MIB


def test_damaged_contents_are_noticed(start: Start) -> None:
    with start("hotset", "total=2M", "hot=1M", "hz=50") as guest:
        answer = guest.until(lambda a: a["ops"] > 0)
        assert answer["errors"] == 0
        low, _ = largest_private_mapping(answer["pid"], 2 * MIB)
        with Path(f"/proc/{answer['pid']}/mem").open("r+b") as memory:
            memory.seek(low + 3 * PAGE)
            memory.write(bytes(8))
        guest.until(lambda a: a["errors"] > 0)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("pong", "unknown"),
        ('"\\\x01\x7f', "unknown"),
        (b"\xff\xfe{", "unknown"),
        (b"ping\x00ping", "not text"),
        ("x" * 4000, "unknown"),
        ("x" * 9000, "too long"),
        ("set", "KEY=VALUE"),
        ("set hot", "KEY=VALUE"),
        ("set hot=", "not a value"),
        ("set hot=1T", "not a value"),
        ("set hot=-1", "not a value"),
        ("set hot=99999999999999999999", "not a value"),
        ("set hot=0", "smaller"),
        ("set total=1M", "cannot be changed"),
        ("set files=1M", "no such parameter"),
        ("alloc", "size"),
        ("alloc 0", "size"),
        ("wake", "nothing to wake"),
        ("drop_caches", "only in a guest"),
    ],
)
def test_malformed_requests_get_one_answer(start: Start, line: str | bytes, complaint: str) -> None:
    with start("hotset", "total=2M", "hot=1M") as guest:
        answer = guest.ask(line)
        assert answer["ok"] is False
        assert complaint in answer["error"]
        assert guest.ok("ping @after")["id"] == "after"


def test_answers_carry_the_id_of_the_request(start: Start) -> None:
    with start("idle") as guest:
        guest.send("ping @1\nstat @2\r\nnonsense @3")
        assert [guest.receive()["id"] for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("hotset", "hot=3Q"),
        ("hotset", "total=1M", "hot=2M"),
        ("hotset", "size=2M"),
        ("kv", "keys=0"),
    ],
)
def test_a_wrong_command_line_is_told_to_whoever_asks(start: Start, words: tuple[str, ...]) -> None:
    with start(*words) as guest:
        assert guest.ask("ping")["ok"] is False
        assert len(guest.events("error")) == 1


def test_off_ends_the_program_and_all_it_started(start: Start) -> None:
    with start("hotset", "total=2M", "hot=1M") as guest:
        pid = guest.until_phase("touch")["pid"]
        guest.ok("off")
        assert guest.wait() == 0
        assert not Path(f"/proc/{pid}").exists()
