"""Whether the kernel's generations see what guests access, and what of them goes with what DAMON saw.

A walk reads the page tables of QEMU. The accesses of a guest are in other tables, which KVM keeps. Kernels
may differ in whether a walk asks KVM for them. It is found out on the host at hand: what DAMON, which always
asks KVM, sees in steady use must be among what a walk saw accessed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from overcommit.model.heat import Heat
from overcommit.model.page_ages import PageAges
from overcommit.units import MIB

_WITNESS_BYTES = 8 * MIB
"""A domain with less in steady use says nothing of what a walk sees."""
_LEAST_SHARE = 1 / 10
"""DAMON calls a region used as a whole where a page in twenty is; a walk counts pages."""


def with_page_ages(heats: Mapping[str, Heat], ages: Mapping[str, PageAges]) -> dict[str, Heat]:
    """The same, each with the ages of its pages where these can be relied on; by UUID.

    They can where a domain on this host has memory in steady use, and where the walks saw that of every such
    domain. Where no domain says anything, nothing is relied on.
    """
    known = {uuid: heat for uuid, heat in heats.items() if _tells(heat, ages.get(uuid))}
    witnesses = [uuid for uuid, heat in known.items() if heat.hot_bytes >= _WITNESS_BYTES]
    sees_guests = bool(witnesses) and all(
        ages[uuid].accessed_bytes >= _LEAST_SHARE * known[uuid].hot_bytes for uuid in witnesses
    )
    if not sees_guests:
        return dict(heats)
    return {
        uuid: dataclasses.replace(heat, ages=ages[uuid]) if uuid in known else heat
        for uuid, heat in heats.items()
    }


def _tells(heat: Heat, ages: PageAges | None) -> bool:
    return ages is not None and ages.tells(heat.cold_after_seconds)
