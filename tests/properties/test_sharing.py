"""How a burden is shared, whoever the domains are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from overcommit.plan.sharing import Burden, share
from overcommit.units import GIB, MIB

SIZES = st.integers(0, 8 * GIB)


@st.composite
def burdens(draw: st.DrawFn, least: int | None = None) -> Burden:
    idle = draw(SIZES)
    return Burden(
        shares=draw(st.sampled_from([0.5, 1.0, 4.0])) * draw(st.integers(256 * MIB, 16 * GIB)),
        active_bytes=draw(SIZES),
        idle_bytes=idle,
        most_bytes=draw(st.integers(0, idle)),
        least_bytes=draw(st.integers(8 * MIB, 300 * MIB)) if least is None else least,
    )


TAXES = st.sampled_from([0.0, 0.5, 0.75, 0.95, 1.0])


@given(st.integers(0, 40 * GIB), st.lists(burdens(), max_size=8), TAXES)
def test_exactly_what_is_needed_is_paid_or_all_there_is(need: int, all_of: list[Burden], tax: float) -> None:
    parts = share(need, all_of, tax=tax)
    assert sum(part for _, part in parts) == min(need, sum(b.most_bytes for b in all_of))
    assert all(0 < part <= all_of[index].most_bytes for index, part in parts)
    assert len({index for index, _ in parts}) == len(parts)


@given(st.integers(1, 40 * GIB), st.lists(burdens(least=0), min_size=1, max_size=8), TAXES)
def test_afterwards_no_payer_is_cheaper_than_one_who_could_still_pay(
    need: int, all_of: list[Burden], tax: float
) -> None:
    """To a page of rounding per domain: what is left costs all that can pay the same."""
    paid = dict(share(need, all_of, tax=tax))

    def cost(index: int, part: int) -> float:
        burden = all_of[index]
        return ((1 - tax) * burden.active_bytes + burden.idle_bytes - part) / burden.shares

    dearest_left = max(
        (cost(i, paid.get(i, 0)) for i, b in enumerate(all_of) if paid.get(i, 0) < b.most_bytes), default=0.0
    )
    slack = 4096 * len(all_of) / min(b.shares for b in all_of)
    assert all(cost(index, max(0, part - 4096)) + slack >= dearest_left for index, part in paid.items())


@given(st.integers(1, 8 * GIB), burdens(least=0), TAXES)
def test_of_two_equal_domains_the_heavier_pays_less(need: int, burden: Burden, tax: float) -> None:
    heavier = burden._replace(shares=2 * burden.shares)
    paid = dict(share(need, [heavier, burden], tax=tax))
    assert paid.get(0, 0) <= paid.get(1, 0)


@given(st.integers(1, 8 * GIB), burdens(least=0), st.integers(1, 4 * GIB), st.sampled_from([0.5, 0.75]))
def test_of_two_equal_domains_the_idler_pays_more(need: int, burden: Burden, more: int, tax: float) -> None:
    """The same size, but more of it idle."""
    busy = burden._replace(active_bytes=burden.active_bytes + more)
    idle = burden._replace(idle_bytes=burden.idle_bytes + more, most_bytes=burden.most_bytes + more)
    paid = dict(share(need, [busy, idle], tax=tax))
    assert paid.get(0, 0) <= paid.get(1, 0) + 1


@given(st.integers(0, 8 * GIB), st.integers(0, 8 * GIB), st.lists(burdens(least=0), max_size=6), TAXES)
def test_a_greater_need_lets_nobody_pay_less(need: int, more: int, all_of: list[Burden], tax: float) -> None:
    before, after = dict(share(need, all_of, tax=tax)), dict(share(need + more, all_of, tax=tax))
    assert all(after.get(index, 0) >= part - len(all_of) for index, part in before.items())
