"""One host VM per kernel for the whole run, and which tests a run has time for."""

from __future__ import annotations

import re
import secrets
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from integration.lab.errors import LabError
from integration.suite import evidence, hosts, order
from integration.suite.host import Host

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from contextlib import AbstractContextManager

HOST = pytest.StashKey[hosts.Chosen]()
KERNELS = pytest.StashKey[tuple[str, ...]]()
LEFT_OUT = pytest.StashKey[int]()
STARTED_AGAIN = pytest.StashKey[list[str]]()
LIMIT_SECONDS, SECONDS_A_KILL = 1800, 180


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr)


def pytest_addoption(parser: pytest.Parser) -> None:
    """One process per kernel lets both host VMs work side by side: an emulated host keeps one core busy."""
    parser.addoption("--host", default="lab", help="lab, vagrant or ssh:root@HOST.")
    parser.addoption("--lab", default="suite", help="How names of host VMs begin: one for each run.")
    parser.addoption("--kernel", choices=("6.12", "7.3"), action="append", help="Only this kernel.")
    parser.addoption("--all", action="store_true", help="Everything, not only what make test has time for.")
    parser.addoption("--kills", type=int, default=2, help="How often a controller is killed.")
    parser.addoption("--seed", type=int, default=None, help="Repeat the moments of an earlier run.")
    parser.addoption("--evidence", default="artifacts", help="What a failure leaves behind.")


def pytest_configure(config: pytest.Config) -> None:
    """The mark that this suite has beside pytest's own, the order it needs, and its host."""
    config.addinivalue_line(
        "markers", "quick(*kernels): part of make test, on these kernels (none: on all); the rest needs --all"
    )
    # Tests of a module take turns at the same guests: what one leaves the next one looks at.
    config.option.randomly_reorganize = False
    config.stash[LEFT_OUT], config.stash[STARTED_AGAIN] = 0, []
    try:
        config.stash[HOST] = hosts.parse(config.getoption("--host"), config.getoption("--lab"))
        config.stash[KERNELS] = config.stash[HOST].kernels(config.getoption("--kernel"))
    except (ValueError, LabError) as error:
        raise pytest.UsageError(f"--host: {error}") from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test runs on each kernel asked for."""
    kernels = metafunc.config.stash[KERNELS]
    own = "host" in vars(metafunc.module)  # a host VM of the module's own goes when the module is done
    metafunc.parametrize("host", kernels, indirect=True, scope="module" if own else "session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put files in order; leave out what takes long, unless all is asked for; set a limit to what hangs.

    It comes before pytest's own sorting, which puts together what shares a host and keeps the order else.
    """
    if without := order.unplaced(item.path.stem for item in items):
        raise pytest.UsageError(f"no place in integration/suite/order.py: {', '.join(without)}")
    items.sort(key=lambda item: order.ORDER.index(item.path.stem))
    if config.getoption("--timeout") is None:
        # the first test of a module pays for its host VM and its guests
        limit = pytest.mark.timeout(LIMIT_SECONDS + SECONDS_A_KILL * config.getoption("--kills"))
        for item in items:
            item.add_marker(limit)
    if config.getoption("--all"):
        return
    chosen = [item for item in items if is_quick(item)]
    left_out = [item for item in items if not is_quick(item)]
    config.stash[LEFT_OUT] = len(left_out)
    config.hook.pytest_deselected(items=left_out)
    items[:] = chosen


def is_quick(item: pytest.Item) -> bool:
    """Whether ``make test`` has time for it."""
    mark = item.get_closest_marker("quick")
    return mark is not None and (not mark.args or item.callspec.params["host"] in mark.args)  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was not run and how to run it, and which guests the emulator had let down."""
    if left_out := config.stash[LEFT_OUT]:
        terminalreporter.write_line(
            f"{left_out} tests were left out for their time (docs/coverage.md says of which files): "
            "make integration runs all"
        )
    for guest in config.stash[STARTED_AGAIN]:
        terminalreporter.write_line(f"started a second time, since it did not come up: guest {guest}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What there is to see on the host when a test has failed goes with the report."""
    report = yield
    found = {name: host for name, host in getattr(item, "funcargs", {}).items() if isinstance(host, Host)}
    if report.failed and found:
        when = "" if report.when == "call" else f"-{report.when}"
        directory = _evidence(item.config, item.path.stem, item.name + when)
        shutil.rmtree(directory, ignore_errors=True)
        for name, host in found.items():
            report.sections.append((f"the host ({name})", evidence.collect(host.lab, directory / name)))
        (directory / "failure.txt").write_text(report.longreprtext)
    return report


def _evidence(config: pytest.Config, module: str, name: str) -> Path:
    return Path(config.getoption("--evidence")) / module / re.sub(r"[^\w.+-]+", "_", name)


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


@contextmanager
def brought_up(request: pytest.FixtureRequest, kernel: str, of: str = "", **spec: Any) -> Iterator[Host]:
    """A host with the product installed, gone at the end. What it shows when that fails is kept."""
    config, chosen = request.config, request.config.stash[HOST]
    directory = _evidence(config, "host", chosen.name(kernel, of))
    shutil.rmtree(directory, ignore_errors=True)
    try:
        with chosen.host(kernel, _say, of=of, **spec) as lab:
            try:
                yield Host(lab)
            except BaseException:
                _say(f"{lab.name}: {evidence.collect(lab, directory)}")
                raise
            finally:
                config.stash[STARTED_AGAIN].extend(lab.guests.started_again)
    except LabError as error:  # its console's end is in it where it did not even boot
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "failure.txt").write_text(f"{error}\n")
        raise


def own_host_vm(
    request: pytest.FixtureRequest, of: str, kernel: str, **spec: Any
) -> AbstractContextManager[Host]:
    """A host that one module needs for itself; skips where no such host is given."""
    if lacking := request.config.stash[HOST].lacks_own(of, kernel):
        pytest.skip(lacking)
    return brought_up(request, kernel, of, **spec)


@pytest.fixture(scope="session")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """The host with the product installed."""
    with brought_up(request, request.param) as host:
        yield host


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(request: pytest.FixtureRequest, host: Host) -> Iterator[None]:
    """The next module finds the host as this one did, whatever became of its tests."""
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed > failed:
        host.clear()
