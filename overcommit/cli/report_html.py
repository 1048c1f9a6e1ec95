"""The report as one HTML file that needs nothing else: no network, no script, no font of its own.

It is built as a tree, whose serializer escapes every text and attribute: names of domains are of others'
making. What a colour says is also said by a height, and in a table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

from overcommit import __version__
from overcommit.cli import report_text as texts
from overcommit.cli.render import size
from overcommit.display import plain
from overcommit.units import counted, format_duration

Document = Mapping[str, Any]
MOST_MAPS = 100
"""Domains with a map each, first those that were outside of their SLO longest."""
_COLUMN, _HEIGHT = 10, 40
_LEVELS = 5
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(report: Document) -> str:
    """The whole file."""
    html = Element("html", lang="en")
    _head(html, f"Memory report of {plain(report['host']['name'])}")
    body = SubElement(html, "body")
    header = SubElement(body, "header")
    _add(header, "h1", f"Memory report of {plain(report['host']['name'])}")
    _add(header, "p", texts.title(report))
    main = SubElement(body, "main")
    _saved(main, report)
    _domains(main, report)
    _maps(main, report)
    _hours(main, report)
    _events(main, report)
    footer = SubElement(body, "footer")
    _add(footer, "p", f"overcommit {__version__}. Times are of the host's zone.")
    return f"<!DOCTYPE html>\n{tostring(html, encoding='unicode', method='html')}\n"


def _head(html: Element, title: str) -> None:
    head = SubElement(html, "head")
    SubElement(head, "meta", charset="utf-8")
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _POLICY})
    SubElement(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    SubElement(head, "meta", name="color-scheme", content="light dark")
    SubElement(head, "link", rel="icon", href="data:,")  # or a browser asks for one
    _add(head, "title", title)
    _add(head, "style", resources.files("overcommit.cli").joinpath("report.css").read_text("utf-8"))


def _add(parent: Element, tag: str, text: str, **attributes: str) -> Element:
    element = SubElement(
        parent, tag, {name.rstrip("_").replace("_", "-"): v for name, v in attributes.items()}
    )
    element.text = text
    return element


def _section(main: Element, name: str, title: str) -> Element:
    section = SubElement(main, "section", {"aria-labelledby": name})
    _add(section, "h2", title, id=name)
    return section


def _table(
    parent: Element,
    caption: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Collection[int] = (0,),
) -> None:
    """A table whose first column names its rows; the columns in ``left`` are texts, the others figures."""
    around = SubElement(parent, "div", {"class": "wide", "role": "region", "tabindex": "0"})
    around.set("aria-label", caption)
    table = SubElement(around, "table")
    _add(table, "caption", caption)
    head = SubElement(SubElement(table, "thead"), "tr")
    for index, name in enumerate(header):
        _add(head, "th", name, scope="col", class_="text" if index in left else "figure")
    body = SubElement(table, "tbody")
    for row in rows:
        line = SubElement(body, "tr")
        for index, cell in enumerate(row):
            kind = "text" if index in left else "figure"
            if index == 0:
                _add(line, "th", plain(cell), scope="row", class_=kind)
            else:
                _add(line, "td", plain(cell), class_=kind)


def _saved(main: Element, report: Document) -> None:
    section = _section(main, "saved", "Saved")
    _add(section, "p", texts.saved_sentence(report), class_="sum")
    _add(section, "p", texts.host_sentence(report))
    _table(section, "Taken from domains, in the mean", texts.SAVED_HEADER, texts.saved_rows(report))


def _domains(main: Element, report: Document) -> None:
    section = _section(main, "domains", "Domains")
    for sentence in texts.DOMAINS_SAID:
        _add(section, "p", sentence)
    _table(section, "Each domain in that time", texts.DOMAIN_HEADER, texts.domain_rows(report))
    _add(section, "h3", "How much memory each domain needed")
    listed = SubElement(section, "ul")
    for domain in report["domains"]:
        _add(listed, "li", texts.sizing_sentence(domain))


def _maps(main: Element, report: Document) -> None:
    section = _section(main, "idle", "Idle memory over time")
    cells = report["cells"]
    _add(
        section,
        "p",
        f"Each column is {format_duration(cells['seconds'])}. The higher it is, the more of the domain's "
        "resident memory was idle for 10 minutes or longer; the colour says the same. A column with a dashed "
        "frame has no figures. The line is the working set, as a share of the domain's defined memory.",
    )
    _legend(section)
    for number, domain in enumerate(report["domains"][:MOST_MAPS]):
        _map(section, cells, domain, number)
    left_out = len(report["domains"]) - MOST_MAPS
    if left_out > 0:
        _add(
            section,
            "p",
            f"{counted(left_out, 'domain')} more: overcommitctl report --domain NAME --html FILE",
        )


def _legend(section: Element) -> None:
    legend = SubElement(section, "ul", {"class": "legend", "aria-label": "Shares of idle memory"})
    for level in range(_LEVELS):
        item = SubElement(legend, "li")
        picture = SubElement(
            item, "svg", {"viewBox": f"0 0 {_COLUMN} {_HEIGHT}", "aria-hidden": "true", "class": "key"}
        )
        _bar(picture, 0, (level + 1) / _LEVELS)
        low, high = 100 * level // _LEVELS, 100 * (level + 1) // _LEVELS
        SubElement(item, "span").text = f"{low} to {high}%"


def _map(section: Element, cells: Document, domain: Document, number: int) -> None:
    shares, working_sets = domain["cells"]["idle_share"], domain["cells"]["working_set_bytes"]
    figure = SubElement(section, "figure")
    caption = SubElement(figure, "figcaption", id=f"map-{number}")
    _add(caption, "strong", plain(domain["name"]))
    SubElement(caption, "span").text = f" {_map_sentence(shares)}"
    picture = SubElement(
        figure,
        "svg",
        {
            "viewBox": f"0 0 {max(1, len(shares)) * _COLUMN} {_HEIGHT}",
            "preserveAspectRatio": "none",
            "class": "map",
            "role": "img",
            "aria-labelledby": f"map-{number}",
        },
    )
    for index, share in enumerate(shares):
        column = _bar(picture, index, share)
        told = _cell_sentence(share, working_sets[index])
        _add(column, "title", f"{texts.moment(cells['at'][index])}: {told}")
    for points in _lines(working_sets, domain["memory_bytes"]):
        for kind in ("around-line", "working-set"):
            SubElement(picture, "polyline", {"points": points, "class": kind})
    if cells["at"]:
        axis = SubElement(figure, "p", {"class": "axis", "aria-hidden": "true"})
        _add(axis, "span", texts.moment(cells["at"][0]))
        _add(axis, "span", texts.moment(cells["at"][-1]))
    details = SubElement(figure, "details")
    _add(details, "summary", f"Figures of {plain(domain['name'])}")
    rows = (
        (texts.moment(at), texts.share(share), size(working_set))
        for at, share, working_set in zip(cells["at"], shares, working_sets, strict=True)
    )
    _table(
        details, f"{plain(domain['name'])} over time", ("from", "idle for 10 minutes", "working set"), rows
    )


def _bar(picture: Element, index: int, share: float | None) -> Element:
    """One column; one without figures is a frame of its own kind."""
    column = SubElement(picture, "g")
    frame = {"x": str(index * _COLUMN), "width": str(_COLUMN)}
    if share is None:
        SubElement(column, "rect", {**frame, "y": "1", "height": str(_HEIGHT - 2), "class": "gap"})
        return column
    height = max(1, round(share * _HEIGHT))
    level = min(_LEVELS - 1, int(share * _LEVELS - 1e-9))
    SubElement(column, "rect", {**frame, "y": "0", "height": str(_HEIGHT), "class": "track"})
    SubElement(
        column,
        "rect",
        {**frame, "y": str(_HEIGHT - height), "height": str(height), "class": f"level-{level}"},
    )
    return column


def _lines(values: Sequence[int | None], most: int) -> list[str]:
    """The points of a line for each stretch without gaps."""
    stretches: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None or most <= 0:
            stretches.append([])
            continue
        y = _HEIGHT * (1 - min(1.0, value / most))
        stretches[-1] += [f"{index * _COLUMN},{y:.1f}", f"{(index + 1) * _COLUMN},{y:.1f}"]
    return [" ".join(points) for points in stretches if points]


def _map_sentence(shares: Sequence[float | None]) -> str:
    known = [share for share in shares if share is not None]
    if not known:
        return "how much of it was idle is not known"
    mean = sum(known) / len(known)
    return f"{mean:.0%} idle in the mean, between {min(known):.0%} and {max(known):.0%}"


def _cell_sentence(share: float | None, working_set: int | None) -> str:
    if share is None and working_set is None:
        return "no figures"
    return f"{texts.share(share)} idle, working set {size(working_set)}"


def _hours(main: Element, report: Document) -> None:
    section = _section(main, "hours", "Worst hours")
    if not report["worst_hours"]:
        _add(section, "p", texts.NO_HOURS)
        return
    _add(section, "p", texts.HOURS_SAID)
    _table(
        section,
        "Hours in which domains were outside of their SLO",
        texts.HOURS_HEADER,
        texts.hour_rows(report),
        left=(0, 5),
    )


def _events(main: Element, report: Document) -> None:
    section = _section(main, "events", "What was done")
    if not report["events"]["count"]:
        _add(section, "p", texts.NO_EVENTS)
        return
    _table(section, "Actions and how they ended", texts.EVENTS_HEADER, texts.event_rows(report))
    details = SubElement(section, "details")
    latest = report["events"]["latest"]
    _add(details, "summary", f"The latest {counted(len(latest), 'event')}")
    listed = SubElement(details, "ul")
    for event in reversed(latest):
        _add(listed, "li", texts.event_sentence(event))
