"""The latest status document of overcommitd. No scrape waits longer for it than its timeout."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from overcommit import __version__
from overcommit.clock import SystemClock
from overcommit.errors import HostError, OvercommitError
from overcommit.exporter import catalogue
from overcommit.exporter.families import families_of, family
from overcommit.model.moments import Monotonic
from overcommit.wire.client import find_daemon
from overcommit.wire.protocol import Verb

FRESH_SECONDS = 1.0
"""An answer of this age is used again, so that overcommitd is asked at most once a second."""
_ANSWER_SECONDS = 20.0
"""The timeout of one request to overcommitd. Another one is made after that."""


def ask_daemon() -> Mapping[str, Any]:
    """The status document of the overcommitd on this host.

    Raises:
        HostError: it does not run, or does not answer.
        OvercommitError: it answered with an error.
    """
    daemon = find_daemon()
    if daemon is None:
        raise HostError("overcommitd is not at work", hint="systemctl start overcommitd")
    return daemon.ask(Verb.STATUS, seconds=_ANSWER_SECONDS)


_monotonic = SystemClock().monotonic


class Latest(Collector):
    """Asks overcommitd in a separate thread, and keeps the answer.

    ``say`` gets each new reason for a failure.
    """

    def __init__(
        self,
        ask: Callable[[], Mapping[str, Any]] = ask_daemon,
        *,
        most_domains: int,
        say: Callable[[str], None] = lambda _sentence: None,
        monotonic: Callable[[], Monotonic] = _monotonic,
    ) -> None:
        self._ask = ask
        self._most_domains = most_domains
        self._say = say
        self._monotonic = monotonic
        self._done = threading.Condition()
        self._asking = False
        self._answered = False
        self._failures = 0
        self._why: str | None = None
        self._families: list[Metric] = []
        self._known_at: Monotonic | None = None

    def refresh(self, seconds: float) -> bool:
        """Get a new answer, if that takes at most ``seconds``.

        Returns:
            Whether the answer is new.
        """
        with self._done:
            if self._answered and self._age() < FRESH_SECONDS:
                return True
            self._answered = False
            if not self._asking:
                self._asking = True
                threading.Thread(target=self._run, name="ask", daemon=True).start()
            self._done.wait_for(lambda: not self._asking, timeout=seconds)
            if self._asking:
                self._failed("overcommitd does not answer in time")
            return self._answered

    def _age(self) -> float:
        return float("inf") if self._known_at is None else self._monotonic() - self._known_at

    def _run(self) -> None:
        families, why = None, ""
        try:
            families = families_of(self._ask(), most_domains=self._most_domains)
        except OvercommitError as error:
            why = str(error)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            why = f"the status of overcommitd is not understood: {type(error).__name__}: {error}"
        finally:
            with self._done:
                self._asking = False
                if families is not None:
                    self._families, self._known_at, self._answered, self._why = (
                        families,
                        self._monotonic(),
                        True,
                        None,
                    )
                else:
                    self._failed(why or "asking overcommitd ended unexpectedly")
                self._done.notify_all()

    def _failed(self, why: str) -> None:
        self._failures += 1
        if why != self._why:
            self._why = why
            self._say(why)

    def collect(self) -> Iterator[Metric]:
        """The metrics of the latest answer, with its age; see `Collector`."""
        with self._done:
            families, up, failures = self._families, self._answered, self._failures
            age = self._age()
        yield family(catalogue.UP, [((), int(up))])
        yield family(catalogue.AGE, [((), age)] if age < float("inf") else ())
        yield family(catalogue.EXPORTER, [((__version__,), 1)])
        yield family(catalogue.FAILURES, [((), failures)])
        yield from families
