"""What is broken on purpose is still there to be broken, and somebody is to notice."""

from __future__ import annotations

import pytest

from integration.broken.__main__ import BREAKS, Break, judge
from integration.lab import paths


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.name)
def test_each_break_fits(broken: Break) -> None:
    assert (paths.CHECKOUT / broken.file).read_text().count(broken.old) == 1
    file, _, test = broken.where.partition("::")
    text = (paths.CHECKOUT / "integration/suite" / file).read_text()
    assert not test or f"def {test}(" in text


NOTICED = "FAILED suite/test_x.py::test_floor[7.3] - AssertionError: below"


@pytest.mark.parametrize(
    ("said", "noticed"),
    [
        (f"{NOTICED}\n1 failed, 2 passed in 3.00s\n", [NOTICED.removeprefix("FAILED ")]),
        (
            "FAILED suite/test_x.py::test_y[7.3] - assert 3 >= 4\n",
            ["suite/test_x.py::test_y[7.3] - assert 3 >= 4"],
        ),
        ("3 passed in 3.00s\n", []),
        (
            "FAILED suite/test_x.py::test_y[7.3] - integration.lab.errors.HostVmDiedError: host VM died\n",
            None,
        ),
        ("FAILED suite/test_x.py::test_y[7.3] - Failed: Timeout (>1800.0s)\n", None),
        (f"{NOTICED}\nERROR suite/test_x.py::test_y[7.3] - AssertionError\n", None),
    ],
)
def test_only_a_judgement_is_noticing(said: str, noticed: list[str] | None) -> None:
    told = judge(said)
    assert (told if told is None else told["FAILED"]) == noticed
