"""A libvirt connection that reconnects, for a controller that runs for a long time.

It keeps one connection for what libvirtd answers by itself, with the events, and up to two for what a QEMU
must answer. Calls that hang with their QEMU do not affect the first, so a call that hangs there means that
libvirtd hangs. Only one thread may use this at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

from overcommit.clock import Clock
from overcommit.display import command
from overcommit.errors import HostError, OvercommitError
from overcommit.hypervisor.calls import Calls
from overcommit.hypervisor.events import EventLoop, Notify
from overcommit.hypervisor.libvirt_client import LIBVIRTD, SURVEYS, LibvirtClient, binding, run_directory
from overcommit.hypervisor.port import ListedDomain, Surveyed
from overcommit.model.facts import BalloonStats, RunState
from overcommit.model.moments import Monotonic, Wall

DEADLINE_SECONDS = 5.0
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 1.0, 30.0
"""The pause between attempts to connect. It doubles after each failure."""
_MOST_FOR_MONITORS = 2
"""Connections for what a QEMU answers, of five calls each. Libvirtd has 20 workers by default, for all
clients.
"""
_SIGN_OF_LIFE_SECONDS = 1.0

_T = TypeVar("_T")


class ReconnectingLibvirt:
    """`overcommit.hypervisor.port.Hypervisor` that connects when it is needed, and again after a loss.

    While libvirtd is down or hangs, every call fails soon, with "libvirt is not reachable". While a QEMU
    hangs, only calls about its domain fail.
    """

    def __init__(
        self,
        uri: str,
        *,
        read_only: bool,
        clock: Clock,
        notify: Notify,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        """Start to listen. Nothing is connected yet. ``notify`` gets libvirt's events from another thread.

        Raises:
            UsageError: the URI is not local QEMU.
            Unsupported: there is no libvirt binding.
        """
        run_directory(uri)
        self._uri = uri
        self._read_only = read_only
        self._clock = clock
        self._notify = notify
        self._deadline_seconds = deadline_seconds
        self._loop = EventLoop(binding(), clock)
        self._opening = Calls(clock, most=1)
        self._control: LibvirtClient | None = None
        self._for_monitors: list[LibvirtClient] = []
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        self._next_attempt_at = Monotonic(0.0)
        self._why = ""

    def describe(self) -> str:
        """See `Hypervisor.describe`."""
        return self._ask(lambda client: client.describe())

    def domains(self) -> tuple[ListedDomain, ...]:
        """See `Hypervisor.domains`."""
        return self._ask(lambda client: client.domains())

    def survey(self, *, now: Wall) -> tuple[Surveyed, ...]:
        """See `Hypervisor.survey`.

        A survey that hangs with a QEMU is tried once more, which leaves that QEMU out.
        """
        try:
            return self._survey(now)
        except HostError:
            if not any(self._hanging_surveys(client) for client in self._for_monitors):
                raise
            return self._survey(now)

    def state(self, uuid: str) -> RunState:
        """See `Hypervisor.state`."""
        return self._ask(lambda client: client.state(uuid))

    def busy_with(self, uuid: str) -> str | None:
        """See `Hypervisor.busy_with`.

        It tells what holds the monitor also while a call about the domain hangs.
        """
        held = self._ask(lambda client: client.held_by(uuid))
        return held or self._ask_about(uuid, lambda client: client.job(uuid))

    def xml(self, uuid: str) -> str:
        """See `Hypervisor.xml`."""
        return self._ask_about(uuid, lambda client: client.xml(uuid))

    def defined(self, name: str) -> str | None:
        """See `Hypervisor.defined`."""
        return self._ask(lambda client: client.defined(name))

    def balloon(self, uuid: str, *, now: Wall) -> BalloonStats:
        """See `Hypervisor.balloon`."""
        return self._ask_about(uuid, lambda client: client.balloon(uuid, now=now))

    def set_balloon(self, uuid: str, size_bytes: int) -> None:
        """See `Hypervisor.set_balloon`. A call that hangs takes effect when its QEMU continues."""
        self._ask_about(uuid, lambda client: client.set_balloon(uuid, size_bytes))

    def resize_memory_device(self, uuid: str, alias: str, requested_bytes: int) -> None:
        """See `Hypervisor.resize_memory_device`."""
        self._ask_about(uuid, lambda client: client.resize_memory_device(uuid, alias, requested_bytes))

    def set_claim(self, uuid: str, claim: Mapping[str, int]) -> None:
        """See `Hypervisor.set_claim`."""
        self._ask_about(uuid, lambda client: client.set_claim(uuid, claim))

    def ask_agent(self, uuid: str, command: str, *, seconds: int) -> str:
        """See `Hypervisor.ask_agent`."""
        return self._ask_about(uuid, lambda client: client.ask_agent(uuid, command, seconds=seconds))

    def close(self) -> None:
        """Disconnect from libvirt, and stop listening."""
        self._leave()
        self._opening.close()
        self._loop.stop(seconds=self._deadline_seconds)

    def _ask(self, call: Callable[[LibvirtClient], _T]) -> _T:
        """Make a call that libvirtd answers by itself. If it hangs, libvirtd hangs."""
        control = self._reached()
        try:
            return call(control)
        except HostError as error:
            if control.waiting_seconds(LIBVIRTD) is not None or not control.is_open():
                raise self._unreachable(str(error)) from error
            raise

    def _ask_about(self, uuid: str, call: Callable[[LibvirtClient], _T]) -> _T:
        """Make a call that a QEMU must answer."""
        control = self._reached()
        client = self._for_monitor_of(uuid)
        begun = client.waiting_seconds(uuid) is None
        try:
            return call(client)
        except HostError as error:
            if not client.is_open():
                raise self._unreachable(str(error)) from error
            if begun and client.waiting_seconds(uuid) is not None:
                self._require_life(control)
            raise

    def _survey(self, now: Wall) -> tuple[Surveyed, ...]:
        control = self._reached()
        client = self._for_monitor_of(None)
        before = self._hanging_surveys(client)
        try:
            return client.survey(now=now)
        except HostError as error:
            if not client.is_open():
                raise self._unreachable(str(error)) from error
            if self._hanging_surveys(client) > before:
                self._require_life(control)
            raise

    @staticmethod
    def _hanging_surveys(client: LibvirtClient) -> int:
        return sum(client.waiting_seconds(subject) is not None for subject in SURVEYS)

    def _require_life(self, control: LibvirtClient) -> None:
        """Raise if libvirtd hangs, and not only a QEMU.

        A libvirtd that hangs would delay each call in turn.
        """
        try:
            control.give_sign_of_life(seconds=_SIGN_OF_LIFE_SECONDS)
        except HostError as error:
            raise self._unreachable(str(error)) from error

    def _reached(self) -> LibvirtClient:
        """The open connection to libvirtd itself."""
        if self._control is not None and not self._control.is_open():
            self._leave()
        if self._control is None:
            self._control = self._connected(self._notify)
        self._require_answer(self._control)
        return self._control

    def _for_monitor_of(self, uuid: str | None) -> LibvirtClient:
        """The connection with an unfinished call about this domain, or one with room for a call.

        ``uuid`` None: for a survey.
        """
        self._for_monitors = [client for client in self._for_monitors if not self._was_lost(client)]
        for client in self._for_monitors:
            if uuid is not None and client.waiting_seconds(uuid) is not None:
                return client
        for client in self._for_monitors:
            full = uuid is None and self._hanging_surveys(client) == len(SURVEYS)
            if not client.is_full() and not full:
                return client
        if len(self._for_monitors) == _MOST_FOR_MONITORS:
            return self._for_monitors[0]  # which says that it is full
        self._for_monitors.append(self._connected(None))
        return self._for_monitors[-1]

    def _was_lost(self, client: LibvirtClient) -> bool:
        if client.is_open():
            return False
        client.close()
        return True

    def _connected(self, notify: Notify | None) -> LibvirtClient:
        """A new connection, if the last failed attempt was long enough ago."""
        self._require_answer(self._opening)
        if self._clock.monotonic() < self._next_attempt_at:
            raise self._unreachable(self._why)
        try:
            # If this does not return in time what it opens is closed when it does: nobody holds it.
            client = self._opening.bounded(
                LIBVIRTD, "accept a connection", self._open, seconds=self._deadline_seconds
            )
            try:
                client.watch(notify)
            except HostError:
                client.close()
                raise
        except OvercommitError as error:
            self._why = str(error)
            self._next_attempt_at = self._clock.monotonic() + self._pause_seconds
            self._pause_seconds = min(_LONGEST_PAUSE_SECONDS, 2 * self._pause_seconds)
            raise self._unreachable(self._why) from error
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        return client

    def _open(self) -> LibvirtClient:
        return LibvirtClient(
            self._uri, read_only=self._read_only, clock=self._clock, deadline_seconds=self._deadline_seconds
        )

    def _require_answer(self, to: LibvirtClient | Calls) -> None:
        silent = to.waiting_seconds(LIBVIRTD)
        if silent is not None:
            raise self._unreachable(f"libvirtd has not answered for {silent:.0f} s")

    def _leave(self) -> None:
        for client in (self._control, *self._for_monitors):
            if client is not None:
                client.close()
        self._control, self._for_monitors = None, []

    def _unreachable(self, why: str) -> HostError:
        return HostError(
            f"libvirt is not reachable: {why}",
            hint=f"is libvirtd (or virtqemud) running? try: {command('virsh', '-c', self._uri, 'list')}",
        )
