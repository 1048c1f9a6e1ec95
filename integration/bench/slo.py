"""What the controller of a domain's objective keeps and costs, beside fixed times after which memory is cold.

::

    python -m integration.bench.slo --days 1

Simulated guests (`overcommit.testing.simulated_guest`), natively and within a minute; the same everywhere.
"""

from __future__ import annotations

import dataclasses

import click

from overcommit.model.policy import DomainClass, ServiceObjective
from overcommit.testing.simulated_guest import GUESTS, Days, Guest, live
from overcommit.units import format_duration, format_ratio

STANDARD = DomainClass(
    name="standard",
    floor=0.0,
    cold_after_seconds=120.0,
    weight=1.0,
    objective=ServiceObjective(promotions_per_minute=0.002, psi_some=0.01),
    actuators=frozenset(),
    step=0.05,
)
"""Of the default policy; a step is what is taken in a minute."""
FIXED = (120.0, 600.0, 3600.0)


def show(days: Days, how: str) -> None:
    """One line of the table, and the pages of each hour."""
    coldest = max(minute.cold_after_seconds for minute in days.minutes)
    click.echo(
        f"{days.guest.name:8} {how:12} "
        f"{format_ratio(days.saved_share):>7} {format_ratio(days.outside_share):>8} "
        f"{sum(days.per_hour):>10,} {max(days.per_hour):>9,} {days.turns:>5}  {format_duration(coldest)}"
    )


def compare(guest: Guest, hours: float) -> None:
    """The controlled guest, and as it fares with fixed times."""
    show(live(guest, STANDARD, hours=hours), "controlled")
    for seconds in FIXED:
        fixed = dataclasses.replace(STANDARD, cold_after_seconds=seconds)
        show(live(guest, fixed, hours=hours, controlled=False), f"fixed {format_duration(seconds)}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--days", default=1.0, show_default=True, help="How long each guest lives.")
@click.option("--guest", "chosen", multiple=True, type=click.Choice([guest.name for guest in GUESTS]))
def main(days: float, chosen: tuple[str, ...]) -> None:
    """Compare."""
    click.echo("guest    cold after     saved  outside  read back  worst h  turns  longest")
    for guest in GUESTS:
        if not chosen or guest.name in chosen:
            compare(guest, 24 * days)


if __name__ == "__main__":
    main()
