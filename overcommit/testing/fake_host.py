"""A host in miniature: guests made of 1 MiB chunks, swap, and what changes them as time passes."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from overcommit.model.ranges import Range
from overcommit.testing.fake_agent import FakeAgent
from overcommit.testing.fake_files import FakeFiles
from overcommit.testing.fake_life import boot, come_back, read_files, report_free, touch
from overcommit.testing.fake_limits import swap_room
from overcommit.units import GIB, MIB

STATISTICS_PERIOD_SECONDS = 2
BOOT_SECONDS = 12.0
DEVICE_BLOCK_BYTES = 2 * MIB
_BETWEEN_BLOCKS = 8 * MIB


class Behaviour(enum.Enum):
    """How a guest reacts to its balloon, or to requests of its virtio-mem device."""

    OBEDIENT = "obedient"
    STUCK = "does not move"
    REFUSING = "libvirt refuses to set it, or to resize its device"
    PHANTOM = "says it moved, while the host gets nothing"
    HUNG = "its monitor does not answer"
    SILENT = "moves, but the driver sends no statistics any more"


@dataclass
class FakeGuest:
    """A guest and its QEMU process.

    Chunks are numbered from 0 in guest RAM, which lies at ``base``. ``free`` chunks can be given by the
    guest; the balloon takes those first. ``hot`` chunks are accessed all the time, ``cold_hints`` are
    reclaimed first, ``demoted`` ones lie on the host's second node. ``common`` chunks equal those of the same
    number in other guests. Free page reporting frees what is free, except ``scattered`` chunks until a
    compaction. QEMU ``marks_ram`` as not to be forked. ``shared``: guest RAM lies in a memfd. QEMU has
    ``open_files``, and takes ``overhead_bytes`` beyond guest RAM. ``says_usable_bytes`` is the available
    memory that it reports; None: the true value. It caches ``files`` that it reads.

    The last ``device_bytes`` of its memory are a virtio-mem device, in a separate block of RAM. The guest
    unplugs from the end, and moves used memory away, except ``unmovable`` chunks.
    """

    name: str
    uuid: str
    pid: int
    memory_bytes: int
    resident: set[int]
    hot: set[int] = field(default_factory=set)
    free: set[int] = field(default_factory=set)
    swapped: set[int] = field(default_factory=set)
    cold_hints: set[int] = field(default_factory=set)
    demoted: set[int] = field(default_factory=set)
    common: set[int] = field(default_factory=set)
    start_time: int = 1000
    behaviour: Behaviour = Behaviour.OBEDIENT
    balloon_model: str = "virtio"
    marks_ram: bool = True
    shared: bool = False
    open_files: tuple[str, ...] = ()
    overhead_bytes: int = 0
    limit_bytes: int | None = None
    swap_limit_bytes: int | None = None
    device_bytes: int = 0
    unmovable: set[int] = field(default_factory=set)
    plugged_bytes: int = 0
    requested_bytes: int = 0
    paused: bool = False
    busy_with: str | None = None
    balloon_bytes: int = 0
    balloon_target_bytes: int = 0
    says_balloon_bytes: int | None = None
    reported_usable_bytes: int = 0
    reported_cache_bytes: int = 0
    says_usable_bytes: int | None = None
    report_age_seconds: float | None = 0.0
    booting_seconds: float = 0.0
    major_faults: int = 0
    promoted_pages: int = 0
    stalled_seconds: float = 0.0
    free_page_reporting: bool = False
    scattered: set[int] = field(default_factory=set)
    agent: FakeAgent | None = None
    files: FakeFiles | None = None
    claim: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """See `start_over`."""
        carried = self.claim
        self.start_over()
        self.claim = carried

    def start_over(self) -> None:
        """Set the initial state: the balloon is empty, the device plugged, and the statistics are fresh."""
        self.balloon_bytes = self.balloon_target_bytes = self.memory_bytes - self.device_bytes
        self.plugged_bytes = self.requested_bytes = self.device_bytes
        self.booting_seconds, self.claim, self.says_balloon_bytes = 0.0, {}, None
        self.report()

    def reset(self) -> None:
        """Restart the guest in the same process.

        QEMU 10.0 keeps the balloon's target, and reports the old size until the guest's driver sends another.
        It does not if it is asked for an empty balloon.
        """
        self.booting_seconds, self.report_age_seconds = BOOT_SECONDS, None
        self.says_balloon_bytes = self.balloon_bytes

    def report(self) -> None:
        """Answer libvirt's poll for statistics, which stay the same until the next one."""
        told = self.says_usable_bytes
        self.reported_usable_bytes = self.usable_bytes if told is None else told
        self.reported_cache_bytes = len(self.cached) * MIB
        self.report_age_seconds = 0.0

    @property
    def base(self) -> int:
        """The beginning of guest RAM in QEMU's address space."""
        return 0x7F00_0000_0000 + self.pid * 64 * GIB

    @property
    def ram(self) -> Range:
        """Guest RAM in QEMU's address space, without the device's."""
        return Range(self.base, self.base + self.memory_bytes - self.device_bytes)

    @property
    def device_ram(self) -> Range:
        """The device's RAM there, after a gap."""
        start = self.ram.end + _BETWEEN_BLOCKS
        return Range(start, start + self.device_bytes)

    @property
    def cgroup(self) -> str:
        """The cgroup that its memory is charged to; by libvirt's number, another for each incarnation."""
        return f"/machine.slice/machine-qemu-{self.start_time}-{self.name}.scope/libvirt"

    def chunk_range(self, chunk: int) -> Range:
        """The addresses of a chunk."""
        first_of_device = self.ram.size // MIB
        if chunk >= first_of_device:
            start = self.device_ram.start + (chunk - first_of_device) * MIB
        else:
            start = self.base + chunk * MIB
        return Range(start, start + MIB)

    def ranges_of(self, chunks: set[int]) -> tuple[Range, ...]:
        """The addresses of several chunks, joined where they touch."""
        ordered, runs, first = sorted(chunks), [], 0
        device = self.ram.size // MIB
        for index, chunk in enumerate(ordered, start=1):
            if index == len(ordered) or ordered[index] != chunk + 1 or ordered[index] == device:
                begin = self.chunk_range(ordered[first])
                runs.append(Range(begin.start, begin.start + (index - first) * MIB))
                first = index
        return tuple(runs)

    def chunks_in(self, span: Range) -> tuple[int, ...]:
        """The chunks that lie in an address range."""
        chunks: list[int] = []
        first = 0
        for block in (self.ram, self.device_ram):
            start, end = max(span.start, block.start), min(span.end, block.end)
            chunks += range(first + (start - block.start) // MIB, first + (end - block.start) // MIB)
            first += block.size // MIB
        return tuple(chunks)

    @property
    def size_bytes(self) -> int:
        """The guest's memory."""
        return self.balloon_bytes + self.plugged_bytes

    @property
    def usable_bytes(self) -> int:
        """The memory that the guest could give."""
        held = (self.resident | self.swapped) - self.free - self.cached
        return max(0, self.size_bytes - len(held) * MIB)

    @property
    def cached(self) -> set[int]:
        """The chunks of its file cache, which it could give."""
        return self.files.cached if self.files else set()

    @property
    def in_use(self) -> set[int]:
        """The chunks that DAMON sees accessed."""
        return self.hot | self.files.touched if self.files else self.hot

    @property
    def plugged_chunks(self) -> set[int]:
        """The chunks that the guest has."""
        return set(range((self.memory_bytes - self.device_bytes + self.plugged_bytes) // MIB))


@dataclass
class FakeHost:
    """The state behind all fakes of one host.

    Time passes in steps of at most ``step_seconds``; longer steps are cheaper, and delay windows.
    ``second_node_bytes`` of its memory are on a second node. All guests are in one slice, with limits.
    ``swapped_out_bytes`` went to swap so far, and ``swapped_in_bytes`` came back, a page with each read.
    ``arc_bytes`` are in ZFS's cache. ``saved_bytes`` are saved by merging. ``workers`` are called with each
    step of time. The three hooks are for faults: ``on_read`` with the path before each read of the kernel,
    ``on_write`` and ``after_write`` with path and value around each change of the kernel or of a balloon
    (``balloon/NAME``). An exception that they raise goes to the caller.
    """

    guests: list[FakeGuest]
    total_bytes: int = 8 * GIB
    second_node_bytes: int = 0
    swap_total_bytes: int = 4 * GIB
    swapoff: bool = False
    """Swap is being turned off: nothing goes there, and its content comes back, little by little."""
    swap_of_others_bytes: int = 0
    swap_device: str = "zram0"
    swap_seconds_per_read: float = 0.0005
    zram_limit_bytes: int = 0
    swapped_out_bytes: int = 0
    swapped_in_bytes: int = 0
    swap_encrypted: bool = False
    zswap: bool = False
    huge_pages_bytes: int = 0
    arc_bytes: int = 0
    arc_minimum_bytes: int = 0
    slice_limit_bytes: int | None = None
    slice_swap_limit_bytes: int | None = None
    slice_zswap_limit_bytes: int | None = None
    slice_zswap_writeback: bool = True
    saved_bytes: int = 0
    boot_id: str = "11111111-2222-3333-4444-555555555555"
    uptime: float = 100.0
    clock_ahead_seconds: float = 0.0
    step_seconds: float = 0.5
    workers: list[Callable[[float], None]] = field(default_factory=list)
    on_read: Callable[[str], None] = lambda _path: None
    on_write: Callable[[str, str], None] = lambda _path, _value: None
    after_write: Callable[[str, str], None] = lambda _path, _value: None

    def guest(self, pid: int) -> FakeGuest | None:
        """The guest of a process; None: there is none."""
        return next((guest for guest in self.guests if guest.pid == pid), None)

    @property
    def swap_used_bytes(self) -> int:
        """Bytes in swap, of guests and of others."""
        return self.swap_of_others_bytes + sum(len(guest.swapped) for guest in self.guests) * MIB

    @property
    def available_bytes(self) -> int:
        """Available memory, as MemAvailable counts it: ZFS's cache is used memory."""
        own = sum(guest.overhead_bytes for guest in self.guests)
        taken = self.resident_bytes + own + self.zram_bytes + self.huge_pages_bytes + self.arc_bytes
        return max(0, self.total_bytes - taken + self.saved_bytes)

    @property
    def resident_bytes(self) -> int:
        """Resident bytes of all guests."""
        return sum(len(guest.resident) for guest in self.guests) * MIB

    @property
    def zram_bytes(self) -> int:
        """Memory of compressed swap, at 3:1."""
        return self.swap_used_bytes // 3 if self.swap_on_zram else 0

    @property
    def swap_on_zram(self) -> bool:
        """Whether swap is compressed memory."""
        return self.swap_device.startswith("zram")

    @property
    def second_node_free_bytes(self) -> int:
        """Free bytes of the second node."""
        return self.second_node_bytes - sum(len(guest.demoted) for guest in self.guests) * MIB

    def advance(self, seconds: float) -> None:
        """Let time pass: balloons move, kdamonds work, guests access their hot memory."""
        while seconds > 0:
            step = min(seconds, self.step_seconds)
            self.uptime += step
            seconds -= step
            for guest in self.guests:
                if guest.booting_seconds > 0:
                    boot(guest, step)
                    continue
                report_free(guest)
                _resize_device(guest)
                _move_balloon(guest)
                read_files(guest, step)
                self.swapped_in_bytes += touch(guest)
                guest.demoted &= guest.resident
                _poll(guest, step)
                if self.swapoff:
                    self.swapped_in_bytes += come_back(guest, set(sorted(guest.swapped)[:2]))
            for worker in self.workers:
                worker(step)

    def reclaim(self, guest: FakeGuest, most_bytes: int) -> int:
        """The kernel's reclaim: chunks that are not accessed, those with a cold hint first."""
        order = sorted(guest.resident - guest.hot, key=lambda chunk: (chunk not in guest.cold_hints, chunk))
        return self.page_out(guest, order, most_bytes)

    def page_out(self, guest: FakeGuest, chunks: Sequence[int], most_bytes: int) -> int:
        """Move resident chunks to swap while there is room below all limits; returns the bytes moved."""
        moved = 0
        for chunk in chunks:
            full = swap_room(self, guest) < MIB
            if chunk in guest.resident and moved + MIB <= most_bytes and not full:
                guest.resident.discard(chunk)
                guest.swapped.add(chunk)
                moved += MIB
        self.swapped_out_bytes += moved
        return moved

    def demote(self, guest: FakeGuest, chunks: Sequence[int], most_bytes: int) -> int:
        """Move resident chunks that are not accessed to the second node while there is room there."""
        moved = 0
        for chunk in chunks:
            movable = chunk in guest.resident - guest.hot - guest.demoted
            if movable and moved + MIB <= most_bytes and self.second_node_free_bytes >= MIB:
                guest.demoted.add(chunk)
                moved += MIB
        return moved

    def recall(self, guest: FakeGuest, chunks: Sequence[int], most_bytes: int) -> int:
        """Move chunks that are accessed back from the second node; returns the bytes moved."""
        moved = [chunk for chunk in chunks if chunk in guest.demoted & guest.hot][: most_bytes // MIB]
        guest.demoted.difference_update(moved)
        return len(moved) * MIB


def _move_balloon(guest: FakeGuest) -> None:
    if guest.behaviour is Behaviour.STUCK or guest.paused:
        return
    wanted = (guest.balloon_bytes - guest.balloon_target_bytes) // MIB
    if guest.balloon_bytes != guest.balloon_target_bytes:
        guest.says_balloon_bytes = None
    if wanted <= 0:
        guest.balloon_bytes = guest.balloon_target_bytes
        return
    absent = guest.plugged_chunks - guest.resident - guest.swapped
    ballooned = (guest.ram.size - guest.balloon_bytes) // MIB
    if guest.behaviour is Behaviour.PHANTOM:
        guest.balloon_bytes -= wanted * MIB
        return
    givable = sorted(guest.free & (guest.resident | guest.swapped))[:wanted]
    guest.resident.difference_update(givable)
    guest.swapped.difference_update(givable)
    guest.free.difference_update(givable)
    never_touched = max(0, len(absent) - ballooned)
    given = len(givable) + min(wanted - len(givable), never_touched)
    while given < wanted and guest.files and (chunk := guest.files.drop()) is not None:
        guest.resident.discard(chunk)
        guest.swapped.discard(chunk)
        given += 1
    guest.balloon_bytes -= given * MIB


def _resize_device(guest: FakeGuest) -> None:
    if guest.behaviour is Behaviour.STUCK or guest.paused:
        return
    while guest.plugged_bytes > guest.requested_bytes:
        chunks = guest.plugged_chunks
        block = sorted(chunks)[-DEVICE_BLOCK_BYTES // MIB :]
        used = (guest.resident - guest.free) | guest.swapped
        if len(used) > len(chunks) - len(block) or guest.unmovable & set(block):
            return
        if guest.behaviour is not Behaviour.PHANTOM:
            _move_out(guest, block, chunks - set(block))
        guest.plugged_bytes -= DEVICE_BLOCK_BYTES
    guest.plugged_bytes = guest.requested_bytes


def _move_out(guest: FakeGuest, block: Sequence[int], places: set[int]) -> None:
    """Empty a block. Used chunks move to places that are not used."""
    for chunk in block:
        if chunk in guest.cached and guest.files:
            guest.files.forget(chunk)
        elif chunk in (guest.resident - guest.free) | guest.swapped:
            place = min(places - (guest.resident - guest.free) - guest.swapped)
            guest.resident.add(place)
            guest.free.discard(place)
            if chunk in guest.hot:
                guest.hot.discard(chunk)
                guest.hot.add(place)
        for state in (guest.resident, guest.free, guest.swapped):
            state.discard(chunk)


def _poll(guest: FakeGuest, seconds: float) -> None:
    guest.report_age_seconds = (guest.report_age_seconds or 0.0) + seconds
    silent = guest.paused or guest.behaviour in {Behaviour.SILENT, Behaviour.HUNG}
    if guest.report_age_seconds >= STATISTICS_PERIOD_SECONDS and not silent:
        guest.report()
