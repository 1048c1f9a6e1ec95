"""The libvirt connection.

Each monitor call runs in a thread of its own with a deadline: a QEMU that does not answer blocks its
caller for 30 s or for ever, and libvirt has no way to cancel. Such a thread is left behind, and the
domain is reported as hung instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, urlsplit

from overcommit.errors import Gone, HostError, Unsupported, UsageError
from overcommit.hypervisor.domain_xml import resized_device
from overcommit.hypervisor.port import ListedDomain
from overcommit.model.facts import BalloonStats, RunState
from overcommit.units import KIB

CALL_DEADLINE_SECONDS = 10.0
_BRIEF_MILLISECONDS = 1000

_T = TypeVar("_T")


def _run_directory(uri: str) -> Path:
    """Where libvirt keeps the pid files of the domains behind a local URI."""
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


class LibvirtClient:
    """`overcommit.hypervisor.port.Hypervisor` over libvirt-python."""

    def __init__(self, uri: str, *, read_only: bool) -> None:
        """Connect.

        Raises:
            UsageError: a URI that is not local QEMU.
            Unsupported: no libvirt binding, or libvirtd does not answer.
        """
        self._uri = uri
        self._run_directory = _run_directory(uri)
        try:
            import libvirt
        except ImportError as error:
            raise Unsupported(
                "the libvirt Python binding is not installed",
                hint="apt-get install python3-libvirt, or pip install 'overcommit[libvirt]'",
            ) from error
        self._libvirt: Any = libvirt
        libvirt.registerErrorHandler(lambda *_: None, None)  # else libvirt prints to stderr itself
        opener = libvirt.openReadOnly if read_only else libvirt.open
        try:
            self._connection: Any = opener(uri)
        except libvirt.libvirtError as error:
            raise Unsupported(
                f"cannot connect to libvirt at {uri}: {error.get_error_message()}",
                hint="is libvirtd (or virtqemud) running? try: virsh -c " + uri + " list",
            ) from error

    def describe(self) -> str:
        """See `Hypervisor.describe`."""
        library, emulator = (
            ".".join(str(number // 10**power % 1000) for power in (6, 3, 0))
            for number in (self._connection.getLibVersion(), self._connection.getVersion())
        )
        return f"libvirt {library}, QEMU {emulator} at {self._uri}"

    def domains(self) -> tuple[ListedDomain, ...]:
        """See `Hypervisor.domains`."""
        states = {1: RunState.RUNNING, 3: RunState.PAUSED}
        listed = []
        for domain in self._bounded("list domains", self._list_active):
            try:
                state = states.get(domain.state()[0], RunState.OTHER)
                maximum = domain.maxMemory() * KIB
            except self._libvirt.libvirtError:
                continue  # it left between the two calls
            pid_file = str(self._run_directory / f"{domain.name()}.pid")
            listed.append(ListedDomain(domain.name(), domain.UUIDString(), state, pid_file, maximum))
        return tuple(sorted(listed))

    def xml(self, uuid: str) -> str:
        """See `Hypervisor.xml`."""
        return str(self._on_domain(uuid, "read its definition", lambda d: d.XMLDesc(0)))

    def busy_with(self, uuid: str) -> str | None:
        """See `Hypervisor.busy_with`. controlInfo needs neither job nor monitor: it never blocks."""
        state, _, milliseconds = self._on_domain(uuid, "ask its state", lambda d: d.controlInfo(0))
        if state == 1:
            return "a libvirt job (migration, save, dump or snapshot)"
        if state == 2 and milliseconds < _BRIEF_MILLISECONDS:
            return None  # somebody reads its statistics
        if state == 2:
            return f"a monitor command in flight since {milliseconds / 1000:.0f} s"
        return "a broken monitor" if state else None

    def balloon(self, uuid: str, *, now: float) -> BalloonStats:
        """See `Hypervisor.balloon`. ``last_update`` is host time, so a guest cannot fake freshness."""
        values = self._on_domain(uuid, "read its balloon", lambda d: d.memoryStats())

        def size(key: str) -> int | None:
            return values[key] * KIB if key in values else None

        if "actual" not in values:
            raise HostError(f"libvirt does not say how large the balloon of domain {uuid} is")
        updated = values.get("last_update", 0)
        return BalloonStats(
            actual_bytes=values["actual"] * KIB,
            age_seconds=max(0.0, now - updated) if updated else None,
            usable_bytes=size("usable"),
            unused_bytes=size("unused"),
            total_bytes=size("available"),
            cache_bytes=size("disk_caches"),
            swap_in_bytes=size("swap_in"),
            swap_out_bytes=size("swap_out"),
            major_faults=values.get("major_fault"),
        )

    def set_balloon(self, uuid: str, size_bytes: int) -> None:
        """See `Hypervisor.set_balloon`. Only the live domain: the definition is the operator's."""
        live = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        self._on_domain(uuid, "set its balloon", lambda d: d.setMemoryFlags(size_bytes // KIB, live))

    def resize_memory_device(self, uuid: str, alias: str, requested_bytes: int) -> None:
        """See `Hypervisor.resize_memory_device`. Only the live domain: the definition is the operator's."""
        live = self._libvirt.VIR_DOMAIN_AFFECT_LIVE
        device = resized_device(self.xml(uuid), alias, requested_bytes)
        if device is None:
            raise HostError(f"domain {uuid} has no virtio-mem device {alias}")
        doing = f"resize its memory device {alias}"
        self._on_domain(uuid, doing, lambda d: d.updateDeviceFlags(device, live))

    def ask_agent(self, uuid: str, command: str, *, seconds: int) -> str:
        """See `Hypervisor.ask_agent`. It takes a job of its own: a hung agent holds up nothing else."""
        import libvirt_qemu  # of the same binding

        def ask(domain: Any) -> str:
            return str(libvirt_qemu.qemuAgentCommand(domain, command, seconds, 0))

        return self._on_domain(uuid, "ask its guest agent", ask, deadline=seconds + CALL_DEADLINE_SECONDS)

    def _list_active(self) -> list[Any]:
        domains: list[Any] = self._connection.listAllDomains(self._libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return domains

    def _on_domain(
        self, uuid: str, doing: str, call: Callable[[Any], _T], *, deadline: float | None = None
    ) -> _T:
        return self._bounded(
            f"{doing} (domain {uuid})", lambda: call(self._connection.lookupByUUIDString(uuid)), deadline
        )

    def _bounded(self, doing: str, call: Callable[[], _T], deadline: float | None = None) -> _T:
        patience = CALL_DEADLINE_SECONDS if deadline is None else deadline
        results: list[_T] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                results.append(call())
            except self._libvirt.libvirtError as error:
                errors.append(error)

        thread = threading.Thread(target=run, name=f"libvirt: {doing}", daemon=True)
        thread.start()
        thread.join(patience)
        if errors:
            raise self._translated(doing, errors[0]) from errors[0]
        if not results:
            raise HostError(
                f"libvirt did not {doing} within {patience:.0f} s",
                hint="a hung QEMU or libvirtd; see virsh domcontrol and the domain's log",
            )
        return results[0]

    def _translated(self, doing: str, error: Any) -> HostError:
        said = error.get_error_message() or ""
        message = f"libvirt could not {doing}: {said}"
        gone = (self._libvirt.VIR_ERR_NO_DOMAIN, self._libvirt.VIR_ERR_OPERATION_INVALID)
        if error.get_error_code() in gone and "balloon" not in said and "agent" not in said:
            return Gone(message)
        return HostError(message)
