from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from overcommit.errors import Gone, HostError
from overcommit.hypervisor.calls import Calls
from overcommit.testing import FakeClock, FakeHost

SHORT, LONG = 0.02, 30.0


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(FakeHost([]))


@pytest.fixture
def calls(clock: FakeClock) -> Iterator[Calls]:
    calls = Calls(clock, most=3)
    yield calls
    calls.close()


@pytest.fixture
def hung() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def hang(calls: Calls, subject: str, hung: threading.Event) -> None:
    with pytest.raises(HostError, match=f"libvirt did not ask {subject} within 0 s"):
        calls.bounded(subject, f"ask {subject}", hung.wait, seconds=SHORT)


def test_an_answer_and_an_error_reach_who_asked(calls: Calls) -> None:
    assert calls.bounded("a", "ask", lambda: 42, seconds=LONG) == 42
    assert calls.bounded("a", "ask", lambda: None, seconds=LONG) is None
    refusal = Gone("left")

    def refuse() -> None:
        raise refusal

    with pytest.raises(Gone) as caught:
        calls.bounded("a", "ask", refuse, seconds=LONG)
    assert caught.value is refusal


def test_calls_that_return_share_one_thread(calls: Calls) -> None:
    threads = {calls.bounded("a", "ask", threading.get_ident, seconds=LONG) for _ in range(50)}
    assert len(threads) == 1


def test_a_second_call_of_a_subject_fails_at_once_and_says_since_when(
    calls: Calls, clock: FakeClock, hung: threading.Event
) -> None:
    hang(calls, "a", hung)
    clock.wait(12)
    asked: list[str] = []
    with pytest.raises(
        HostError, match="libvirt could not set it: an earlier call has not returned for 12 s"
    ):
        calls.bounded("a", "set it", lambda: asked.append("a"), seconds=LONG)
    assert asked == []
    assert calls.waiting_seconds("a") == 12
    assert calls.waiting_seconds("b") is None
    assert calls.bounded("b", "ask", lambda: "b", seconds=LONG) == "b"


def test_a_subject_is_asked_again_once_its_call_has_returned(calls: Calls) -> None:
    hung, returned = threading.Event(), threading.Event()

    def late() -> str:
        hung.wait()
        return "late"

    with pytest.raises(HostError, match="did not ask"):
        calls.bounded("a", "ask", late, seconds=SHORT)
    hung.set()
    while calls.waiting_seconds("a") is not None:
        returned.wait(0.001)
    assert calls.bounded("a", "ask", lambda: "new", seconds=LONG) == "new"  # not the late one's


def test_no_more_are_left_behind_than_allowed(calls: Calls, hung: threading.Event) -> None:
    for subject in "abc":
        assert not calls.is_full()
        hang(calls, subject, hung)
    assert calls.is_full()
    before = threading.active_count()
    with pytest.raises(HostError, match="libvirt could not ask: 3 other calls have not returned"):
        calls.bounded("d", "ask", lambda: "d", seconds=LONG)
    assert threading.active_count() == before


def test_threads_end_when_closed_those_that_hang_when_they_return(clock: FakeClock) -> None:
    calls, hung = Calls(clock, most=3), threading.Event()
    threads: list[threading.Thread] = []

    def note(wait: bool) -> None:
        threads.append(threading.current_thread())
        if wait:
            hung.wait()

    with pytest.raises(HostError):
        calls.bounded("a", "ask", lambda: note(True), seconds=SHORT)
    calls.bounded("b", "ask", lambda: note(False), seconds=LONG)
    stuck, idle = threads
    calls.close()
    idle.join(LONG)
    assert not idle.is_alive()
    assert stuck.is_alive()
    hung.set()
    stuck.join(LONG)
    assert not stuck.is_alive()


def test_where_no_thread_can_be_had_the_next_call_of_the_subject_is_tried_again(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as context:
        context.setattr(threading.Thread, "start", refuse)
        with pytest.raises(HostError, match="libvirt could not ask: no thread for it"):
            calls.bounded("a", "ask", lambda: 42, seconds=LONG)
    assert calls.waiting_seconds("a") is None
    assert calls.bounded("a", "ask", lambda: 42, seconds=LONG) == 42


def test_whatever_a_call_raises_its_thread_goes_on(calls: Calls) -> None:
    def leave() -> None:
        raise SystemExit(3)

    thread = calls.bounded("a", "ask", threading.get_ident, seconds=LONG)
    with pytest.raises(SystemExit):
        calls.bounded("a", "ask", leave, seconds=LONG)
    assert calls.bounded("a", "ask", threading.get_ident, seconds=LONG) == thread
