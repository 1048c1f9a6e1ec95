"""Page-out: memory that the guest holds but does not use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from overcommit.model.action import PageoutAction
from overcommit.model.facts import DomainFacts
from overcommit.model.heat import ColdPiece, Heat
from overcommit.model.policy import PageoutActor
from overcommit.model.ranges import Range
from overcommit.plan.case import Case, worthwhile
from overcommit.units import PAGE_SIZE, PIECE_ALIGNMENT, format_duration, format_ratio, format_size


def page_out(case: Case, heat: Heat, resident: int, pieces: tuple[ColdPiece, ...]) -> PageoutAction:
    """The action for chosen pieces. ``resident`` is what cheaper mechanisms leave."""
    domain_class, amount = case.domain_class, sum(piece.resident_bytes for piece in pieces)
    working_set = heat.hot_bytes + heat.warm_bytes
    suitable = suitable_actors(case.domain)
    actor = case.policy.pageout_actor or suitable[-1 if heat.ages is not None else 0]
    return PageoutAction(
        id="",
        domain=case.domain.incarnation,
        before_bytes=resident,
        after_bytes=resident - amount,
        expected_bytes=amount,
        actor=actor,
        cold_after_seconds=heat.cold_after_seconds,
        max_bytes_per_second=case.write_rate,
        psi_some_limit=domain_class.objective.psi_some,
        promotions_limit=domain_class.objective.promotions_per_minute,
        working_set_bytes=working_set,
        expected_promotions_per_minute=round(heat.promotions_per_minute, 1),
        pieces=pieces,
        reason="idle_memory",
        because=f"{idle_text(heat)}; {_ages_text(heat)}floor {format_size(case.bounds.floor_bytes)}; "
        f"by {actor.value}",
        risk=_risk(heat, working_set, domain_class.objective.promotions_per_minute),
    )


def suitable_actors(domain: DomainFacts) -> tuple[PageoutActor, ...]:
    """Who may page this domain out, where the policy names nobody (docs/adr/0004 and 0027).

    The second one where the ages of its pages are known: then the kernel's own order is the best.
    """
    can_reclaim = domain.cgroup is not None and domain.cgroup.reclaim and not domain.cgroup.shared
    if not can_reclaim:
        return (PageoutActor.DAMOS_FVADDR,)
    return (PageoutActor.COLD_HINT_RECLAIM, PageoutActor.MEMCG_RECLAIM)


def accessed_within(heat: Heat) -> int:
    """Bytes that DAMON saw cold, and of which the ages of pages say that they are in use."""
    if heat.ages is None:
        return 0
    return max(0, (heat.cold_bytes or 0) - heat.ages.idle_bytes(heat.cold_after_seconds))


def _ages_text(heat: Heat) -> str:
    if heat.ages is None:
        return ""
    idle = heat.ages.idle_bytes(heat.cold_after_seconds)
    known = min(heat.cold_after_seconds, heat.ages.known_seconds)
    return f"page by page {format_size(idle)} not accessed for {format_duration(known)}; "


def _risk(heat: Heat, working_set: int, limit: float) -> str:
    pages = round(heat.promotions_per_minute)
    many = f"about {pages:,} pages" if pages else "hardly a page"
    text = f"{many} a minute may be read back; each is a swap-in for the guest"
    if not working_set:
        return text
    allowed = limit * working_set / PAGE_SIZE
    return f"{text} (its class allows {allowed:,.0f}: {format_ratio(limit)} of its working set)"


def coldest(pieces: Iterable[ColdPiece], most_bytes: int, *, whole: bool = False) -> tuple[ColdPiece, ...]:
    """The longest idle pieces that together hold at most ``most_bytes``, by address.

    A piece of a large domain may hold gigabytes. Where it holds too much it is cut, unless ``whole`` pieces
    are needed.
    """
    taken: list[ColdPiece] = []
    left = most_bytes
    for piece in sorted(pieces, key=lambda p: (-p.idle_seconds, p.start)):
        fits = piece.resident_bytes <= left
        part = piece if fits else None if whole else _cut(piece, left)
        if part is not None:
            left -= part.end - part.start if part is not piece else piece.resident_bytes
            taken.append(part)
    return tuple(sorted(taken))


def _cut(piece: ColdPiece, most_bytes: int) -> ColdPiece | None:
    """The beginning of a piece, which holds at most ``most_bytes``; None: it may hold too little."""
    end = (piece.start + most_bytes) // PIECE_ALIGNMENT * PIECE_ALIGNMENT
    not_resident = piece.end - piece.start - piece.resident_bytes
    sure = end - piece.start - not_resident
    return piece._replace(end=end, resident_bytes=sure) if sure >= worthwhile(0) else None


def pieces_in(pieces: Iterable[ColdPiece], ranges: Sequence[Range]) -> Iterator[ColdPiece]:
    """The pieces that lie wholly in the ranges. Both by address, the ranges free of overlaps."""
    left = iter(ranges)
    within = next(left, None)
    for piece in pieces:
        while within is not None and within.end <= piece.start:
            within = next(left, None)
        if within is None:
            return
        if within.start <= piece.start and piece.end <= within.end:
            yield piece


def idle_text(heat: Heat) -> str:
    """Why memory is called cold, for people."""
    return (
        f"{format_size(heat.cold_bytes or 0)} resident and idle for at least "
        f"{format_duration(heat.cold_after_seconds)} (watched "
        f"{format_duration(heat.window_seconds)}, each region sampled {heat.samples} times in "
        f"{format_duration(heat.cold_after_seconds)}, confidence {heat.confidence})"
    )
