"""KSM over a `FakeHost`: ksmd scans all guests' memory and merges their common chunks."""

from __future__ import annotations

import errno

from overcommit.host.ksm import DIRECTORY
from overcommit.testing.fake_host import FakeGuest, FakeHost
from overcommit.testing.fake_kdamond import refusal
from overcommit.units import MIB, PAGE_SIZE

_DEFAULT_PAGES, _ADVISED_PAGES = "100", "500"
_SETTINGS = {"run": "0", "pages_to_scan": _DEFAULT_PAGES, "sleep_millisecs": "20", "merge_across_nodes": "1"}
_ADVISOR = {"advisor_mode": "none", "advisor_target_scan_time": "200"}
_MODES = ("none", "scan-time")
_RMAP_ITEM_BYTES = 64
_PAGES_PER_CHUNK = MIB // PAGE_SIZE
_SCANS_TO_MERGE = 2


class FakeKsm:
    """The files below ``/sys/kernel/mm/ksm``. ``present`` False is a kernel without KSM."""

    def __init__(self, host: FakeHost, version: tuple[int, int]) -> None:
        self.present = True
        self.settings = _SETTINGS | (_ADVISOR if version >= (6, 8) else {})
        self._host = host
        self._scanned_bytes = 0.0
        self._merged: dict[int, set[int]] = {}
        host.workers.append(self._scan)

    def read(self, path: str) -> str:
        """The content of a file."""
        name = path.removeprefix(f"{DIRECTORY}/")
        if self.present and name == "advisor_mode" and name in self.settings:
            modes = (f"[{mode}]" if mode == self.settings[name] else mode for mode in _MODES)
            return " ".join(modes) + "\n"
        shown = {**self.settings, **{name: str(count) for name, count in self._counters().items()}}
        if not self.present or name not in shown:
            raise refusal(errno.ENOENT, path)
        return shown[name] + "\n"

    def write(self, path: str, value: str) -> None:
        """Accept or refuse a value as mm/ksm.c does."""
        name = path.removeprefix(f"{DIRECTORY}/")
        if not self.present or name not in self.settings:
            raise refusal(errno.ENOENT if name not in self._counters() else errno.EACCES, path)
        advised = self.settings.get("advisor_mode") == "scan-time"
        allowed = {"run": ("0", "1", "2"), "advisor_mode": _MODES, "merge_across_nodes": ("0", "1")}
        wrong = value not in allowed[name] if name in allowed else not value.isdecimal()
        if wrong or (name == "pages_to_scan" and advised):
            raise refusal(errno.EINVAL, path)
        if name == "merge_across_nodes" and value != self.settings[name] and self._merged:
            raise refusal(errno.EBUSY, path)
        if name == "advisor_mode" and value != self.settings[name]:
            self.settings["pages_to_scan"] = _DEFAULT_PAGES if value == "none" else _ADVISED_PAGES
        self.settings[name] = value
        if (name, value) == ("run", "2"):
            self._merged.clear()
            self._account()

    def merged_pages(self, guest: FakeGuest) -> int:
        """Pages of a guest that are merged with any other."""
        return sum(guest.pid in pids for pids in self._merged.values()) * _PAGES_PER_CHUNK

    @property
    def _mergeable_bytes(self) -> int:
        return self._host.resident_bytes

    def _scan(self, seconds: float) -> None:
        """Scan. Accessed chunks count as written, and are not merged."""
        self._forget()
        if self.settings["run"] == "1" and self._mergeable_bytes:
            looks = seconds * 1000 / int(self.settings["sleep_millisecs"])
            self._scanned_bytes += looks * int(self.settings["pages_to_scan"]) * PAGE_SIZE
            if self._full_scans >= _SCANS_TO_MERGE:
                self._merge()
        self._account()

    def _merge(self) -> None:
        for chunk in set().union(*(guest.common for guest in self._host.guests)):
            pids = {g.pid for g in self._host.guests if chunk in (g.common & g.resident) - g.hot}
            if len(pids) > 1:
                self._merged[chunk] = pids

    def _forget(self) -> None:
        """Forget merged chunks that have left memory, or whose guest has ended."""
        resident = {guest.pid: guest.resident for guest in self._host.guests}
        for chunk, pids in list(self._merged.items()):
            kept = {pid for pid in pids if chunk in resident.get(pid, set())}
            if kept:
                self._merged[chunk] = kept
            else:
                del self._merged[chunk]

    def _account(self) -> None:
        self._host.saved_bytes = self._sharing * PAGE_SIZE

    @property
    def _full_scans(self) -> int:
        return int(self._scanned_bytes // self._mergeable_bytes) if self._mergeable_bytes else 0

    @property
    def _sharing(self) -> int:
        return sum(len(pids) - 1 for pids in self._merged.values()) * _PAGES_PER_CHUNK

    def _counters(self) -> dict[str, int]:
        looked_at = self._mergeable_bytes // PAGE_SIZE if self._scanned_bytes else 0
        shared = len(self._merged) * _PAGES_PER_CHUNK
        return {
            "pages_shared": shared,
            "pages_sharing": self._sharing,
            "pages_unshared": looked_at - shared - self._sharing if looked_at else 0,
            "full_scans": self._full_scans,
            "general_profit": self._sharing * PAGE_SIZE - looked_at * _RMAP_ITEM_BYTES,
        }
