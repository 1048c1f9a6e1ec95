"""The dashboard: each of its queries, asked of a real Prometheus that scraped the exporter, returns data."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from overcommit.exporter.latest import Latest
from overcommit.wire.server import ControlServer
from tests.exporter.conftest import Status
from tests.exporter.prometheus import program

DASHBOARD = json.loads((Path(__file__).parents[2] / "contrib" / "grafana" / "overcommit.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]
WINDOW = "4s"
"""What stands for the dashboard's five minutes: as many scrapes lie in it."""
SCRAPES_SECONDS = 6.0
DEADLINE_SECONDS = 40.0


class Prometheus:
    """One of its own, on the loopback device."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        with urlopen(f"{self._address}{path}?{urlencode(parameters)}", timeout=10) as page:
            return json.load(page)["data"]

    def ask(self, query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/api/v1/query", query=query)["result"]
        return found

    def wait_until(self, is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            try:
                if is_so():
                    return
            except OSError:  # it begins
                pass
            time.sleep(0.2)
        pytest.fail("Prometheus did not come so far in time")


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
        return port


@pytest.fixture
def prometheus(
    tmp_path: Path, status: Status, daemon: ControlServer, serve: Callable[[Latest], str]
) -> Iterator[Prometheus]:
    """It has scraped the exporter often enough for rates; the daemon's counters grew meanwhile."""
    binary, port = program("prometheus"), free_port()
    target = serve(Latest(most_domains=500)).removeprefix("http://").removesuffix("/metrics")
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "overcommit", "static_configs": [{"targets": [target]}]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    options = {
        "config.file": tmp_path / "prometheus.yml",
        "storage.tsdb.path": tmp_path / "data",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    command = [binary, *(f"--{name}={value}" for name, value in options.items()), "--log.level=error"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            asked = Prometheus(port)
            asked.wait_until(lambda: asked.ask("overcommit_up == 1"))
            end = time.monotonic() + SCRAPES_SECONDS
            while time.monotonic() < end:
                status["ticked_at"] = time.time()
                for ticks in status["work"]["ticks"].values():
                    ticks["count"] += 1
                    ticks["seconds"] += 0.01
                daemon.publish(json.dumps(status).encode(), None)
                time.sleep(1.0)
            yield asked
        finally:
            process.terminate()


@pytest.mark.timeout(120)
def test_each_query_of_the_dashboard_returns_data(prometheus: Prometheus) -> None:
    without = []
    for query in QUERIES:
        asked = query.replace("[5m]", f"[{WINDOW}]")
        for variable in ("job", "instance", "domain"):
            asked = asked.replace(f'"${variable}"', '".*"')
        assert "$" not in asked
        found = prometheus.ask(asked)
        if not found or any(each["value"][1] == "NaN" for each in found):
            without.append((asked, found))
    assert without == []
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            _, label = re.fullmatch(
                r"label_values\((.*), (\w+)\)", variable["definition"], re.DOTALL
            ).groups()  # type: ignore[union-attr]
            assert prometheus.get(f"/api/v1/label/{label}/values")
    firing = prometheus.ask("up")
    assert [each["value"][1] for each in firing] == ["1"]


def test_the_dashboard_is_sound() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    assert len(QUERIES) > 30
    for panel in PANELS:
        assert panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
