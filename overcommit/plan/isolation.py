"""What is done for all domains together, and spoilt by one: it is left out, the others are not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from overcommit.errors import UNCONTAINED
from overcommit.model.facts import DomainFacts

_Result = TypeVar("_Result")


class FailedDomain(NamedTuple):
    """A domain, and what was raised with it."""

    domain: DomainFacts
    error: Exception


def without_failed_domains(
    domains: Sequence[DomainFacts], attempt: Callable[[Sequence[DomainFacts]], _Result]
) -> tuple[_Result, tuple[FailedDomain, ...]]:
    """What an attempt gives with as many of the domains as it bears, and those that it does not.

    One attempt where nothing is wrong; else some for each spoiler, as many as the domains can be halved.

    Raises:
        Exception: what the attempt raises without any of them: that is none's fault.
    """
    try:
        return attempt(domains), ()
    except UNCONTAINED:
        raise
    except Exception:  # noqa: BLE001 - whatever it is, it is known below whose it is
        result = attempt(())
    good: list[int] = []
    failed_domains: list[FailedDomain] = []
    waiting = [range(len(domains))]
    while waiting:
        part = waiting.pop()
        try:
            result = attempt([domains[index] for index in (*good, *part)])
        except UNCONTAINED:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            if len(part) == 1:
                failed_domains.append(FailedDomain(domains[part[0]], error))
            else:
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
        else:
            good.extend(part)
    return result, tuple(failed_domains)
