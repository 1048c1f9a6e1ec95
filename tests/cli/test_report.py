"""``overcommitctl report``: the verb, its text, and its page."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.cli import report as verb
from overcommit.cli.report_html import MOST_MAPS, page
from overcommit.control.reporting import Period, report_document
from overcommit.model.series import Span
from overcommit.records.series import Series
from overcommit.testing import FakeClock, FakeHost
from tests.a_month import HOSTILE, spans
from tests.cli.conftest import Run

DOCS = Path(__file__).parents[2] / "docs/report.md"
CSS = Path(verb.__file__).with_name("report.css")
FAILED, UNSUPPORTED, USAGE = 1, 5, 64
SHOWN = "<script>alert('x')</script>\"&\\u202eevil\\n"
VOID = {"meta", "link", "br"}
"""Elements that have no end."""


@pytest.fixture
def host(mocker: MockerFixture) -> FakeHost:
    host = FakeHost([])
    mocker.patch("os.geteuid", return_value=0)
    mocker.patch("overcommit.cli.session.DamonWorker", return_value=mocker.Mock())
    mocker.patch("overcommit.cli.session.SystemClock", return_value=FakeClock(host))
    return host


def now_of(host: FakeHost) -> int:
    return int(float(FakeClock(host).now()))


@pytest.fixture
def kept(host: FakeHost, state: Path) -> list[Span]:
    """Three days up to now."""
    state.mkdir()
    series = Series(state, warn=pytest.fail)
    made = spans(now_of(host) // 3600 * 3600 - 3 * 86400, 3, seconds=3600)
    for span in made:
        series.add(span)
    return made


@pytest.fixture
def made() -> str:
    begin = 1_700_006_400
    period = Period(host="kvm<1>", since=begin, until=begin + 7 * 86400)
    return page(report_document(period, spans(begin, 7), []))


@pytest.mark.usefixtures("kept")
def test_a_report_in_words(run: Run) -> None:
    ended = run("report", "--since", "2d")
    assert ended.status == 0, ended.err
    for said in (
        "Saved in the mean:",
        "page-out and swap",
        "Worst hours",
        "web: 8.0 GiB defined, p99 working",
    ):
        assert said in ended.out
    assert SHOWN in ended.out
    assert HOSTILE not in ended.out
    assert "Nothing was done." in ended.out
    assert ended.err.strip().endswith("overcommitctl report --since 2d --html report.html")


@pytest.mark.usefixtures("kept")
def test_a_report_fits_a_terminal(run: Run) -> None:
    ended = run("report", "--domain", "web", "--domain", "db")
    assert ended.status == 0, ended.err
    tables = [line for line in ended.out.splitlines() if re.search(r"  (web|db|domain|hour) ", line)]
    assert tables
    assert [line for line in tables if len(line) > 80] == []


@pytest.mark.usefixtures("kept")
def test_of_one_domain(run: Run) -> None:
    told = json.loads(run("report", "--json", "--domain", "web").out)
    assert [found["name"] for found in told["domains"]] == ["web"]
    whole = json.loads(run("report", "--json").out)
    assert len(whole["domains"]) == 5
    assert told["savings"]["net_mean_bytes"] < whole["savings"]["net_mean_bytes"]
    by_uuid = json.loads(run("report", "--json", "--domain", told["domains"][0]["uuid"]).out)
    assert by_uuid["domains"] == told["domains"]


@pytest.mark.usefixtures("kept")
def test_a_domain_that_there_is_not(run: Run) -> None:
    ended = run("report", "--domain", "wbe")
    assert ended.status == USAGE
    assert "no figures of a domain 'wbe'" in ended.err
    assert "did you mean web?" in ended.err


@pytest.mark.usefixtures("kept")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_page_goes_into_no_pipe_of_another_user(run: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "report.html"
    os.mkfifo(pipe)
    os.chown(pipe, 65534, 65534)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        ended = run("report", "--html", pipe)
    finally:
        os.close(reading)
    assert ended.status == USAGE
    assert "it is a pipe of uid 65534" in ended.err


@pytest.mark.usefixtures("host")
def test_nothing_is_kept_yet(run: Run) -> None:
    ended = run("report")
    assert ended.status == FAILED
    assert "no figures are kept yet: overcommitd keeps them, and it is not running" in ended.err
    assert "hint:  sudo systemctl enable --now overcommitd" in ended.err


@pytest.mark.usefixtures("host")
def test_nothing_is_kept_yet_by_a_daemon_that_runs(run: Run, mocker: MockerFixture) -> None:
    mocker.patch.object(verb, "find_daemon")
    ended = run("report")
    assert ended.status == FAILED
    assert "hint:  sleep 60; overcommitctl report" in ended.err


def test_nothing_of_that_time(run: Run, host: FakeHost, state: Path) -> None:
    state.mkdir()
    Series(state, warn=pytest.fail).add(spans(now_of(host) // 600 * 600 - 9 * 86400, 1)[0])
    ended = run("report")
    assert ended.status == FAILED
    assert "the newest are of" in ended.err
    assert "hint:  overcommitctl report --since 30d" in ended.err
    assert run("report", "--since", "30d").status == 0


@pytest.mark.usefixtures("kept")
def test_a_time_that_is_none(run: Run) -> None:
    ended = run("report", "--since", "soon")
    assert ended.status == USAGE
    assert "not a time" in ended.err


def test_only_root_may_read_it(run: Run, mocker: MockerFixture) -> None:
    mocker.patch("os.geteuid", return_value=1000)
    ended = run("report")
    assert ended.status == UNSUPPORTED
    assert "root" in ended.err


@pytest.mark.usefixtures("kept")
def test_a_page_in_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("an old one")
    ended = run("report", "--html", file)
    assert (ended.status, ended.out) == (0, "")
    assert file.read_text().startswith('<!DOCTYPE html>\n<html lang="en">')
    assert list(tmp_path.glob(".overcommit*")) == []
    refused = run("report", "--html", tmp_path / "none" / "report.html")
    assert refused.status == USAGE
    assert "hint:" in refused.err


class Read(HTMLParser):
    """What a browser makes of a page, as far as it matters here."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "each element has its end"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_a_hostile_name_is_text_and_nothing_else(made: str) -> None:
    read = Read(made)
    assert read.of("script") == []
    assert [name for _, each in read.elements for name in each if name.startswith("on")] == []
    assert SHOWN in [text for _, text in read.texts]
    assert HOSTILE not in made
    assert "kvm<1>" in next(text for tag, text in read.texts if tag == "title")


