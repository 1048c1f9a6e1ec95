"""One host VM per kernel for the whole run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from integration.lab.lab import Lab
from integration.suite.host import Host

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Guest RAM in 4 KiB pages, so that what DAMON sees can be held against the workload's own truth; with huge
#: pages (QEMU asks for them) everything is seen in pieces of 2 MiB.
SMALL_PAGES = "transparent_hugepage=never"


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


@pytest.fixture(
    scope="session",
    params=[pytest.param(k, marks=pytest.mark.xdist_group(k)) for k in ("7.3", "6.12")],
)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host VM with the product installed."""
    name = f"suite-{request.param.replace('.', '-')}"
    lab = Lab.up(name, kernel=request.param, memory="4G", append=SMALL_PAGES, say=_say)
    try:
        yield Host(lab)
    finally:
        lab.down()
