"""Finds the users of DAMON on this host. There is one tree per host, and no locking between tools.

Modules (damon_stat, damon_reclaim, damon_lru_sort) run exclusively: while one runs, every sysfs ``on`` fails
with EBUSY (damon_start in mm/damon/core.c). Slots of another tool are lost when anyone writes
``nr_kdamonds``.
"""

from __future__ import annotations

from dataclasses import dataclass

from overcommit.damon.sysfs import DamonSysfs
from overcommit.host.kernel import Kernel
from overcommit.records.checks import MODULES as MODULES
from overcommit.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Another user of DAMON. ``can_take_over``: --take-over may move it aside and put it back."""

    what: str
    hint: str
    can_take_over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleOwner(Owner):
    """A kernel module that runs DAMON."""

    module: str


def find_owners(kernel: Kernel, sysfs: DamonSysfs) -> tuple[Owner, ...]:
    """All present users of DAMON. What an earlier controller of this program left is restored before.

    Raises:
        Unsupported: there is no DAMON, or no permission to read it.
    """
    slots = sysfs.slots()
    owners: list[Owner] = [
        ModuleOwner(
            module=module,
            what=f"the kernel module {module} uses DAMON",
            hint="add --take-over to turn it off for the time being; for good: echo N > "
            f"{enabled_path(module)}",
            can_take_over=True,
        )
        for module in MODULES
        if module_enabled(kernel, module)
    ]
    running = [slot for slot in range(slots) if sysfs.running(slot)]
    owners += [tool_in(kernel, sysfs, slot) for slot in running]
    if slots and not running:
        owners.append(
            Owner(
                what=f"another tool left {counted(slots, 'configured kdamond slot')}, all off",
                hint="add --take-over to save the configuration and put it back afterwards",
                can_take_over=True,
            )
        )
    return tuple(owners)


def enabled_path(module: str) -> str:
    """The path of the module's ``enabled`` parameter."""
    return f"/sys/module/{module}/parameters/enabled"


def module_enabled(kernel: Kernel, module: str) -> bool:
    """Whether the module says that it is on (before Linux 7.1: that it was asked to be on)."""
    path = enabled_path(module)
    return kernel.exists(path) and kernel.read(path).strip() == "Y"


def tool_in(kernel: Kernel, sysfs: DamonSysfs, slot: int) -> Owner:
    """The user of a slot whose kdamond is not this program's."""
    operations = sysfs.operations(slot)
    watched = [
        f"{pid} ({_process_name(kernel, pid)})" for pid in sysfs.target_pids(slot) if operations != "paddr"
    ]
    on_what = f"process {', '.join(watched)}" if watched else "physical memory"
    return Owner(
        what=f"kdamond {slot} (thread {sysfs.kdamond_pid(slot)}, {operations} on {on_what}) "
        "was started by another tool",
        hint="stop it with the tool that started it, for example: damo stop",
        can_take_over=False,
    )


def _process_name(kernel: Kernel, pid: int) -> str:
    try:
        return kernel.read(f"/proc/{pid}/comm").strip()
    except OSError:
        return "gone"
