"""Files inside of a guest; the errors are what libvirt 11.3 and qemu-ga 10.0 say."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from overcommit.errors import Gone, HostError
from overcommit.hypervisor.guest_agent import DAMON_RECLAIM, GuestAgent
from overcommit.testing import FakeAgent, FakeGuest, FakeHost, FakeHypervisor
from overcommit.testing.fake_agent import COMPACT_MEMORY
from overcommit.units import MIB

UUID = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
def inside() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
def agent(inside: FakeAgent) -> GuestAgent:
    guest = FakeGuest(name="web", uuid=UUID, pid=1, memory_bytes=MIB, resident=set(), agent=inside)
    return GuestAgent(FakeHypervisor(FakeHost([guest])), UUID)


def saying(text: str) -> GuestAgent:
    """An agent whose every answer is this error."""

    class Saying(FakeHypervisor):
        def ask_agent(self, uuid: str, command: str, *, seconds: int) -> str:  # noqa: ARG002
            raise HostError(f"libvirt could not ask its guest agent (domain {uuid}): {text}")

    return GuestAgent(Saying(FakeHost([])), UUID)


def answering(answer: Callable[[str], object]) -> GuestAgent:
    """An agent that answers each command so."""

    class Answering(FakeHypervisor):
        def ask_agent(self, uuid: str, command: str, *, seconds: int) -> str:  # noqa: ARG002
            return json.dumps(answer(json.loads(command)["execute"]))

    return GuestAgent(Answering(FakeHost([])), UUID)


def test_only_commands_that_are_not_blocked_are_known(agent: GuestAgent, inside: FakeAgent) -> None:
    inside.blocked = {"guest-exec", "guest-file-open"}
    assert {"guest-file-write", "guest-info"} <= agent.commands()
    assert not {"guest-exec", "guest-file-open"} & agent.commands()


def test_what_is_written_is_flushed_and_closed(agent: GuestAgent, inside: FakeAgent) -> None:
    agent.write_file(f"{DAMON_RECLAIM}/min_age", "5000000")
    assert inside.asked == [f"guest-file-{verb}" for verb in ("open", "write", "flush", "close")]
    assert agent.read_file(f"{DAMON_RECLAIM}/min_age") == "5000000"


def test_a_value_that_the_kernel_refuses_is_refused_by_the_flush_and_the_file_closed(
    agent: GuestAgent, inside: FakeAgent
) -> None:
    """The write itself and the close succeed."""
    with pytest.raises(HostError, match="failed to flush file: Invalid argument") as caught:
        agent.write_file(f"{DAMON_RECLAIM}/min_age", "abc")
    assert caught.value.hint == "the guest's kernel refuses that value"
    assert inside.asked[-1] == "guest-file-close"
    assert agent.read_file(f"{DAMON_RECLAIM}/min_age") == "120000000"


def test_a_file_that_is_not_there_reads_as_none(agent: GuestAgent) -> None:
    assert agent.read_file("/sys/module/damon_none/parameters/enabled") is None


def test_a_file_that_may_only_be_written_is_written(agent: GuestAgent, inside: FakeAgent) -> None:
    """`compact_memory` cannot be opened to read as well, not even by root."""
    agent.write_file(COMPACT_MEMORY, "1")
    assert inside.compacted
    with pytest.raises(HostError, match="Permission denied"):
        agent.read_file(COMPACT_MEMORY)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("argument unsupported: QEMU guest agent is not configured", "add <channel"),
        ("Guest agent is not responding: QEMU guest agent is not connected", "start qemu-guest-agent"),
        (
            "guest agent command timed out: guest agent didn't respond to command within '5' seconds",
            "the guest is busy",
        ),
        (
            "Guest agent is not responding: guest agent didn't respond to synchronization within '5' seconds",
            "the guest is busy",
        ),
        ("Guest agent is not responding: Guest agent not available for now", "restart qemu-guest-agent"),
        (
            "QEMU agent command 'guest-file-open': Command guest-file-open has been disabled",
            "--block-rpcs",
        ),
        ("The command guest-file-flush has not been found", "too old"),
        ("failed to open file '/proc/x' (mode: 'w'): Permission denied", "SELinux"),
        ("failed to flush file: Device or resource busy", "damon_stat"),
    ],
)
def test_each_trouble_says_what_can_be_done(text: str, hint: str) -> None:
    with pytest.raises(HostError) as caught:
        saying(text).write_file(COMPACT_MEMORY, "1")
    assert text in str(caught.value)
    assert hint in (caught.value.hint or "")


def test_a_domain_that_left_is_gone() -> None:
    with pytest.raises(Gone):
        GuestAgent(FakeHypervisor(FakeHost([])), UUID).commands()


def test_what_an_agent_says_cannot_write_to_a_terminal_or_fill_it() -> None:
    with pytest.raises(HostError) as caught:
        saying("\x1b[2Jcleared\n" + 5000 * "x").commands()
    said = str(caught.value)
    assert "?[2Jcleared?xxx" in said
    assert said.isprintable()
    assert len(said) <= 300


@pytest.mark.parametrize("answer", [{}, [], {"error": {"class": "GenericError"}}, "return", None])
def test_an_answer_that_makes_no_sense_is_an_error(answer: object) -> None:
    with pytest.raises(HostError, match="answer to guest-info is not valid"):
        answering(lambda _command: answer).commands()


@pytest.mark.parametrize("said", [{"supported_commands": 7}, {}, 7, {"supported_commands": [{"name": "x"}]}])
def test_an_agent_that_lies_about_its_commands_is_an_error(said: object) -> None:
    """What comes out of a guest is untrusted (rule S8)."""
    with pytest.raises(HostError, match="answer to guest-info is not valid"):
        answering(lambda _command: {"return": said}).commands()


@pytest.mark.parametrize("said", [{"buf-b64": "%"}, {"buf-b64": 7}, {}, 7])
def test_a_file_that_cannot_be_decoded_is_an_error(said: object) -> None:
    with pytest.raises(HostError, match="answer to guest-file-read"):
        answering(lambda command: {"return": said if command == "guest-file-read" else 1}).read_file("/x")


def test_bytes_that_are_no_text_do_no_harm() -> None:
    said = {"buf-b64": base64.b64encode(b"\xff\n").decode()}
    read = answering(lambda command: {"return": said if command == "guest-file-read" else 1}).read_file("/x")
    assert read == "\ufffd"
