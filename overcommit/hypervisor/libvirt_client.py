"""The connection to libvirt.

Calls have deadlines (`overcommit.hypervisor.calls`). A call that asks libvirtd alone hangs only if libvirtd
hangs. A call that asks a QEMU hangs with that QEMU, and its error says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from overcommit.clock import Clock, SystemClock
from overcommit.display import command
from overcommit.errors import Gone, HostError, Unsupported, UsageError
from overcommit.hypervisor.bulk import DomainStats, ask_all, state_of
from overcommit.hypervisor.calls import Calls
from overcommit.hypervisor.definitions import Wanted, definition_of, list_defined
from overcommit.hypervisor.domain_xml import CLAIM_NAMESPACE, claim_element, resized_device
from overcommit.hypervisor.events import Notify, subscribe
from overcommit.hypervisor.libvirt_errors import translated
from overcommit.hypervisor.port import DefinedDomain, ListedDomain, Surveyed
from overcommit.model.facts import MIGRATION_AWAY, BalloonStats, RunState
from overcommit.model.moments import Wall
from overcommit.units import KIB

CALL_DEADLINE_SECONDS = 10.0
_BRIEF_MILLISECONDS = 1000
_MOST_CALLS = 5
"""``max_client_requests`` of libvirtd.conf: libvirtd does not read further requests of the connection."""
_KEEP_ALIVE_SECONDS, _KEEP_ALIVE_COUNT = 5, 3
"""The interval of keepalive messages, and how many may be missed: the connection is closed after 20 s."""
_CLOSING_SECONDS = 1.0
_MIGRATION_IN = 4
_JOBS = {
    1: "its start",
    2: "a save",
    3: "its restoration",
    _MIGRATION_IN: "a migration to this host",
    5: MIGRATION_AWAY,
    6: "a snapshot",
    7: "the return to a snapshot",
    8: "a memory dump",
    9: "a backup",
    10: "the removal of a snapshot",
}
"""Names of virDomainJobOperation."""
SURVEYS = ("survey 1", "survey 2", "survey 3")
"""The subjects of surveys. One survey may hang for each, so this many QEMUs may hang on a connection."""
_SECONDS_A_DOMAIN = 0.01
"""Additional time of a survey per domain. Libvirtd asks one QEMU after the other, 1 to 2 ms each."""
LIBVIRTD = "libvirtd"
"""The subject of calls that ask no QEMU."""
_VERSIONS = "versions"

_T = TypeVar("_T")


def binding() -> Any:
    """The module ``libvirt``, set to print nothing.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        import libvirt
        import libvirt_qemu  # noqa: F401 - for `ask_agent`, so that nothing is loaded months later
    except ImportError as error:
        raise Unsupported(
            "the libvirt Python binding is not installed",
            hint="apt-get install python3-libvirt, or pip install 'overcommit[libvirt]'",
        ) from error
    libvirt.registerErrorHandler(lambda *_: None, None)  # else libvirt prints to stderr itself
    return libvirt


def run_directory(uri: str) -> Path:
    """The directory in which libvirt keeps the pid files of the domains of a local URI.

    Raises:
        UsageError: the URI is not local QEMU.
    """
    parts = urlsplit(uri)
    if parts.netloc or "+" in parts.scheme or parts.scheme != "qemu":
        raise UsageError(
            f"cannot manage {uri}: DAMON and cgroups are local to the host",
            hint="run this on the KVM host itself, with --connect qemu:///system",
        )
    if parts.path == "/embed":
        roots = parse_qs(parts.query).get("root")
        if not roots:
            raise UsageError(f"{uri} does not name its root", hint="use qemu:///embed?root=DIRECTORY")
        return Path(roots[0]) / "run/qemu"
    if parts.path != "/system":
        raise UsageError(f"unsupported connection {uri}", hint="use --connect qemu:///system")
    return Path("/run/libvirt/qemu")


