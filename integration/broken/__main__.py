"""Break the product in one way at a time, and say which test of the suite notices.

::

    python -m integration.broken --kernel 7.3
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

from integration.lab import paths


@dataclass(frozen=True)
class Break:
    """``old``, which stands in the file once, becomes ``new``; the tests of ``where`` are to notice."""

    name: str
    file: str
    old: str
    new: str
    where: str


BREAKS = (
    Break(
        "page-out reports bytes that it did not free",
        "overcommit/apply/pageout.py",
        "        freed = max(0, before - context.resident_bytes(domain))",
        "        freed = action.expected_bytes + 64 * MIB",
        "test_page_out.py",
    ),
    Break(
        "floor ignored",
        "overcommit/plan/case.py",
        "    return Bounds(min(round_up(domain_class.floor * ceiling), ceiling), ceiling)",
        "    return Bounds(0, ceiling)",
        "test_limits.py::test_nothing_is_taken_below_the_floor",
    ),
    Break(
        "restore forgets the balloon",
        "overcommit/apply/restore.py",
        "    ask(move.before_bytes)\n    nudge =",
        "    yield from ()\n    return Returned(whose)\n    nudge =",
        "test_page_out.py",
    ),
    Break(
        "lease never expires",
        "overcommit/damon/schemes.py",
        "max_snapshots=looks if capabilities.snapshot_limit else 0",
        "max_snapshots=0 * looks",
        "test_daemon_faults.py::test_an_actor_of_a_dead_daemon_ends_with_its_lease",
    ),
)


def check_out(target: Path, broken: Break) -> None:
    """A copy of the checkout with the break in it.

    Raises:
        ValueError: what is to be replaced is not there exactly once.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=paths.CHECKOUT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(paths.CHECKOUT / name, target / name)
    file = target / broken.file
    text = file.read_text()
    if text.count(broken.old) != 1:
        raise ValueError(f"{broken.name}: {broken.file} has it {text.count(broken.old)} times")
    file.write_text(text.replace(broken.old, broken.new))


def play(broken: Break, kernel: str) -> dict[str, list[str]]:
    """The tests that notice, under FAILED; under SKIPPED why none of them was run on this kernel.

    Raises:
        click.ClickException: the tests could not be run, so that nothing was shown.
    """
    kept = paths.CHECKOUT / "artifacts/broken" / re.sub(r"\W+", "-", broken.name)
    with tempfile.TemporaryDirectory(prefix="broken-") as directory:
        check_out(Path(directory), broken)
        command = [
            sys.executable, "-m", "pytest", f"integration/suite/{broken.where}", "--lab", "broken",
            "--kernel", kernel, "--all", "-q", "-rfEs", "--tb=line", "--evidence", str(kept),
        ]  # fmt: skip
        # pytest leaves out reasons that its terminal is too narrow for
        wide = {**os.environ, "COLUMNS": "1000"}
        with subprocess.Popen(command, cwd=directory, env=wide, stdout=subprocess.PIPE, text=True) as running:
            try:
                said, _ = running.communicate()
            except KeyboardInterrupt:
                running.communicate()  # it takes its host VM down
                raise
    told = judge(said)
    if running.returncode not in {0, 1} or told is None:
        raise click.ClickException(f"{broken.name}: the tests could not be run:\n{said[-2000:]}")
    return told


def judge(said: str) -> dict[str, list[str]] | None:
    """The tests that noticed, under FAILED, and why some were not run, under SKIPPED, where none passed.

    None where one came to no judgement: a host VM that died, or a time that was up, has noticed nothing.
    """
    told: dict[str, list[str]] = {
        word: re.findall(rf"^{word} (.*)$", said, re.MULTILINE) for word in ("FAILED", "SKIPPED", "ERROR")
    }
    if told["ERROR"] or not all(re.search(r" - (AssertionError|assert)\b", line) for line in told["FAILED"]):
        return None
    if re.search(r"\d+ passed", said):
        told["SKIPPED"].clear()
    return told


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", type=click.Choice(["6.12", "7.3"]), default="7.3", show_default=True)
@click.option("--only", default="", help="Those with this in their name.")
def main(kernel: str, only: str) -> None:
    """Break the product in each way; fails where nobody notices. Some minutes each, on a host VM."""
    unseen = 0
    chosen = [broken for broken in BREAKS if only in broken.name]
    if not chosen:
        names = "; ".join(broken.name for broken in BREAKS)
        raise click.BadParameter(f"none has {only!r} in its name: {names}", param_hint="--only")
    for broken in chosen:
        began = time.monotonic()
        told = play(broken, kernel)
        verdict = "; ".join(line[:160] for line in told["FAILED"] or told["SKIPPED"]) or "NOBODY NOTICED"
        unseen += verdict == "NOBODY NOTICED"
        print(f"{broken.name} ({time.monotonic() - began:.0f} s): {verdict}", flush=True)
    sys.exit(1 if unseen else 0)


if __name__ == "__main__":
    main()
