"""What people do beside the daemon: another controller (S11), and plans that are kept for later (S12)."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from overcommit.errors import OvercommitError, StalePlan
from overcommit.model.action import BalloonAction, KsmAction, VirtioMemAction
from overcommit.model.plan import Plan
from overcommit.plan import document
from overcommit.records.journal import Journal
from tests.faults.daemon import World, incarnation
from tests.faults.schedules.broken import Broken

_NUMBERS = ("before_bytes", "after_bytes", "expected_bytes")


@contextlib.contextmanager
def _watched(world: World, watch: Callable[[str, str], None]) -> Iterator[None]:
    """Have each write seen before those see it who see it anyway."""
    usual = world.host.on_write

    def on_write(path: str, value: str) -> None:
        watch(path, value)
        usual(path, value)

    world.host.on_write = on_write
    try:
        yield
    finally:
        world.host.on_write = usual


def another_controller(world: World, chance: random.Random) -> None:
    """S11: while a daemon runs, nobody else starts, or changes anything.

    Raises:
        Broken: somebody does.
    """
    commands: dict[str, Callable[[], object]] = {
        "daemon": world.daemon,
        "plan": world.verbs.plan,
        "plan that takes over": lambda: world.verbs.plan(take_over=True),
    }
    name = chance.choice(sorted(commands))
    before = Journal(world.directory).outstanding()

    def refuse(path: str, _value: str) -> None:
        raise Broken(f"S11: a second {name} writes {path}")

    with _watched(world, refuse):
        try:
            commands[name]()
        except (OvercommitError, OSError):
            if Journal(world.directory).outstanding() != before:
                raise Broken(f"S11: a second {name} changed the journal") from None
            return
    raise Broken(f"S11: a second {name} starts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A plan on disk, and the digest of the policy that it was made with."""

    text: str
    policy: str


def tampered(text: str, chance: random.Random) -> str:
    """The same plan, but for one figure, edited by hand."""
    plan = json.loads(text)
    if plan["actions"]:
        action, name = chance.choice(plan["actions"]), chance.choice(_NUMBERS)
        action[name] += chance.choice([-(1 << 20), 1 << 20])
    else:
        plan["expires_at"] += 3600.0
    return json.dumps(plan)


def apply_kept(world: World, kept: Kept, *, edited: bool) -> bool:
    """S12: a plan is applied exactly or refused; whether it was applied. ``edited``: it was tampered with.

    Raises:
        Broken: it is applied otherwise, or though it must not be.
    """
    moved: list[tuple[str, int]] = []

    def watch(path: str, value: str) -> None:
        if path.startswith(("balloon/", "device/")):
            moved.append((path, int(value)))

    stale = "it was edited" if edited else None
    with _watched(world, watch):
        try:
            plan = document.loads(kept.text, "plan.json")
            stale = stale or _stale(world, plan, kept)
            world.verbs.apply(plan)
        except StalePlan:
            if moved:
                raise Broken(f"S12: a plan that is refused moved {moved}") from None
            return False
        except (OvercommitError, OSError):
            return False  # the host is not well
    if stale is not None:
        raise Broken(f"S12: a plan is applied although {stale}")
    _require_exact(plan, moved)
    return True


def _stale(world: World, plan: Plan, kept: Kept) -> str | None:
    """Why it must not be applied."""
    lives = {incarnation(guest) for guest in world.host.guests}
    gone = [a.domain.name for a in plan.runnable if not isinstance(a, KsmAction) and a.domain not in lives]
    if gone:
        return f"{gone[0]} has ended since"
    if world.clock.now() > plan.expires_at:
        return "it has expired"
    return "the policy is another one" if world.verbs.policy.digest != kept.policy else None


def _require_exact(plan: Plan, moved: list[tuple[str, int]]) -> None:
    """Nobody's size was set but as written, or back to what it was."""
    allowed: dict[str, tuple[int, int]] = {}
    for action in plan.runnable:
        if isinstance(action, BalloonAction | VirtioMemAction):
            resizable = "balloon" if isinstance(action, BalloonAction) else "device"
            sizes = action.before_bytes, action.after_bytes
            allowed[f"{resizable}/{action.domain.name}"] = (min(sizes), max(sizes))
    for path, size in moved:
        if path not in allowed:
            raise Broken(f"S12: {path} is moved, of which the plan says nothing")
        least, most = allowed[path]
        if not least <= size <= most:
            raise Broken(f"S12: {path} is moved to {size}, not between {least} and {most}")
