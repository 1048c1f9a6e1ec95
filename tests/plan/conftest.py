"""``pytest tests/plan --update-golden`` writes what the planner says now into the cases; read the diff."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the expected plans")
