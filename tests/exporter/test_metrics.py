"""Which metrics there are, and what they say."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from overcommit.classify.idle import HISTOGRAM_BOUNDS
from overcommit.errors import HostError
from overcommit.exporter import catalogue
from overcommit.exporter.catalogue import IDLE_BOUNDS_SECONDS
from overcommit.exporter.latest import Latest
from overcommit.exporter.serving import MOST_AT_ONCE, seconds_for
from overcommit.model.moments import Monotonic
from overcommit.wire.server import ControlServer
from tests.exporter.conftest import Status, many, scrape
from tests.exporter.prometheus import program

Serve = Callable[[Latest], str]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def text_of(status: Status, *, most_domains: int = 500) -> str:
    """What is scraped when a daemon tells this."""
    latest = Latest(lambda: status, most_domains=most_domains)
    latest.refresh(10.0)
    registry = CollectorRegistry()
    registry.register(latest)
    return generate_latest(registry).decode()


def values(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float:
    return values(text)[f"overcommit_{name}", frozenset(labels.items())]


def test_the_values_are_those_of_the_status(status: Status) -> None:
    text = text_of(status)
    cold, free = status["domains"]
    assert value(text, "up") == 1
    assert value(text, "domain_resident_bytes", domain="cold") == cold["resident_bytes"] > 0
    assert value(text, "domain_floor_bytes", domain="cold") == cold["floor_bytes"] > 0
    swapped, gave = cold["reclaimed_by"]["swap"], free["reclaimed_by"]["balloon"]
    assert value(text, "domain_reclaimed_bytes", domain="cold", mechanism="swap") == swapped > 0
    assert value(text, "domain_reclaimed_bytes", domain="free", mechanism="balloon") == gave > 0
    assert value(text, "domain_promotions_total", domain="cold") == cold["promoted_pages"]
    assert value(text, "domain_info", domain="cold", uuid=cold["uuid"], **{"class": "all"}) == 1
    assert value(text, "host_headroom_bytes") == status["host"]["headroom_bytes"]
    modes = [value(text, "mode", mode=mode) for mode in ("active", "paused", "observe", "safe")]
    assert modes == [1, 0, 0, 0]
    assert value(text, "tick_duration_seconds_count", kind="plan") == status["work"]["ticks"]["plan"]["count"]
    pageouts = [a for a in status["work"]["actions"] if (a["kind"], a["outcome"]) == ("pageout", "done")]
    freed = value(text, "actions_freed_bytes_total", kind="pageout", outcome="done")
    assert freed == pageouts[0]["freed_bytes"] > 0
    assert value(text, "monitors_cpu_seconds_total") == status["work"]["monitors_cpu_seconds"] > 0
    assert value(text, "journal_bytes") == status["work"]["journal_bytes"] > 0
    assert value(text, "swap_budget_spent") == 0


def test_idle_time_is_a_histogram_whose_last_bucket_has_all(status: Status) -> None:
    text, cold = text_of(status), status["domains"][0]
    buckets = {
        float(dict(labels)["le"]): size
        for (name, labels), size in values(text).items()
        if name == "overcommit_domain_idle_seconds_bucket" and ("domain", "cold") in labels
    }
    told = cold["idle_histogram"]
    assert list(buckets)[:-1] == list(HISTOGRAM_BOUNDS[1:]), "one who was watched for less has them all, too"
    assert len(told) < len(HISTOGRAM_BOUNDS) == len(IDLE_BOUNDS_SECONDS)
    assert HISTOGRAM_BOUNDS == IDLE_BOUNDS_SECONDS
    assert buckets[math.inf] == sum(each["bytes"] for each in told) > 0
    assert buckets[10.0] == told[0]["bytes"]
    assert buckets[30.0] == told[0]["bytes"] + told[1]["bytes"]
    assert buckets[3600.0] == buckets[math.inf], "nothing is known to be idle for longer than it was watched"
    assert list(buckets.values()) == sorted(buckets.values())


def test_a_gap_is_no_sample(status: Status) -> None:
    status["domains"][0]["resident_bytes"] = None
    status["domains"][0]["gaps"] = [{"what": "residency", "why": "denied"}]
    text = text_of(status)
    assert 'overcommit_domain_resident_bytes{domain="cold"}' not in text
    assert 'overcommit_domain_resident_bytes{domain="free"}' in text
    assert value(text, "domain_gaps", domain="cold") == 1
    assert value(text, "domain_faults_total", domain="cold") == 0


def test_every_metric_of_the_catalogue_comes_and_no_other(status: Status) -> None:
    status["domains"][0]["gaps"] = [{"what": "residency", "why": "denied"}]
    status["domains"][0]["faults"] = {"count": 2, "last": "x", "at": 0.0}
    status["quarantines"] = [
        {"domain": "cold", "uuid": "u", "actuator": "balloon", "reason": "it lies", "until": 9e9}
    ]
    status["mode_until"] = 9e9
    declared = {f"{catalogue.PREFIX}{each.name}": each for each in catalogue.ALL}
    assert len(declared) == len(catalogue.ALL)
    came = {f.name: f for f in text_string_to_metric_families(text_of(status)) if f.samples}
    assert {name.removesuffix("_info") for name in came} == declared.keys()
    for name, found in came.items():
        described = declared[name.removesuffix("_info")]
        for sample in found.samples:
            assert set(sample.labels) - {"le"} == set(described.labels)


def test_the_document_lists_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for each in catalogue.ALL:
        labels = ", ".join(f"`{label}`" for label in each.labels) or "–"
        assert f"| `{each.exposed}` | {each.kind.value} | {labels} | {each.about} |" in page
    rows = [line for line in page.splitlines() if line.startswith("| `overcommit_")]
    assert len(rows) == len(catalogue.ALL)


HOSTILE = [
    'a"} 1\novercommit_up 0\n#',
    "back\\slash\\",
    "new\nline",
    '{domain="x"}',
    "\x00\x1b[31m",
    "имя-ゲスト",
    "x" * 5000,
    "\udcff\ud800",
    "/others",
    " ",
    "",
]


@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_stays_a_label(
    status: Status, name: str, accept: str, serve: Serve, run_directory: Path
) -> None:
    del run_directory
    status["domains"][0] |= {"name": name, "class": name}
    text = scrape(serve(Latest(lambda: status, most_domains=9)), accept=accept)
    parse: Any = parse_openmetrics if accept == OPENMETRICS else text_string_to_metric_families
    parsed = {family.name: family for family in parse(text)}
    assert [sample.value for sample in parsed["overcommit_up"].samples] == [1]
    shown = name[:256].encode("utf-8", "replace").decode()
    resident = {s.labels["domain"]: s.value for s in parsed["overcommit_domain_resident_bytes"].samples}
    assert resident[shown] == status["domains"][0]["resident_bytes"]
    assert max(len(line) for line in text.splitlines()) < 4000


def test_names_that_are_alike_make_no_series_twice(status: Status) -> None:
    status["domains"][1]["name"] = "cold"
    text = text_of(status)
    assert text.count('overcommit_domain_resident_bytes{domain="cold"}') == 1
    assert value(text, "domains_summed") == 1


def test_a_domain_with_the_name_of_the_sum_is_part_of_it(status: Status) -> None:
    told = many(status, 3)
    told["domains"][0]["name"] = "/others"
    text = text_of(told, most_domains=1)
    assert text.count('overcommit_domain_resident_bytes{domain="/others"}') == 1
    assert value(text, "domains_summed") == 2


def test_domains_beyond_the_limit_are_summed_and_counted(status: Status) -> None:
    told = many(status, 1000)
    text = text_of(told, most_domains=10)
    one = told["domains"][0]
    assert value(text, "domains") == 1000
    assert value(text, "domains_summed") == 990
    assert value(text, "domain_resident_bytes", domain="/others") == 990 * one["resident_bytes"]
    swap = value(text, "domain_reclaimed_bytes", domain="/others", mechanism="swap")
    assert swap == 990 * one["reclaimed_by"]["swap"]
    idle = value(text, "domain_idle_seconds_bucket", domain="/others", le="+Inf")
    assert idle == 990 * sum(each["bytes"] for each in one["idle_histogram"])
    total = sum(
        size for (name, _), size in values(text).items() if name == "overcommit_domain_resident_bytes"
    )
    assert total == sum(each["resident_bytes"] for each in told["domains"])
    assert len({dict(labels).get("domain") for _, labels in values(text)}) == 12


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
def test_promtool_has_nothing_to_say_of_the_metrics(serve: Serve, accept: str) -> None:
    promtool = program("promtool")
    text = scrape(serve(Latest(most_domains=500)), accept=accept)
    assert "overcommit_domain_resident_bytes{" in text
    if accept == OPENMETRICS:  # promtool 2.42 reads the other format only
        openmetrics: Any = parse_openmetrics
        assert len(list(openmetrics(text))) == len(catalogue.ALL)
        return
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=text, text=True, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_a_daemon_that_ends_leaves_its_last_values_and_their_age(daemon: ControlServer, serve: Serve) -> None:
    now, said = [100.0], list[str]()
    latest = Latest(most_domains=9, monotonic=lambda: Monotonic(now[0]), say=said.append)
    url = serve(latest)
    before = scrape(url)
    assert (value(before, "up"), value(before, "status_age_seconds")) == (1, 0)
    daemon.close()
    now[0] += 90
    after = scrape(url)
    assert (value(after, "up"), value(after, "status_age_seconds")) == (0, 90)
    assert value(after, "exporter_failures_total") == 1
    resident = value(before, "domain_resident_bytes", domain="cold")
    assert value(after, "domain_resident_bytes", domain="cold") == resident
    now[0] += 15
    scrape(url)
    assert said == ["overcommitd is not at work"], "what repeats is said once"


@pytest.mark.usefixtures("run_directory")
def test_without_a_daemon_there_is_a_page_all_the_same(serve: Serve) -> None:
    text = scrape(serve(Latest(most_domains=9)))
    assert value(text, "up") == 0
    assert "\novercommit_status_age_seconds" not in text
    assert "overcommit_domain_resident_bytes" not in text


def test_a_daemon_that_hangs_holds_up_no_scrape(run_directory: Path, serve: Serve) -> None:
    run_directory.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(run_directory / "control.sock"))
        listener.listen(8)  # it lets in, and never answers
        url = serve(Latest(most_domains=9))
        began = time.monotonic()
        threads = [threading.Thread(target=scrape, args=(url,), kwargs={"timeout": "1"}) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - began < 10.0, "its own patience is 20 s"
        assert value(scrape(url, timeout="0.2"), "up") == 0
        assert sum(thread.name == "ask" for thread in threading.enumerate()) == 1


def test_a_daemon_that_answers_again_is_asked_again() -> None:
    answers: list[Any] = [HostError("down"), {"kind": "status"}, [], None]
    good: Status = {"mode": "active", "host": {}, "domains": [], "gaps": []}
    good |= {"generations": [], "reservations": [], "quarantines": []}
    said: list[str] = []

    def ask() -> Status:
        answer = answers.pop(0) if answers else good
        if isinstance(answer, Exception):
            raise answer
        assert answer is None or isinstance(answer, dict | list)
        return answer  # type: ignore[return-value]

    latest = Latest(ask, most_domains=9, say=said.append)
    assert [latest.refresh(10.0) for _ in range(5)] == [False, False, False, False, True]
    assert said[0] == "down"
    assert all("is not understood" in sentence for sentence in said[1:])


def test_however_many_scrape_the_daemon_is_asked_once_a_second(status: Status) -> None:
    now, asked = [0.0], []

    def ask() -> Status:
        asked.append(now[0])
        return status

    latest = Latest(ask, most_domains=9, monotonic=lambda: Monotonic(now[0]))
    for _ in range(10):
        assert latest.refresh(10.0)
    now[0] = 1.0
    assert latest.refresh(10.0)
    assert asked == [0.0, 1.0]


def test_connections_that_say_nothing_leave_room_for_others(status: Status, serve: Serve) -> None:
    url = serve(Latest(lambda: status, most_domains=9))
    port = int(url.rpartition(":")[2].partition("/")[0])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(MOST_AT_ONCE - 1)]
    assert value(scrape(url), "up") == 1
    for connection in idle:
        connection.close()


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(None, 2.5), ("10", 5.0), ("0.5", 0.25), ("600", 15.0), ("soon", 2.5), ("-1", 2.5), ("nan", 2.5)],
)
def test_how_long_a_scrape_waits(said: str | None, seconds: float) -> None:
    assert seconds_for(said) == seconds


def test_an_older_daemon_s_status_is_served_as_far_as_it_goes(status: Status) -> None:
    for name in ("work", "swap_budget", "planned_at", "version"):
        del status[name]
    for domain in status["domains"]:
        for name in ("reclaimed_by", "idle_histogram", "promoted_pages", "wss_bytes", "slo_psi_some"):
            del domain[name]
    text = text_of(json.loads(json.dumps(status)))
    assert value(text, "up") == 1
    assert value(text, "domain_resident_bytes", domain="cold") > 0


def test_who_takes_either_format_gets_the_one_that_costs_less(status: Status, serve: Serve) -> None:
    url = serve(Latest(lambda: status, most_domains=9))
    assert not scrape(url, accept=f"{OPENMETRICS},text/plain;q=0.5,*/*;q=0.1").endswith("# EOF\n")
    assert scrape(url, accept=OPENMETRICS).endswith("# EOF\n")