def test_a_page_needs_nothing_else(made: str) -> None:
    read = Read(made)
    addresses = [
        each[name] for _, each in read.elements for name in ("src", "href", "srcset") if name in each
    ]
    assert addresses == ["data:,"]
    assert not re.search(r"url\(|@import|https?://", made)
    policy = next(each for each in read.of("meta") if each.get("http-equiv") == "Content-Security-Policy")
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def test_a_page_can_be_read_without_seeing_it(made: str) -> None:
    read = Read(made)
    assert read.of("html")[0]["lang"] == "en"
    assert [len(read.of(tag)) for tag in ("title", "h1", "main", "header", "footer")][1:] == [1, 1, 1, 1]
    headings = [tag for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert all(int(after[1]) <= int(before[1]) + 1 for before, after in itertools.pairwise(headings))
    assert all(each["scope"] in {"col", "row"} for each in read.of("th"))
    assert len(read.of("caption")) == len(read.of("table"))
    ids = [each["id"] for _, each in read.elements if "id" in each]
    assert len(ids) == len(set(ids))
    for _, each in read.elements:
        if "aria-labelledby" in each:
            assert each["aria-labelledby"] in ids
        if each.get("role") == "region":
            assert each["tabindex"] == "0", "who has only a keyboard can scroll it"
            assert each["aria-label"]
    for picture in read.of("svg"):
        assert picture.get("role") == "img" or picture.get("aria-hidden") == "true"


def test_a_map_says_nothing_by_colour_alone(made: str) -> None:
    """Each column has a height, and its figures in words."""
    levels: dict[str, set[int]] = {}
    for each in Read(made).of("rect"):
        kind = each["class"] or ""
        if kind.startswith("level-"):
            levels.setdefault(kind, set()).add(int(each["height"] or 0))
    heights = [levels[kind] for kind in sorted(levels)]
    assert len(heights) >= 4
    assert all(max(low) <= min(high) for low, high in itertools.pairwise(heights))
    texts = Read(made).texts
    assert any(tag == "title" and "% idle, working set" in text for tag, text in texts)
    assert any(tag == "title" and text.endswith("no figures") for tag, text in texts)


def luminance(colour: str) -> float:
    """See the definition of relative luminance in WCAG 2."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(scheme: str) -> None:
    """WCAG 2 AA: 4.5 for text, 3 for what of a picture has a meaning."""
    light, dark = CSS.read_text().split("@media (prefers-color-scheme: dark)")
    rules = light if scheme == "light" else dark
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", rules))
    assert contrast(colours["text"], colours["ground"]) >= 4.5
    assert contrast(colours["quiet"], colours["ground"]) >= 4.5
    for level in range(5):
        assert contrast(colours[f"level-{level}"], colours["ground"]) >= 3.0
        assert contrast(colours[f"level-{level}"], colours["track"]) >= 3.0
    assert contrast(colours["working-set"], colours["ground"]) >= 3.0, "the line has a frame of that colour"
    assert contrast(colours["focus"], colours["ground"]) >= 3.0


def test_a_page_of_many_domains_is_bounded() -> None:
    begin, names = 1_700_006_400, tuple(f"domain-{number}" for number in range(MOST_MAPS + 3))
    made = spans(begin, 1, seconds=3600, names=names)
    began = time.monotonic()
    text = page(report_document(Period(host="kvm", since=begin, until=begin + 86400), made, []))
    assert time.monotonic() - began < 20.0
    assert len(Read(text).of("figure")) == MOST_MAPS
    assert "3 domains more: overcommitctl report --domain NAME --html FILE" in text


def keys_of(value: object, prefix: str = "") -> set[str]:
    if isinstance(value, dict):
        return {
            found for name, each in value.items() for found in keys_of(each, f"{prefix}.{name}".lstrip("."))
        }
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        return {found for each in value for found in keys_of(each, f"{prefix}[]")}
    return set() if value == [] else {prefix}


@pytest.mark.usefixtures("kept")
def test_each_field_of_the_json_is_documented(run: Run) -> None:
    told = json.loads(run("report", "--json").out)
    documented = set(re.findall(r"^\| `([^`]+)`", DOCS.read_text(), re.MULTILINE))
    there = {key for key in keys_of(told) if not key.startswith(("events.by_kind", "events.latest"))}
    assert there - documented == set()
    assert {key for key in documented - there if not key.startswith("events.")} == set()
