"""What the suite covers, as a document: ``python -m integration.suite.coverage > docs/coverage.md``."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict

import pytest

from integration.lab import paths
from integration.suite.conftest import is_quick
from integration.suite.hosts import KERNELS
from integration.suite.order import ORDER
from integration.suite.test_matrix import ROWS

HEAD = """\
# What the integration suite covers

Made by `python -m integration.suite.coverage` of the tests themselves.

## Kinds of guests and of swap

`integration/suite/test_matrix.py`, on each kernel ({kernels}). A swap file is behind zswap where the kernel
has that.

| guest memory | balloon | swap | checked |
|---|---|---|---|
"""
NODES = """\
| anonymous, two memory nodes | none needed | zram | `test_memory_nodes.py`: cold memory moves to \
the slower node where the kernel can, and is paged out where it cannot |
"""
TESTS = """
## Tests

`make test` runs as many of a file's tests on each kernel as its column says, `make integration` all on both.

| file | tests | {kernels} |
|---|---|---|---|
"""


class Collected:
    """Takes down what pytest finds."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Pytest's word for: these would be run."""
        self.items = list(session.items)


def table() -> str:
    """The whole document."""
    rows = "".join(
        f"| {row.backing} | {row.balloon} | {row.swap} | {'; '.join(row.behaviours)} |\n" for row in ROWS
    )
    head, tests = HEAD.format(kernels=", ".join(KERNELS)), TESTS.format(kernels=" | ".join(KERNELS))
    return head + rows + NODES + tests + "".join(_files())


def _files() -> list[str]:
    """A row for each, with the number of its tests, and of those that are quick on each kernel."""
    found: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for item in _collect():
        found[item.path.name].append((item.callspec.params["host"], is_quick(item)))  # type: ignore[attr-defined]
    return [
        f"| `{name}` | {len(tests) // len(KERNELS)} | "
        + " | ".join(str(tests.count((kernel, True)) or "–") for kernel in KERNELS)
        + " |\n"
        for name, tests in sorted(found.items(), key=lambda row: ORDER.index(row[0].removesuffix(".py")))
    ]


def _collect() -> list[pytest.Item]:
    collected = Collected()
    suite = str(paths.CHECKOUT / "integration/suite")
    with contextlib.redirect_stdout(io.StringIO()):
        code = pytest.main(["--collect-only", "-q", "--all", "-p", "no:randomly", suite], plugins=[collected])
    assert code == pytest.ExitCode.OK, code
    return collected.items


if __name__ == "__main__":
    print(table(), end="")
