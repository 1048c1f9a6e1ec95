"""The exporter and a real control socket with the status of a daemon on a fake host."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from overcommit.exporter.latest import Latest
from overcommit.exporter.serving import server
from overcommit.wire.server import ControlServer
from tests.faults.daemon import Disk, World

Status = dict[str, Any]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Status:
    """What a daemon tells that has worked on two fake guests for some minutes."""
    disk = Disk()
    with disk.in_place():
        world = World(tmp_path_factory.mktemp("world"))
        daemon = world.daemon()
        daemon.run_for(240.0)
        status = daemon.server.status
        daemon.stop()
    return status


@pytest.fixture
def status(recorded: Status) -> Status:
    """A copy for a test to change; it is of now."""
    status = copy.deepcopy(recorded)
    status["ticked_at"] = status["taken_at"] = status["planned_at"] = time.time()
    return status


def many(status: Status, number: int) -> Status:
    """The same host with so many domains."""
    first = status["domains"][0]
    domains = [
        {**copy.deepcopy(first), "name": f"guest-{n:04}", "uuid": f"00000000-0000-0000-0000-{n:012}"}
        for n in range(number)
    ]
    return {**status, "domains": domains, "quarantines": []}


@pytest.fixture
def run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    monkeypatch.setenv("OVERCOMMIT_RUN_DIR", str(directory))
    return directory


@pytest.fixture
def daemon(run_directory: Path, status: Status) -> Iterator[ControlServer]:
    """The real server of the control socket."""
    serves = ControlServer(run_directory / "control.sock", None, lambda: None)
    serves.publish(json.dumps(status).encode(), None)
    yield serves
    serves.close()


@pytest.fixture
def serve() -> Iterator[Callable[[Latest], str]]:
    """Have an exporter serve on the loopback device; gives the address of its page."""
    running = []

    def begin(latest: Latest) -> str:
        serving = server(latest, "127.0.0.1", 0)
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        running.append((serving, thread))
        return f"http://127.0.0.1:{serving.server_port}/metrics"

    yield begin
    for serving, thread in running:
        serving.shutdown()
        thread.join()
        serving.server_close()


def scrape(url: str, *, timeout: str | None = None, accept: str = "text/plain") -> str:
    """One scrape, as Prometheus does it."""
    headers = {"Accept": accept}
    if timeout is not None:
        headers["X-Prometheus-Scrape-Timeout-Seconds"] = timeout
    with urlopen(Request(url, headers=headers), timeout=30) as page:
        text: str = page.read().decode()
        return text
