"""What the suite covers, as a document: ``python -m integration.suite.coverage > docs/coverage.md``."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict

import pytest

from integration.lab import paths
from integration.suite.hosts import KERNELS
from integration.suite.test_e_matrix import ROWS

HEAD = """\
# What the integration suite covers

Made by `python -m integration.suite.coverage` of the tests themselves.

## Kinds of guests and of swap

`integration/suite/test_e_matrix.py`, on each kernel ({kernels}). A swap file is behind zswap where the kernel
has that.

| guest memory | balloon | swap | checked |
|---|---|---|---|
"""
NODES = """\
| anonymous, two memory nodes | none needed | zram | `test_6_memory_nodes.py`: cold memory moves to \
the slower node where the kernel can, and is paged out where it cannot |
"""
TESTS = """
## Tests

`make test` runs those with a kernel in the last column, `make integration` runs all of them on both.

| file | tests | in `make test` on |
|---|---|---|
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
    return HEAD.format(kernels=", ".join(KERNELS)) + rows + NODES + TESTS + "".join(_files())


def _files() -> list[str]:
    found: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for item in _collect():
        kernel, name = item.callspec.params["host"], item.nodeid.replace(item.callspec.params["host"], "")  # type: ignore[attr-defined]
        mark = item.get_closest_marker("quick")
        quick = mark is not None and (not mark.args or kernel in mark.args)
        found[item.path.name]["all"].add(name)
        if quick:
            found[item.path.name]["quick"].add(kernel)
    return [
        f"| `{name}` | {len(seen['all'])} | {', '.join(sorted(seen['quick'])) or '–'} |\n"
        for name, seen in sorted(found.items())
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
