"""What operators write and read: sizes, durations, percentages."""

import pytest

from overcommit.units import (
    GIB,
    KIB,
    MIB,
    format_duration,
    format_ratio,
    format_size,
    parse_duration,
    parse_nodes,
    parse_percentage,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1B", 1),
        ("1KiB", KIB),
        ("512 MiB", 512 * MIB),
        ("1.5GiB", 3 * GIB // 2),
        ("2TiB", 2048 * GIB),
        ("  3MiB ", 3 * MIB),
    ],
)
def test_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "1GB", "1MB", "1 mib", "-1MiB", "1,5GiB", "1e3", "0x10", "1MiB/s"]
)
def test_what_is_not_a_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a size: .*512MiB"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("200ms", 0.2), ("90s", 90), ("5min", 300), ("1.5h", 5400), ("2d", 172800)]
)
def test_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "90", "5m", "5 minutes", "-5s", "1h30min", "5MIN"])
def test_duration_needs_a_unit_that_cannot_be_misread(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "ratio"), [("8%", 0.08), ("0.05 %", 0.0005), ("150%", 1.5), ("0%", 0)])
def test_percentage_is_read(text: str, ratio: float) -> None:
    assert parse_percentage(text) == pytest.approx(ratio)


@pytest.mark.parametrize("text", ["8", "%", "-8%", "8 percent", "8%/min"])
def test_what_is_not_a_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a percentage"):
        parse_percentage(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (99.94 * MIB, "99.9 MiB"),
        (512 * MIB, "512 MiB"),
        (1.5 * GIB, "1.5 GiB"),
        (3 << 40, "3.0 TiB"),
        (-2 * GIB, "-2.0 GiB"),
    ],
)
def test_size_is_written(size: float, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (45, "45s"),
        (120, "2min"),
        (150, "2min 30s"),
        (3600, "1h"),
        (3905, "1h 5min"),
        (90061, "1d 1h"),
    ],
)
def test_duration_is_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("ratio", "text"), [(0.01, "1%"), (0.0005, "0.05%"), (0.1234, "12.3%"), (1, "100%")])
def test_ratio_is_written(ratio: float, text: str) -> None:
    assert format_ratio(ratio) == text


@pytest.mark.parametrize(
    ("text", "nodes"),
    [("0", {0}), ("0-2,5", {0, 1, 2, 5}), ("0-3,^2", {0, 1, 3}), ("^1,0-1", {0}), ("", set()), (" 1\n", {1})],
)
def test_lists_of_memory_nodes(text: str, nodes: set[int]) -> None:
    assert parse_nodes(text) == nodes


@pytest.mark.parametrize("text", ["1-0", "x", "-1", "0,,1-", "99999", "0-99999", "0 1", "\u0661", "^"])
def test_what_is_no_list_of_memory_nodes(text: str) -> None:
    with pytest.raises(ValueError, match="not a list of memory nodes"):
        parse_nodes(text)
