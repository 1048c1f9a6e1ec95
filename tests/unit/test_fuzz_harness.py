"""``make fuzz`` itself: it finds what is there to find, says how to find it again, and ends in time."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
SOUND = """
from hypothesis import given, strategies as st

@given(st.integers())
def test_a_number_is_itself(number):
    assert number == number
"""
DRAWING = """
from hypothesis import given, strategies as st

@given(st.data())
def test_what_is_drawn_inside(data):
    assert sum(data.draw(st.integers(0, 200)) for _ in range(3)) <= 600
"""
FAULTY = """
from hypothesis import given, strategies as st

@given(st.integers())
def test_small_numbers_only(number):
    assert number < 70000, "planted"
"""
DYING = """
import os
from hypothesis import given, strategies as st

@given(st.integers())
def test_the_process_lives(number):
    if number > 70000:
        os._exit(0)
"""
HANGING = """
import time
from hypothesis import given, strategies as st
from tests.fuzz import repeating

repeating.LONGEST_EXAMPLE_SECONDS, repeating.STARVED = 0.2, 1.0

@given(st.booleans())
def test_it_comes_back(number):
    try:
        time.sleep(5 if number else 0)
    except Exception:
        pass  # as a reader does that takes any failure for a gap
"""


def fuzz(directory: Path, *options: str, minutes: str = "0.03") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", "--minutes", minutes, "--jobs", "2"]
    places = ["--directory", str(directory), "--kept", str(directory / "kept")]
    return subprocess.run(
        [*command, *places, *options], cwd=CHECKOUT, text=True, capture_output=True, check=False
    )


@pytest.mark.timeout(300)
def test_what_is_sound_is_tried_again_and_again_until_the_time_is_up(tmp_path: Path) -> None:
    (tmp_path / "test_sound.py").write_text(SOUND)
    for minutes in ("0.03", "0.2", "0.4", "1.5"):  # a busy machine needs most of the first for its imports
        done = fuzz(tmp_path, minutes=minutes)
        assert done.returncode == 0, done.stdout + done.stderr
        examples = re.search(r"sound +([0-9,]+) examples +([0-9]+) seeds", done.stdout)
        assert examples
        if int(examples[2]) > 1:
            return
    pytest.fail(f"one run of make test in all that time: {done.stdout}")


def test_that_the_time_is_up_is_no_finding_of_what_draws_inside(tmp_path: Path) -> None:
    (tmp_path / "test_drawing.py").write_text(DRAWING)
    done = fuzz(tmp_path, minutes="0.15")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("faulty", FAULTY, "planted"),
        ("dying", DYING, "the process ended by itself"),
        ("hanging", HANGING, "took longer than"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / f"test_{name}.py").write_text(text)
    (tmp_path / "test_sound.py").write_text(SOUND)
    done = fuzz(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert said in done.stdout
    assert re.search(rf"again: make fuzz ONLY={name} SEED=[0-9]+", done.stdout)
    assert "1 finding(s)\n" in done.stdout


def test_a_finding_is_kept_and_tried_first(tmp_path: Path) -> None:
    (tmp_path / "test_faulty.py").write_text(FAULTY)
    fuzz(tmp_path)
    assert list((tmp_path / "kept/corpus/faulty").rglob("*"))
    again = fuzz(tmp_path, "--seed", "1")
    assert again.returncode == 1
    examples = re.search(r"faulty +([0-9,]+) examples", again.stdout)
    assert examples
    assert int(examples[1]) < 5


def test_one_can_be_run_alone_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test_faulty.py").write_text(FAULTY)
    (tmp_path / "test_sound.py").write_text(SOUND)
    assert fuzz(tmp_path, "--only", "sound").returncode == 0
    nobody = fuzz(tmp_path, "--only", "journal")
    assert nobody.returncode == 2
    assert "no fuzzer journal; there is faulty, sound" in nobody.stderr
