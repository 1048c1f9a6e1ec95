"""The documentation's word on what the suite covers is the suite's own."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import get_args

from integration.suite import test_e_matrix as matrix

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
