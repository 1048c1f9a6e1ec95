"""``pytest tests/hosts --update-hosts`` writes what the product says now into the cases; read the diff."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-hosts", action="store_true", help="rewrite what the host cases expect")
