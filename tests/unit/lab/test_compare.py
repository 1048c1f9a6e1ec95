"""The comparison with peers, as far as it needs no host VM: curves, figures, resuming, the report."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from integration.bench.compare import __main__ as command
from integration.bench.compare import plots, proxmox, report, results, senpai
from integration.bench.compare.controllers import CONTROLLERS, QUICK_LEVELS, Run
from integration.bench.compare.curve import Point, against, area, envelope, saved_at
from integration.bench.compare.measure import actions, measure
from integration.bench.compare.scenarios import QUICK, SCENARIOS

MIB = 1 << 20


# --- curves


def test_an_envelope_has_no_point_that_another_one_beats() -> None:
    points = [Point(100, 50), Point(0, 10), Point(100, 60), Point(200, 55), Point(300, 90)]
    assert envelope(points) == [Point(0, 10), Point(100, 60), Point(300, 90)]


def test_what_hurts_more_than_allowed_saves_nothing() -> None:
    assert saved_at([Point(10, 50)], 9) == 0
    assert saved_at([Point(10, 50), Point(5, 20)], 10) == 50


def test_the_area_is_the_mean_saving_over_the_logarithm_of_pain() -> None:
    assert area([Point(0, 100)], 1000) == pytest.approx(100)
    # nothing up to 9 pages, 80 MiB from there: log(10) of log(100) is half of the way
    assert area([Point(9, 80)], 99) == pytest.approx(40)
    assert area([Point(500, 80)], 99) == 0


def test_an_area_needs_a_width() -> None:
    with pytest.raises(ValueError, match="width"):
        area([Point(0, 1)], 0)


def test_ours_is_held_against_the_best_peer_that_hurts_no_more() -> None:
    peers = [Point(10, 50), Point(1000, 400)]
    assert against([Point(100, 75), Point(1, 5), Point(2000, 200)], peers) == [
        (Point(1, 5), None),
        (Point(100, 75), 1.5),
        (Point(2000, 200), 0.5),
    ]


# --- figures of a run


def sample(at: float, phase: str, available: int, **guest: Any) -> dict[str, Any]:
    seen = {
        "rss": 300 * MIB, "back": 0, "t": at, "ops": at * 100, "max_us": 1000,
        "workingset_refault_file": 0, "workingset_refault_anon": 0, "oom_kill": 0,
    }  # fmt: skip
    host = {"available": available * MIB, "zram": 0, "kdamonds": 0.0}
    return {"at": at, "phase": phase, "host": host, "guests": {"kv": seen | guest}}


def lines_of(*samples: dict[str, Any], output: str = "", cpu: float = 2.0) -> list[dict[str, Any]]:
    return [*samples, {"controller": {"status": 0, "cpu": cpu, "output": output}}]


RUN = lines_of(
    sample(0, "before", 1000),
    sample(20, "before", 1000),
    sample(24, "control", 1000),
    sample(40, "control", 1060, back=10, max_us=500_000),
    sample(60, "control", 1100, back=30, ops=5000),
    sample(80, "after", 1100, back=30, ops=7000),
    sample(100, "after", 1100, back=70, ops=9000, workingset_refault_file=5),
    sample(104, "end", 1100, back=70, ops=9400, workingset_refault_file=5),
)


def test_what_the_host_has_more_at_the_end_is_saved() -> None:
    row = measure(RUN)
    assert (row["saved"], row["peak"], row["resident"]) == (100.0, 100.0, 300.0)
    assert (row["to_half"], row["to_most"]) == (16.0, 36.0)


def test_pages_back_are_swapped_in_by_the_host_or_read_again_by_the_guest() -> None:
    row = measure(RUN)
    assert (row["back_control"], row["back_after"], row["back"]) == (30, 45, 75)


def test_a_rate_is_that_of_the_worst_quarter_of_a_minute_against_the_usual_one() -> None:
    row = measure(RUN)
    assert row["rate"] == pytest.approx(0.5, abs=0.01)  # 1000 operations in 20 s, 100 a second before
    assert row["worst_ms"] == 500.0


def test_kdamonds_of_before_do_not_count_as_the_controllers_cpu() -> None:
    lines = json.loads(json.dumps(RUN))
    for line, used in zip(lines, (5, 6, 7, 8, 9, 9, 9, 9), strict=False):
        line["host"]["kdamonds"] = used
    assert measure(lines)["cpu"] == 5.0  # 2 of its own, 3 of its kdamonds


def test_a_guest_that_is_gone_is_a_gap_and_no_error() -> None:
    lines = json.loads(json.dumps(RUN))
    for line in lines[:-1]:
        if line["phase"] != "before":
            line["guests"]["kv"] = None
    row = measure(lines)
    assert row["rate"] is None
    assert row["guests"]["kv"]["lost"]
    assert row["saved"] == 100.0


def test_what_the_product_says_of_each_action_is_kept() -> None:
    done = {"type": "done", "domain": "kv", "kind": "pageout", "freed_bytes": 5, "promoted_pages": 1}
    output = "\n".join(["warning: x", json.dumps({"type": "started"}), json.dumps(done), "{broken"])
    (action,) = actions(output)
    assert (action["domain"], action["freed_bytes"], action["promoted_pages"]) == ("kv", 5, 1)


# --- resuming


def row(**changes: Any) -> dict[str, Any]:
    return {
        "scenario": "quick", "controller": "senpai", "level": "1%", "repeat": 1, "state": "s",
        "kernel": "7.3",
        **measure(RUN), **changes,
    }  # fmt: skip


def test_repeats_are_interleaved() -> None:
    planned = results.tasks("kv", [("a", "1"), ("b", "2")], 2)
    assert [(task.controller, task.repeat) for task in planned] == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_what_was_done_is_not_done_again_and_what_failed_is(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    planned = results.tasks("quick", [("senpai", "1%"), ("apply", "30s")], 1)
    results.append(path, row())
    results.append(path, {**planned[1]._asdict(), "state": "s", "error": "LabTimeoutError: x"})
    assert results.pending(planned, results.read(path)) == [planned[1]]


def test_a_line_that_was_cut_short_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    results.append(path, row())
    with path.open("a") as file:
        file.write('{"scenario":"quick","contr')
    results.append(path, row(repeat=2))
    assert [each["repeat"] for each in results.read(path)] == [1, 2]


def test_repeats_become_a_median_with_their_spread() -> None:
    (found,) = results.merged([row(saved=10.0), row(saved=30.0, repeat=2), row(saved=14.0, repeat=3)])
    assert (found["saved"], found["spread"], found["n"]) == (14.0, [10.0, 30.0], 3)
    assert found["guests"] == {"kv": 75}


# --- the report


def test_where_a_peer_is_better_stands_first() -> None:
    rows = [row(saved=100.0, back=10), row(controller="apply", level="30s", saved=50.0, back=20)]
    text = report.report(rows, {"command": "x"}, [])
    assert "`apply` saves 50 MiB at 20 pages back, 0.50 of what the best peer saves" in text
    assert text.index("Where we lose") < text.index("## quick")


def test_where_nobody_is_better_it_says_so_for_these_runs() -> None:
    rows = [row(saved=10.0, back=10), row(controller="apply", level="30s", saved=50.0, back=5)]
    assert "Nowhere in these runs." in report.report(rows, {}, [])


def test_a_run_that_failed_is_named() -> None:
    failed = {**row(), "error": "LabTimeoutError: too long"}
    assert "failed: quick senpai 1%: LabTimeoutError: too long" in report.report(
        [row(repeat=2), failed], {}, []
    )


def test_each_scenario_has_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plots.draw([row(), row(controller="apply", level="30s")], tmp_path) == ["quick.svg"]
    assert (tmp_path / "quick.svg").read_text().count("apply") >= 1


# --- controllers


def test_senpai_asks_for_less_the_nearer_pressure_is_to_its_bound() -> None:
    held = 300 * MIB
    assert senpai.step_bytes(held, 0.01, 0.0) == 3 * MIB
    assert senpai.step_bytes(held, 0.01, 0.05) == round(1.5 * MIB)
    assert senpai.step_bytes(held, 0.01, 0.2) == 0
    assert senpai.step_bytes(101 * MIB, 0.5, 0.0) == MIB
    some = "some avg10=0.04 avg60=0.07 avg300=0.01 total=1\nfull avg10=9 avg60=9 avg300=9 total=1\n"
    assert senpai.pressure(some) == 0.07


def balloon(name: str, now: int, free: int) -> proxmox.Balloon:
    return proxmox.Balloon(name, now * MIB, 128 * MIB, 320 * MIB, free * MIB)


def test_proxmox_takes_from_guests_with_free_memory_and_in_steps() -> None:
    guests = [balloon("free", 320, 200), balloon("busy", 320, 5)]
    assert proxmox.decide(guests, -60 * MIB) == {"free": 260 * MIB}
    # what the first cannot give in one step is asked of the other
    both = proxmox.decide(guests, -150 * MIB)
    assert both["free"] == 220 * MIB
    assert both["busy"] == 270 * MIB
    assert proxmox.decide(guests, -5 * MIB) == {}


def test_proxmox_gives_to_pressed_guests_first() -> None:
    guests = [balloon("free", 200, 100), balloon("busy", 200, 5)]
    assert proxmox.decide(guests, 50 * MIB) == {"busy": 250 * MIB}


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_is_one_shell_line_with_its_level_in_it(name: str) -> None:
    controller = CONTROLLERS[name]
    for setting in controller.levels.values():
        line = controller.line(Run(setting, 100.0, ("web", "kv")))
        assert setting in line
        assert "100" in line


def test_a_quick_run_has_known_controllers_at_known_levels_and_ends_in_twenty_minutes() -> None:
    chosen = command.settings((), quick=True)
    assert all(level in CONTROLLERS[name].levels for name, level in chosen)
    assert dict(chosen) == dict(QUICK_LEVELS)
    assert len(chosen) * command.seconds_of(QUICK) + 4 * 60 < 20 * 60


def test_scenarios_have_both_page_sizes_and_all_orders_reach_a_guest() -> None:
    assert {each.thp for each in SCENARIOS.values()} == {"madvise", "never"}
    for scenario in (*SCENARIOS.values(), QUICK):
        assert {name for name, _ in scenario.orders} <= set(scenario.names)
        assert math.isfinite(command.seconds_of(scenario))
