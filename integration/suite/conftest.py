"""One host VM per kernel for the whole run."""

from __future__ import annotations

import secrets
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """One process per kernel lets both host VMs work side by side: an emulated host keeps one core busy."""
    parser.addoption("--kernel", choices=("6.12", "7.3"), action="append", help="Only this kernel.")
    parser.addoption("--long", action="store_true", help="Also what takes many minutes by itself.")
    parser.addoption("--kills", type=int, default=2, help="How often a controller is killed.")
    parser.addoption("--seed", type=int, default=None, help="Repeat the moments of an earlier run.")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test runs on each kernel asked for."""
    kernels = metafunc.config.getoption("--kernel") or ("7.3", "6.12")
    metafunc.parametrize("host", kernels, indirect=True, scope="session")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether what takes long was asked for."""
    asked: bool = request.config.getoption("--long")
    return asked


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often a controller is killed."""
    number: int = request.config.getoption("--kills")
    return number


@pytest.fixture
def randomly_seeded(request: pytest.FixtureRequest) -> int:
    """What chance is drawn from, told by every failure."""
    chosen: int | None = request.config.getoption("--seed")
    return secrets.randbelow(1 << 32) if chosen is None else chosen


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A host VM with the product installed."""
    name = f"suite-{request.param.replace('.', '-')}"
    lab = Lab.up(name, kernel=request.param, memory="4G", append=SMALL_PAGES, say=_say)
    try:
        yield Host(lab)
    finally:
        lab.down()
