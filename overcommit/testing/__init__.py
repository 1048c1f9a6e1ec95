"""Fakes with the real thing's semantics, for tests of this program and of what is built on it.

One `FakeHost` stands behind all of them: time passes only through `FakeClock`, and memory moves only while it
does. The contract tests hold `FakeKernel`'s DAMON against a real kernel; where they differ the fake is wrong.
"""

from overcommit.testing.fake_agent import FakeAgent
from overcommit.testing.fake_clock import FakeClock
from overcommit.testing.fake_damon import FakeDamon
from overcommit.testing.fake_host import Behaviour, FakeGuest, FakeHost
from overcommit.testing.fake_hypervisor import FakeHypervisor
from overcommit.testing.fake_kernel import FakeKernel
from overcommit.testing.fake_wakes import FakeWakes

__all__ = [
    "Behaviour",
    "FakeAgent",
    "FakeClock",
    "FakeDamon",
    "FakeGuest",
    "FakeHost",
    "FakeHypervisor",
    "FakeKernel",
    "FakeWakes",
]
