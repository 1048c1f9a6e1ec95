"""The order of the suite's files: cheap and basic ones first.

A fault of the guests, or of the main job, is seen before hours are spent on what stands on them. The order is
part of what the suite means: what one file leaves on the host the next one finds. Files with a host VM of
their own come after all that share one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ORDER = (
    "test_workloads",
    "test_page_out",
    "test_refusals",
    "test_damon_ownership",
    "test_damon_contract",
    "test_kills",
    "test_memory_nodes",
    "test_guest_help",
    "test_prepare",
    "test_virtio_mem",
    "test_ksm",
    "test_six_guests",
    "test_daemon",
    "test_libvirt_reconnect",
    "test_package",
    "test_ansible",
    "test_daemon_kills",
    "test_daemon_faults",
    "test_limits",
    "test_matrix",
    "test_migration",
    "test_memory_blocks",
)
"""The files, without their suffix."""


def unplaced(stems: Iterable[str]) -> list[str]:
    """The files that have no place, sorted."""
    return sorted(set(stems) - set(ORDER))
