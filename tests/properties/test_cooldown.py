"""How much a page-out must bring so soon after another, after any past."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overcommit.model.history import Event
from overcommit.model.outcome import Status
from overcommit.plan.cooldown import COOLDOWN_SECONDS, cooldowns, least_worth
from overcommit.units import MIB
from tests.scenarios import NOW, incarnation

LIVES = [incarnation("web"), incarnation("web", start_time=1001)]


def paged_out(ago: float, freed: int | None, life: int = 0) -> Event:
    return Event(
        at=NOW - ago,
        boot_id="b",
        run="r",
        kind="pageout",
        status=Status.DONE,
        domain=LIVES[life],
        freed_bytes=freed,
    )


EVENTS = st.lists(
    st.builds(
        paged_out,
        st.floats(-100, 2 * COOLDOWN_SECONDS),
        st.none() | st.integers(-MIB, 10 * 1024 * MIB),
        st.integers(0, 1),
    ),
    max_size=8,
)


@given(events=EVENTS, later=st.floats(0, 2 * COOLDOWN_SECONDS))
def test_time_never_makes_it_stricter_and_ends_it(events: list[Event], later: float) -> None:
    past = [event for event in events if event.at <= NOW]
    before = {s.domain: s.freed_bytes for s in cooldowns(past, NOW)}
    after = {s.domain: s.freed_bytes for s in cooldowns(past, NOW + later)}
    assert all(freed <= before[domain] for domain, freed in after.items())
    assert cooldowns(past, NOW + COOLDOWN_SECONDS) == ()


@given(events=EVENTS)
def test_each_life_counts_for_itself_and_the_future_for_nobody(events: list[Event]) -> None:
    for cooldown in cooldowns(events, NOW):
        own = [e for e in events if e.domain == cooldown.domain and 0 <= NOW - e.at < COOLDOWN_SECONDS]
        assert cooldown.freed_bytes == sum(max(0, e.freed_bytes or 0) for e in own) > 0
        assert cooldown.ended_at == max(e.at for e in own)


def test_a_quarter_of_what_was_paged_out() -> None:
    (cooldown,) = cooldowns([paged_out(10, 80 * MIB), paged_out(100, 20 * MIB)], NOW)
    assert least_worth(cooldown, 8 * MIB) == 25 * MIB
    assert least_worth(cooldown, 40 * MIB) == 40 * MIB
    assert least_worth(None, 8 * MIB) == 8 * MIB
