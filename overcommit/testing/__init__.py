"""Fakes with the semantics of the real thing, for tests of this program and of programs that use it.

One `FakeHost` is behind all of them. Time passes only through `FakeClock`, and memory moves only while it
does. The contract tests compare `FakeKernel`'s DAMON with a real kernel. Where they differ, the fake is
wrong.
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
