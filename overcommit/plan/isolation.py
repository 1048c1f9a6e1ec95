"""Runs a step for all domains together, without those that make it fail. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from overcommit.errors import UNCONTAINED
from overcommit.model.facts import DomainFacts

_Result = TypeVar("_Result")


class FailedDomain(NamedTuple):
    """A domain, and the exception that it caused."""

    domain: DomainFacts
    error: Exception


def without_failed_domains(
    domains: Sequence[DomainFacts], attempt: Callable[[Sequence[DomainFacts]], _Result]
) -> tuple[_Result, tuple[FailedDomain, ...]]:
    """The result for as many domains as possible, and the domains that make the step fail.

    Without a failure it takes one attempt, otherwise some per failing domain, by halving.

    Raises:
        Exception: the step fails without any domain.
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