def _balloon_of(values: Mapping[str, int], now: Wall) -> BalloonStats:
    """The statistics of a virDomainMemoryStats. ``last_update`` is host time, so a guest cannot fake it."""

    def size(key: str) -> int | None:
        return values[key] * KIB if key in values else None

    updated = values.get("last_update", 0)
    return BalloonStats(
        actual_bytes=values["actual"] * KIB,
        age_seconds=max(0.0, now - Wall(updated)) if updated else None,
        usable_bytes=size("usable"),
        unused_bytes=size("unused"),
        total_bytes=size("available"),
        cache_bytes=size("disk_caches"),
        swap_in_bytes=size("swap_in"),
        swap_out_bytes=size("swap_out"),
        major_faults=values.get("major_fault"),
    )


class LibvirtClient:
    """`overcommit.hypervisor.port.Hypervisor` over libvirt-python."""

    def __init__(
        self,
        uri: str,
        *,
        read_only: bool,
        clock: Clock | None = None,
        deadline_seconds: float = CALL_DEADLINE_SECONDS,
    ) -> None:
        """Connect, without a deadline.

        Raises:
            UsageError: the URI is not local QEMU.
            Unsupported: there is no libvirt binding, or libvirtd does not answer.
        """
        self._uri = uri
        self._run_directory = run_directory(uri)
        self._libvirt = binding()
        self._deadline_seconds = deadline_seconds
        self._calls = Calls(clock or SystemClock(), most=_MOST_CALLS)
        self._unsubscribe: Callable[[], None] | None = None
        self._surveyed = 0
        opener = self._libvirt.openReadOnly if read_only else self._libvirt.open
        try:
            self._connection: Any = opener(uri)
        except self._libvirt.libvirtError as error:
            raise Unsupported(
                f"cannot connect to libvirt at {uri}: {error.get_error_message()}",
                hint="is libvirtd (or virtqemud) running? try: " + command("virsh", "-c", uri, "list"),
            ) from error

    def watch(self, notify: Notify | None) -> None:
        """Detect a libvirtd that hangs, and deliver events. Needs libvirt's event loop to run.

        Raises:
            HostError: libvirtd does not answer.
        """

        def begin() -> None:
            # A connection inside of this process has nothing to keep alive.
            with contextlib.suppress(self._libvirt.libvirtError):
                self._connection.setKeepAlive(_KEEP_ALIVE_SECONDS, _KEEP_ALIVE_COUNT)
            if notify is not None:
                self._unsubscribe = subscribe(self._libvirt, self._connection, notify)

        self._bounded("deliver events", begin)

    def is_open(self) -> bool:
        """Whether the connection is not known to be lost. Asks nothing."""
        try:
            return bool(self._connection.isAlive())
        except self._libvirt.libvirtError:
            return False

    def waiting_seconds(self, subject: str) -> float | None:
        """For how long a call about a domain (by UUID) or of `LIBVIRTD` has not returned; None: none."""
        return self._calls.waiting_seconds(subject)

    def is_full(self) -> bool:
        """Whether too many calls have not returned, so that no more can be started on this connection."""
        return self._calls.is_full()

    def give_sign_of_life(self, *, seconds: float) -> None:
        """Make the cheapest call that libvirtd answers by itself.

        Raises:
            HostError: it does not answer within ``seconds``.
        """
        self._bounded("answer a keepalive", self._connection.getLibVersion, seconds=seconds)

    def close(self) -> None:
        """Close the connection. Calls that have not returned end by themselves."""

        def end() -> None:
            if self._unsubscribe is not None:
                self._unsubscribe()
            with contextlib.suppress(self._libvirt.libvirtError):
                self._connection.close()

        with contextlib.suppress(HostError):
            self._calls.bounded("close", "close the connection", end, seconds=_CLOSING_SECONDS)
        self._calls.close()

    def describe(self) -> str:
        """See `Hypervisor.describe`. Libvirtd may probe its QEMU again for this, which takes seconds."""

        def versions() -> tuple[int, int]:
            return self._connection.getLibVersion(), self._connection.getVersion()

        library, emulator = (
            ".".join(str(number // 10**power % 1000) for power in (6, 3, 0))
            for number in self._bounded("report its version", versions, subject=_VERSIONS)
        )
        return f"libvirt {library}, QEMU {emulator} at {self._uri}"

    def domains(self) -> tuple[ListedDomain, ...]:
        """See `Hypervisor.domains`."""
        return tuple(sorted(self._bounded("list domains", self._list_active)))

    def survey(self, *, now: Wall) -> tuple[Surveyed, ...]:
        """See `Hypervisor.survey`. One that hangs with a QEMU is abandoned; the next leaves that QEMU out."""
        waiting = [subject for subject in SURVEYS if self.waiting_seconds(subject) is not None]
        subject = next((subject for subject in SURVEYS if subject not in waiting), SURVEYS[0])
        told = self._bounded(
            "list all domains",
            lambda: ask_all(self._libvirt, self._connection),
            subject=subject,
            seconds=self._deadline_seconds + _SECONDS_A_DOMAIN * self._surveyed,
        )
        self._surveyed = len(told)
        return tuple(sorted((self._surveyed_of(each, now) for each in told), key=lambda each: each.domain))

    def state(self, uuid: str) -> RunState:
        """See `Hypervisor.state`."""
        return self._bounded(
            f"report its state (domain {uuid})",
            lambda: state_of(self._connection.lookupByUUIDString(uuid).state()[0]),
        )

    def xml(self, uuid: str) -> str:
        """See `Hypervisor.xml`."""
        return str(self._on_domain(uuid, "read its definition", lambda d: d.XMLDesc(0)))

    def defined(self, name: str) -> str | None:
        """See `Hypervisor.defined`."""
        return self._definition(lambda: self._connection.lookupByName(name), Wanted.STARTED_WITH)

    def defined_domains(self) -> tuple[DefinedDomain, ...]:
        """See `Definitions.defined_domains`."""
        return self._bounded("list definitions", lambda: list_defined(self._libvirt, self._connection))

    def definition(self, uuid: str, *, secrets: bool = False) -> str | None:
        """See `Definitions.definition`."""
        wanted = Wanted.NEXT_START_WITH_SECRETS if secrets else Wanted.NEXT_START
        return self._definition(lambda: self._connection.lookupByUUIDString(uuid), wanted)

    def define(self, xml: str) -> None:
        """See `Definitions.define`."""
        self._bounded("change a definition", lambda: self._connection.defineXML(xml))

    def busy_with(self, uuid: str) -> str | None:
        """See `Hypervisor.busy_with`."""
        return self.held_by(uuid) or self.job(uuid)

    def held_by(self, uuid: str) -> str | None:
        """What holds the domain's monitor; None: nothing.

        controlInfo needs no job and no monitor: it never blocks.
        """
        state, _, milliseconds = self._bounded(
            f"ask its state (domain {uuid})",
            lambda: self._connection.lookupByUUIDString(uuid).controlInfo(0),
        )
        if state == 1:
            return "a libvirt job (migration, save, dump or snapshot)"
        if state == 2 and milliseconds < _BRIEF_MILLISECONDS:
            return None  # somebody reads its statistics
        if state == 2:
            return f"a monitor command in flight since {milliseconds / 1000:.0f} s"
        return "a broken monitor" if state else None

    def job(self, uuid: str) -> str | None:
        """The current libvirt job; None: none. `held_by` misses a live migration most of the time.

        `held_by` sees a job only while it uses the monitor, which a migration seldom does (libvirt 11.3).
        """

        def ask(domain: Any) -> Any:
            try:
                return domain.jobStats()
            except self._libvirt.libvirtError as error:
                # "migration statistics are available only on the source host"
                if "migration" in (error.get_error_message() or ""):
                    return {"type": self._libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "operation": _MIGRATION_IN}
                raise

        job = self._on_domain(uuid, "ask for its job", ask)
        under_way = (self._libvirt.VIR_DOMAIN_JOB_BOUNDED, self._libvirt.VIR_DOMAIN_JOB_UNBOUNDED)
        if job.get("type") not in under_way:
            return None
        return _JOBS.get(job.get("operation", 0), "a libvirt job")

    def balloon(self, uuid: str, *, now: Wall) -> BalloonStats:
        """See `Hypervisor.balloon`."""
        values = self._on_domain(uuid, "read its balloon", lambda d: d.memoryStats())

        if "actual" not in values:
            raise HostError(f"libvirt does not report the balloon size of domain {uuid}")
        return _balloon_of(values, now)

    def set_balloon(self, uuid: str, size_bytes: int) -> None:
        """See `Hypervisor.set_balloon`. It changes only the live domain, not the persistent definition."""
        live = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        self._on_domain(uuid, "set its balloon", lambda d: d.setMemoryFlags(size_bytes // KIB, live))

    def resize_memory_device(self, uuid: str, alias: str, requested_bytes: int) -> None:
        """See `Hypervisor.resize_memory_device`. It changes only the live domain."""
        live = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        device = resized_device(self.xml(uuid), alias, requested_bytes)
        if device is None:
            raise HostError(f"domain {uuid} has no virtio-mem device {alias}")
        doing = f"resize its memory device {alias}"
        self._on_domain(uuid, doing, lambda d: d.updateDeviceFlags(device, live))

    def set_claim(self, uuid: str, claim: Mapping[str, int]) -> None:
        """See `Hypervisor.set_claim`. It changes only the live domain, not the persistent definition."""
        live, element = self._libvirt.VIR_DOMAIN_AFFECT_LIVE, self._libvirt.VIR_DOMAIN_METADATA_ELEMENT
        xml = claim_element(claim) if claim else None

        def carry(domain: Any) -> None:
            domain.setMetadata(element, xml, "overcommit", CLAIM_NAMESPACE, live)

        self._on_domain(uuid, "write our claim", carry)

    def ask_agent(self, uuid: str, command: str, *, seconds: int) -> str:
        """See `Hypervisor.ask_agent`. It takes a job of its own, so a hung agent blocks nothing else."""
        import libvirt_qemu  # of the same binding

        def ask(domain: Any) -> str:
            return str(libvirt_qemu.qemuAgentCommand(domain, command, seconds, 0))

        patience = seconds + self._deadline_seconds
        return self._on_domain(uuid, "ask its guest agent", ask, seconds=patience)

    def _definition(self, look_up: Callable[[], Any], wanted: Wanted) -> str | None:
        return self._bounded(
            "read what a domain is defined as",
            lambda: definition_of(self._libvirt, look_up, wanted),
        )

    def _surveyed_of(self, told: DomainStats, now: Wall) -> Surveyed:
        pid_file, maximum = self._pid_file(told.name), told.maximum_kib * KIB
        return Surveyed(
            ListedDomain(told.name, told.uuid, told.state, pid_file, maximum),
            None if told.figures is None else _balloon_of(told.figures, now),
            told.read_bytes,
        )

    def _list_active(self) -> list[ListedDomain]:
        listed = []
        for domain in self._connection.listAllDomains(self._libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            try:
                state = state_of(domain.state()[0])
                maximum = domain.maxMemory() * KIB
            except self._libvirt.libvirtError:
                continue  # it left between the two calls
            pid_file = self._pid_file(domain.name())
            listed.append(ListedDomain(domain.name(), domain.UUIDString(), state, pid_file, maximum))
        return listed

    def _pid_file(self, name: str) -> str:
        return str(self._run_directory / f"{name}.pid")

    def _on_domain(
        self, uuid: str, doing: str, call: Callable[[Any], _T], *, seconds: float | None = None
    ) -> _T:
        def on_domain() -> _T:
            domain = self._connection.lookupByUUIDString(uuid)
            try:
                return call(domain)
            except self._libvirt.libvirtError as error:
                # No code: the collector freed another handle meanwhile, and that resets the thread's error.
                if error.get_error_code() is None and not domain.isActive():
                    raise Gone(f"libvirt could not {doing} (domain {uuid}): it does not run") from error
                raise

        return self._bounded(f"{doing} (domain {uuid})", on_domain, subject=uuid, seconds=seconds)

    def _bounded(
        self, doing: str, call: Callable[[], _T], *, subject: str = LIBVIRTD, seconds: float | None = None
    ) -> _T:
        patience = self._deadline_seconds if seconds is None else seconds
        try:
            return self._calls.bounded(subject, doing, call, seconds=patience)
        except self._libvirt.libvirtError as error:
            raise translated(self._libvirt, doing, error) from error
