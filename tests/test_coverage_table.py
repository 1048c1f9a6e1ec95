"""The documentation's word on what the suite covers is the suite's own."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import combinations, groupby
from pathlib import Path
from typing import get_args

import pytest

from integration.suite import test_matrix as matrix
from integration.suite.order import ORDER

CHECKOUT = Path(__file__).parent.parent


def test_the_document_is_what_the_tests_say() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "integration.suite.coverage"],
        cwd=CHECKOUT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (CHECKOUT / "docs/coverage.md").read_text() == made.stdout, (
        "python -m integration.suite.coverage > docs/coverage.md"
    )


def test_the_rows_have_every_pair_of_values() -> None:
    columns = {
        "backing": set(get_args(matrix.Backing)) - {"hugetlb"},
        "balloon": set(get_args(matrix.Balloon)),
        "swap": set(get_args(matrix.Swap)),
    }
    for one, other in combinations(columns, 2):
        wanted = {(a, b) for a in columns[one] for b in columns[other]}
        assert wanted <= {(getattr(row, one), getattr(row, other)) for row in matrix.ROWS}


def test_every_file_of_the_suite_has_its_place_in_the_order() -> None:
    files = [path.stem for path in (CHECKOUT / "integration/suite").glob("test_*.py")]
    assert sorted(files) == sorted(ORDER)


@pytest.mark.parametrize("part", [(), ("--all",)])
@pytest.mark.parametrize("kernel", ["7.3", "6.12"])
def test_the_files_are_run_in_that_order(kernel: str, part: tuple[str, ...]) -> None:
    """First those that share a host, where what one leaves the next one finds; then those with one each."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--kernel", kernel, *part]
    listed = subprocess.run(
        [*command, "integration/suite"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    files = re.findall(r"^integration/suite/(\w+)\.py::", listed.stdout, re.MULTILINE)
    runs = [name for name, _ in groupby(files)]
    assert len(runs) > 1
    assert runs == sorted(runs, key=lambda name: (has_a_host_of_its_own(name), ORDER.index(name)))


def has_a_host_of_its_own(name: str) -> bool:
    return "def host(" in (CHECKOUT / f"integration/suite/{name}.py").read_text()
