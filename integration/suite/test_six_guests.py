"""What an apply does to six guests, three of which are no help.

The scene is played once, on a host VM of its own, and each test looks at one side of it. It takes a quarter
of an hour, and `make test` leaves it out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integration.suite.conftest import own_host_vm
from integration.suite.host import MIB, Host, domain_of
from integration.suite.six_guests import (
    APPLIED_IN_PART,
    GIVEN_UP,
    HONEST_NAMES,
    HOST_MEMORY,
    NAMES,
    PACE,
    Story,
    amounts,
    play,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

LADDER = ("free_page_reporting", "virtio_mem", "balloon", "demotion", "pageout")
TOLERANCE = 8 * MIB
"""What a guest may take or give by itself between two looks."""


@pytest.fixture(scope="module")
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    """A small host VM."""
    with own_host_vm(request, "six", request.param, memory=HOST_MEMORY) as host:
        yield host


@pytest.fixture(scope="module")
def story(host: Host) -> Story:
    """The scene, played."""
    return play(host)


def test_more_is_promised_than_there_is(story: Story) -> None:
    """One and a half times."""
    assert story.again["host"]["promised_bytes"] >= 1.5 * story.again["host"]["total_bytes"]


def test_what_a_guest_freed_had_left_before_any_balloon_moved(story: Story) -> None:
    """Free page reporting is the first rung, and needs nobody to climb it."""
    assert story.held - story.freed >= 0.7 * GIVEN_UP
    assert story.before["web"].said["actual"] * 1024 == 512 * MIB
    assert story.before["web"].swapped == 0


def test_the_rungs_are_taken_in_order(story: Story) -> None:
    """All balloons have moved before anything is paged out, and no guest is asked twice for the same."""
    kinds = [line["kind"] for line in story.of("started")]
    assert kinds == sorted(kinds, key=LADDER.index)
    assert {"balloon", "pageout"} <= set(kinds)
    order = [(line["type"], line.get("kind")) for line in story.lines]
    balloons_ended = max(
        i for i, (kind, rung) in enumerate(order) if kind in {"done", "failed"} and rung == "balloon"
    )
    assert balloons_ended < order.index(("started", "pageout"))
    assert len(story.ends) == len(kinds)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_to_be_freed_is_what_the_host_got(story: Story, name: str) -> None:
    """By the page tables of the QEMU process, guest by guest."""
    freed = sum(line["freed_bytes"] for (domain, _), line in story.ends.items() if domain == name)
    gone = story.before[name].resident - story.after[name].resident
    assert abs(freed - gone) <= TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_no_guest_is_below_its_floor(story: Story, name: str) -> None:
    """And none has more than it was promised."""
    floor = domain_of(story.again, name)["floor_bytes"]
    assert story.after[name].resident >= floor
    assert floor <= story.after[name].said["actual"] * 1024 <= story.before[name].said["actual"] * 1024


def test_most_of_what_was_planned_came_back(story: Story) -> None:
    """From everybody but the one whose balloon is a phantom."""
    planned = amounts(story.of("planned"))
    done = {key: line for key, line in story.ends.items() if key != ("phantom", "balloon")}
    assert {line["status"] for line in done.values()} <= {"done", "partial"}
    wanted = sum(size for key, size in planned.items() if key in done)
    assert sum(line["freed_bytes"] for line in done.values()) >= 0.75 * wanted


def test_page_cache_is_given_by_the_balloon_and_not_swapped(story: Story) -> None:
    """Writing to swap what the guest could just drop would be waste."""
    assert story.ends["files", "balloon"]["freed_bytes"] >= 24 * MIB
    assert story.after["files"].swapped <= MIB


def test_idle_memory_that_a_guest_needs_is_paged_out(story: Story) -> None:
    """No balloon can have it."""
    assert ("anon", "balloon") not in story.ends
    assert story.ends["anon", "pageout"]["freed_bytes"] >= 32 * MIB


@pytest.mark.parametrize("name", HONEST_NAMES)
def test_no_memory_is_paged_twice(story: Story, name: str) -> None:
    """A guest that was squeezed too hard would swap for itself what the host then pages out again."""
    inside = story.guest_swap[name]
    assert inside["SwapTotal"] > 0, "it could"
    assert (inside["SwapTotal"] - inside["SwapFree"], inside["pswpin"], inside["pswpout"]) == (0, 0, 0)
    before, after = story.before[name].said, story.after[name].said
    assert (after["swap_in"], after["swap_out"]) == (before["swap_in"], before["swap_out"])


@pytest.mark.parametrize("name", PACE)
def test_busy_guests_keep_their_pace(story: Story, name: str) -> None:
    """By their own clock and count."""
    calm, later = (rates[name] for rates in story.rates)
    assert later >= 0.9 * min(calm, PACE[name])


def test_who_says_that_it_needs_everything_gives_its_idle_memory_all_the_same(story: Story) -> None:
    """Its word keeps the balloon away, which takes free memory only; what it does not touch is paged out."""
    said = story.before["needy"].said, story.after["needy"].said
    assert [each["usable"] for each in said] == [0, 0]
    assert said[0]["last_update"] < said[1]["last_update"]
    assert ("needy", "balloon") not in story.ends
    assert story.ends["needy", "pageout"]["freed_bytes"] >= 32 * MIB


def test_who_ignores_the_balloon_gives_its_idle_memory_all_the_same(story: Story) -> None:
    """It is named, and nobody waits for its balloon."""
    assert "never answered" in domain_of(story.again, "deaf")["eligible"]["balloon"]["reason"]
    assert ("deaf", "balloon") not in story.ends
    assert story.ends["deaf", "pageout"]["freed_bytes"] >= 32 * MIB


def test_a_balloon_that_the_host_gets_nothing_from_is_undone(story: Story) -> None:
    """The guest said that it gave; the host looked."""
    end = story.ends["phantom", "balloon"]
    assert (end["type"], end["status"]) == ("failed", "undone")
    assert end["freed_bytes"] <= TOLERANCE
    assert "but the host got" in end["detail"]
    assert story.after["phantom"].said["actual"] * 1024 == 576 * MIB
    assert story.after["phantom"].said["last_update"] > story.before["phantom"].said["last_update"]
    assert story.status == APPLIED_IN_PART


def test_nobody_loses_more_because_others_lie(story: Story) -> None:
    """What was wanted of the honest guests when they were alone, and when they were not."""
    alone, together = amounts(story.alone["actions"]), amounts(story.of("planned"))
    honest = {key: size for key, size in together.items() if key[0] in HONEST_NAMES}
    assert honest.keys() == alone.keys()
    for key, size in honest.items():
        assert size <= alone[key] * 1.15 + TOLERANCE, key


def test_a_second_plan_has_little_left(story: Story) -> None:
    """But for the phantom, of which nothing was got yet, and what a balloon might have taken and did not.

    A guest gives by its balloon what it likes best. As that may all be cold memory, the first plan leaves as
    much of it alone as the balloon is to take; what the host still holds of it is the second plan's.
    """
    taken = sum(line["freed_bytes"] for line in story.ends.values())
    left = {key: size for key, size in amounts(story.again["actions"]).items() if key[0] != "phantom"}
    assert not [name for name, kind in left if kind == "balloon"]
    freed = story.ends["files", "balloon"]["freed_bytes"]
    given = (story.before["files"].said["actual"] - story.after["files"].said["actual"]) * 1024
    of_files = left.pop(("files", "pageout"), 0)
    assert of_files <= max(0, given - freed)
    assert sum(left.values()) <= 0.15 * taken, left


def test_a_phantom_balloon_is_left_alone_and_its_idle_memory_is_paged_out_instead(story: Story) -> None:
    """So that its lie has gained it nothing but time."""
    balloon = domain_of(story.again, "phantom")["eligible"]["balloon"]
    assert balloon["ok"] is False
    assert "the host got nothing" in balloon["reason"]
    assert [kind for name, kind in amounts(story.again["actions"]) if name == "phantom"] == ["pageout"]
