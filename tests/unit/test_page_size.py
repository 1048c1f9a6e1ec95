"""Pages are of the host's size: on arm64 4, 16 or 64 KiB. A page size is for a process's whole life."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from overcommit.units import KIB, MIB, PAGE_SIZE, PIECE_ALIGNMENT

ROOT = Path(__file__).parents[2]
ON_FAKES = (
    *(f"tests/unit/test_{name}.py" for name in ("swap", "swap_watch", "ksm", "accounts", "nodes", "pace")),
    *(f"tests/unit/test_{name}.py" for name in ("damon_tree", "damon_tuning", "actors", "idle", "watch")),
    *(f"tests/properties/test_{name}.py" for name in ("budget", "parts", "swap_budget")),
    *(f"tests/faults/test_{name}.py" for name in ("floor", "ksm")),
)
OF_THIS_MACHINE = (
    "--deselect",
    "tests/unit/test_damon_tree.py::test_monitor_has_the_guest_first_and_a_page_of_ours_that_outlives_it",
)
"""The page that it asks the real kernel for is as large as those of this machine."""
FIGURES = """
import json, sys
sys.path.insert(0, ".")
from overcommit.damon.schemes import Sentinel
from overcommit.damon.tree import pattern
from overcommit.host.ksm import DIRECTORY, read_ksm, read_merged
from overcommit.host.memory import parse_zram
from overcommit.host.swap import read_traffic
from overcommit.model.pain import PainBounds
from tests.unit.conftest import FileKernel

ksm = dict(run="1", pages_to_scan="100", sleep_millisecs="20", pages_shared="9", pages_sharing="16384",
           pages_unshared="32", full_scans="1")
files = {f"{DIRECTORY}/{name}": value + "\\n" for name, value in ksm.items()}
files |= {"/proc/vmstat": "pswpout 16384\\nzswpout 160\\nzswpwb 16\\n", "/proc/7/ksm_merging_pages": "16\\n"}
kernel = FileKernel(files)
traffic, merging = read_traffic(kernel), read_ksm(kernel)
(page,) = Sentinel().target.ranges
print(json.dumps({
    "written": traffic.written_bytes,
    "paged out": traffic.paged_out_bytes,
    "sharing": merging.sharing_bytes,
    "unshared": merging.unshared_bytes,
    "merged": read_merged(kernel, 7),
    "zram": parse_zram("67108864 1000 2000 0 2000 512 0 0 0\\n")[0].stored_bytes,
    "least region": pattern().size.minimum,
    "sentinel": page.size,
    "allowed a minute": PainBounds.of(0.01, 0.01, 1 << 30).promoted_pages_per_minute,
}))
"""


def run_with(page_size: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PAGE_SIZE_UNDER_TEST": str(page_size), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def test_the_kernel_says_how_large_a_page_is() -> None:
    assert os.sysconf("SC_PAGE_SIZE") == PAGE_SIZE


@pytest.mark.parametrize("kibibytes", [4, 16, 64])
def test_what_the_kernel_counts_in_pages_is_in_bytes(kibibytes: int) -> None:
    page = kibibytes * KIB
    done = run_with(page, "-c", f"import tests.page_size\n{FIGURES}")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "written": 16384 * page,
        "paged out": (16384 + 160 - 16) * page,
        "sharing": 16384 * page,
        "unshared": 32 * page,
        "merged": 16 * page,
        "zram": 64 * MIB - 512 * page,
        "least region": page,
        "sentinel": page,
        "allowed a minute": max(64, (1 << 30) / 100 / page),
    }


@pytest.mark.parametrize("kibibytes", [4, 16, 64])
def test_what_is_paged_out_is_whole_pages(kibibytes: int) -> None:
    assert PIECE_ALIGNMENT % (kibibytes * KIB) == 0


@pytest.mark.timeout(600)
def test_the_product_on_its_fakes_is_right_with_pages_of_64_kib() -> None:
    done = run_with(
        64 * KIB,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "tests.page_size",
        "-p",
        "no:randomly",
        *OF_THIS_MACHINE,
        *ON_FAKES,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
