"""What the daemon asks of the host in a calm tick: no more than it needs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.faults.daemon import World, policy_text


def test_a_calm_tick_reads_little(tmp_path: Path) -> None:
    world = World(tmp_path, policy_text().replace("20s", "6h"))
    daemon = world.daemon()
    daemon.run_for(30.0)
    read: Counter[str] = Counter()
    world.host.on_read = lambda path: read.update([path])
    daemon.loop._tick()
    pipes = [path for path in read if path.endswith("trace_pipe")]
    of_groups = [path for path in read.elements() if "/machine.slice/" in path]
    assert len(pipes) <= 1
    assert max(read.values()) <= 2, read.most_common(3)
    assert len(of_groups) == 3 * len(world.host.guests)


def test_it_keeps_no_places_of_pages_from_plan_to_plan(tmp_path: Path) -> None:
    """A guest paged out here and there has tens of thousands of parts."""
    world = World(tmp_path)
    for guest in world.host.guests:
        guest.resident = set(range(0, 100, 2))
    daemon = world.daemon()
    daemon.run_for(70.0)
    controller = daemon.controller
    assert controller.state.snapshot is not None
    for domain in (
        *controller.state.snapshot.domains,
        *(each.domain for each in controller._tracked.values()),
    ):
        assert domain.residency is not None
        assert domain.residency.resident_bytes > 0
        assert domain.residency.resident == ()
