"""Who is compared, at which settings. Each is a command that the host VM runs for as long as it may control.

A level is how much it takes; its settings beside that are those of its documentation, or its defaults. Levels
go from careful to greedy. What an idle time means is the same for all who know one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

REMOTE = "/var/tmp/compare"
"""Where the host VM has this package."""
AGES: Mapping[str, str] = {"120s": "120", "60s": "60", "30s": "30", "15s": "15"}
"""Idle seconds after which memory may be taken."""
_NO_STAT = "echo N > /sys/module/damon_stat/parameters/enabled; "
_POLICY = """\
version: 1
host: {{reserve: 8%, swap: {{max_used: 80%, max_write: 50MiB/s}}, reclaim: proactive{actor}}}
classes:
  lab:
    floor: 20%
    cold_after: {age}s
    cache_after: {age}s
    actuators: [free_page_reporting, balloon, pageout]
default_class: lab
"""


@dataclass(frozen=True)
class Run:
    """What a controller is told: its level's setting, how long it may control, and the guests."""

    setting: str
    seconds: float
    guests: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Controller:
    """One who takes memory of guests; ``line`` makes the shell line that does, ``ours`` is this product."""

    name: str
    shown: str
    line: Callable[[Run], str]
    levels: Mapping[str, str]
    ours: bool = False


def _module(name: str) -> str:
    return f"cd {REMOTE} && exec python3 -m integration.bench.compare.{name}"


def _nothing(run: Run) -> str:
    return f"exec sleep {run.seconds:.0f}"


def _proxmox(run: Run) -> str:
    return f"{_module('proxmox')} {run.setting} {run.seconds} {' '.join(run.guests)}"


def _senpai(run: Run) -> str:
    return f"{_module('senpai')} {run.setting} {run.seconds} {' '.join(run.guests)}"


def _damon_reclaim(run: Run) -> str:
    """Watermarks at which it always works: the host of the lab is not short of memory."""
    settings = {
        "min_age": int(run.setting) * 1_000_000, "wmarks_high": 1000, "wmarks_mid": 999, "wmarks_low": 0,
        "enabled": "Y",
    }  # fmt: skip
    to = "/sys/module/damon_reclaim/parameters"
    writes = " && ".join(f"echo {value} > {to}/{name}" for name, value in settings.items())
    return f"{_NO_STAT}{writes} && sleep {run.seconds:.0f}; echo N > {to}/enabled"


def _damo(run: Run) -> str:
    """``damo start`` on the process of each guest; its intervals and regions are its defaults."""
    targets = " ".join(f"--target_pid $(cat /run/libvirt/qemu/{name}.pid)" for name in run.guests)
    scheme = f"--damos_action pageout --damos_access_rate 0% 0% --damos_age {run.setting}s max"
    start = f"damo start --ops vaddr {targets} {scheme}"
    return f"{_NO_STAT}{start} && sleep {run.seconds:.0f}; damo stop"


def _policy(run: Run, actor: str = "") -> str:
    text = _POLICY.format(age=run.setting, actor=f", pageout_actor: {actor}" if actor else "")
    return f"printf %s '{text}' > {REMOTE}/policy.yaml; "


def _apply(run: Run, actor: str = "") -> str:
    options = f"--yes --wait --json --take-over --timeout {run.seconds:.0f}s --policy {REMOTE}/policy.yaml"
    return (
        f"{_policy(run, actor)}exec timeout --signal=INT {run.seconds:.0f} overcommitctl apply -q {options}"
    )


def _apply_reclaim(run: Run) -> str:
    return _apply(run, "memcg-reclaim")


def _apply_hint(run: Run) -> str:
    return _apply(run, "cold-hint+reclaim")


def _daemon(run: Run) -> str:
    options = f"--take-over --policy {REMOTE}/policy.yaml"
    daemon = f"timeout --signal=TERM {run.seconds:.0f} /usr/bin/overcommitd {options}"
    return f"{_policy(run)}exec {daemon}"


CONTROLLERS: dict[str, Controller] = {
    each.name: each
    for each in (
        Controller(
            name="nothing", shown="free page reporting as the guests have it, and nobody else",
            line=_nothing, levels={"-": ""},
        ),
        Controller(
            name="proxmox", shown="Proxmox VE's arithmetic (pvestatd), towards a target of host memory",
            line=_proxmox, levels={"70%": "0.7", "60%": "0.6", "50%": "0.5", "40%": "0.4"},
        ),
        Controller(
            name="damon-reclaim", shown="DAMON_RECLAIM, min_age as given, all else by default",
            line=_damon_reclaim, levels=AGES,
        ),
        Controller(
            name="damo", shown="damo: DAMOS pageout on the guests' processes of what is idle that long",
            line=_damo, levels=AGES,
        ),
        Controller(
            name="senpai",
            shown="senpai's rule (oomd): memory.reclaim of a share of each cgroup each 6 s, while "
            "its pressure is below 0.1 %; the documented share is 1 %",
            line=_senpai, levels={"0.25%": "0.0025", "0.5%": "0.005", "1%": "0.01", "2%": "0.02"},
        ),
        Controller(
            name="apply", shown="overcommitctl apply --wait, its default actor",
            line=_apply, levels=AGES, ours=True,
        ),
        Controller(
            name="apply-hint", shown="overcommitctl apply --wait, pageout_actor: cold-hint+reclaim",
            line=_apply_hint, levels=AGES, ours=True,
        ),
        Controller(
            name="apply-reclaim", shown="overcommitctl apply --wait, pageout_actor: memcg-reclaim",
            line=_apply_reclaim, levels=AGES, ours=True,
        ),
        Controller(name="overcommitd", shown="overcommitd", line=_daemon, levels=AGES, ours=True),
    )
}  # fmt: skip
"""All of them, by name."""

QUICK_LEVELS: Mapping[str, str] = {
    "nothing": "-",
    "senpai": "1%",
    "damo": "30s",
    "apply": "30s",
}
"""Who is in a quick run, and at which level."""
