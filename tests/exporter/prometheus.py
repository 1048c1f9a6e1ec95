"""Prometheus' own programs, where this machine has them."""

from __future__ import annotations

import os
import shutil

import pytest

from integration.lab.paths import cache


def program(name: str) -> str:
    """Where it is; without it the test is skipped."""
    places = os.pathsep.join((os.environ.get("PATH", ""), str(cache() / "prometheus")))
    found = shutil.which(name, path=places)
    if found is None:
        pytest.skip(f"no {name} on this machine: make setup brings it, or the package prometheus")
    return found
