"""Prometheus' own programs, where this machine has them."""

from __future__ import annotations

import shutil

import pytest


def program(name: str) -> str:
    """Where it is; without it the test is skipped."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine: it is in the package prometheus")
    return found
