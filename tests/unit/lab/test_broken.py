"""What is broken on purpose is still there to be broken, and somebody is to notice."""

from __future__ import annotations

import pytest

from integration.broken.__main__ import BREAKS, Break
from integration.lab import paths


@pytest.mark.parametrize("broken", BREAKS, ids=lambda broken: broken.name)
def test_each_break_fits(broken: Break) -> None:
    assert (paths.CHECKOUT / broken.file).read_text().count(broken.old) == 1
    file, _, test = broken.where.partition("::")
    text = (paths.CHECKOUT / "integration/suite" / file).read_text()
    assert not test or f"def {test}(" in text
