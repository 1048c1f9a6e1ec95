"""A plugin of pytest: repeats each property with new seeds until its share of the time is up.

A finding is any failure, and an example that takes more than `LONGEST_EXAMPLE_SECONDS` of CPU, or waits for
`STARVED` times as long: a busy machine is no finding. What was done is told in a file of JSON lines as it
happens, so that it is known too when the process dies.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis.errors import Flaky, UnsatisfiedAssumption

from tests import profiles

SECONDS = "OVERCOMMIT_FUZZ_SECONDS"
REPORT = "OVERCOMMIT_FUZZ_REPORT"
SEED = "OVERCOMMIT_FUZZ_SEED"
"""Environment variables: how long, where the report goes, and the first seed (any where it is not set)."""

LONGEST_EXAMPLE_SECONDS = 60.0
STARVED = 20.0
"""A process that others keep from the processor gets this share of it at least."""
_ALARMS = {signal.SIGPROF: signal.ITIMER_PROF, signal.SIGALRM: signal.ITIMER_REAL}
MOST_MEMORY_BYTES = 4 << 30
"""Of address space: input that makes a reader eat memory fails it, not the machine."""


def pytest_configure() -> None:
    """Before anything is collected."""
    profiles.load()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))


def pytest_sessionfinish() -> None:
    """After everything: a process that dies does not get here, whatever its exit status."""
    _tell(ended=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run one property for its share of the time; tests of other kinds run once, as always."""
    if not hypothesis.is_hypothesis_test(pyfuncitem.obj):
        return None
    properties = [
        item
        for item in pyfuncitem.session.items
        if isinstance(item, pytest.Function) and hypothesis.is_hypothesis_test(item.obj)
    ]
    Repeated(pyfuncitem, float(os.environ[SECONDS]) / len(properties)).run()
    return True


class Repeated:
    """One property, again and again."""

    def __init__(self, item: pytest.Function, seconds: float) -> None:
        self._item = item
        self._function = getattr(item.obj, "__func__", item.obj)
        self._until = time.monotonic() + seconds
        self._examples = 0
        self._failed = False
        self._over = False

    def run(self) -> None:
        """Until the time is up or something is found, which is raised as pytest wants it."""
        handle = self._function.hypothesis
        inner, handle.inner_test = handle.inner_test, self._watched(handle.inner_test)
        before = {alarm: signal.signal(alarm, _too_long) for alarm in _ALARMS}
        seed = int(os.environ.get(SEED, 0)) or _any_seed()
        try:
            while self._batch(seed):
                seed = _any_seed()
        finally:
            for alarm, usual in before.items():
                signal.signal(alarm, usual)
            handle.inner_test = inner

    def _batch(self, seed: int) -> bool:
        """One run of Hypothesis; whether there is time for another."""
        began = self._examples
        self._tell(seed=seed)
        # What hypothesis.seed() sets; that one turns the corpus off as well.
        self._function._hypothesis_internal_use_seed = seed
        fixtures = {name: self._item.funcargs[name] for name in inspect.signature(self._item.obj).parameters}
        try:
            self._item.obj(**fixtures)
        except pytest.skip.Exception:
            if time.monotonic() < self._until:
                raise  # the test's own
        except Flaky as error:
            # Of an example that was not begun because the time was up, Hypothesis says it drew too little.
            if not self._over:
                self._tell(seed=seed, finding=f"{type(error).__name__}: {error}"[:1000])
                raise
        except BaseException as error:
            self._tell(seed=seed, finding=f"{type(error).__name__}: {error}"[:1000])
            raise
        finally:
            self._tell(seed=seed, examples=self._examples - began)
        return time.monotonic() < self._until

    def _watched(self, inner: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(inner)
        def example(*arguments: Any, **more: Any) -> None:
            # What was found is made smaller even when the time is up.
            if self._examples and not self._failed and time.monotonic() >= self._until:
                self._over = True
                pytest.skip("the time is up")
            signal.setitimer(signal.ITIMER_PROF, LONGEST_EXAMPLE_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, STARVED * LONGEST_EXAMPLE_SECONDS)
            try:
                inner(*arguments, **more)
                self._examples += 1
            except UnsatisfiedAssumption:
                raise
            except (Exception, pytest.fail.Exception):
                self._failed = True
                raise
            finally:
                for timer in _ALARMS.values():
                    signal.setitimer(timer, 0)

        return example

    def _tell(self, **what: Any) -> None:
        _tell(test=self._item.name, **what)


def _tell(**what: Any) -> None:
    with Path(os.environ[REPORT]).open("a", encoding="utf-8") as report:
        report.write(json.dumps(what) + "\n")


def _too_long(*_: object) -> None:
    # Not an Exception: what the program under test takes for a gap must not hide it.
    pytest.fail(f"one example took longer than {LONGEST_EXAMPLE_SECONDS:.0f} s")


def _any_seed() -> int:
    return random.SystemRandom().randrange(1, 1 << 32)
