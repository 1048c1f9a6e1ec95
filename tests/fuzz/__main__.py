"""Runs fuzzers for a time each: ``make fuzz``, or ``python -m tests.fuzz --minutes 5 --only units``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests import profiles
from tests.fuzz import repeating

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
CLIENT_TIMEOUT_SECONDS = 900.0
"""Beyond the time of a fuzzer: Hypothesis makes a finding smaller for five minutes at most, per property."""
SHOWN_LINES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one fuzzer did; ``findings`` are a property, its seed and what was said, each."""

    name: str
    examples: int
    batches: int
    seconds: float
    findings: tuple[tuple[str, int, str], ...]
    log: Path

    def lines(self) -> str:
        """For people, with the command that does the same again."""
        counted = f"{self.examples:>11,} examples  {self.batches:>5} seeds  {self.seconds:>6.0f} s"
        said = [f"{self.name:<20} {counted}  {len(self.findings)} finding(s)"]
        for test, seed, what in self.findings:
            said.append(f"  {test}, seed {seed}: {what.splitlines()[0] if what else 'ended without a word'}")
            said.append(f"    again: make fuzz ONLY={self.name} SEED={seed} MINUTES=5")
        if self.findings:
            said += [f"  the end of {self.log}:", *_end_of(self.log)]
        return "\n".join(said)


def _end_of(log: Path) -> list[str]:
    return ["    " + line for line in log.read_text(errors="replace").splitlines()[-SHOWN_LINES:]]


def run(file: Path, *, seconds: float, seed: int | None, kept: Path) -> Result:
    """One fuzzer in a process of its own: one that dies, or hangs, has found something."""
    name = file.stem.removeprefix("test_")
    report, log = kept / f"{name}.jsonl", kept / f"{name}.log"
    report.unlink(missing_ok=True)
    environment = {
        **os.environ,
        profiles.VARIABLE: "fuzz",
        profiles.CORPUS: str(kept / "corpus" / name),
        repeating.SECONDS: str(seconds),
        repeating.REPORT: str(report),
        "PYTHONPATH": str(CHECKOUT),
    }
    environment.pop(repeating.SEED, None)
    if seed is not None:
        environment[repeating.SEED] = str(seed)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.fuzz.repeating"]
    command += [
        "--timeout=0",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        "-c",
        str(CHECKOUT / "pyproject.toml"),
    ]
    began = time.monotonic()
    with log.open("w") as output:
        fuzzer = subprocess.Popen(
            [*command, str(file)], cwd=CHECKOUT, env=environment, stdout=output, stderr=output
        )
        try:
            status = fuzzer.wait(seconds + CLIENT_TIMEOUT_SECONDS)
            ended = f"ended by itself with {status}"
        except subprocess.TimeoutExpired:
            status, ended = -1, "did not end"
        finally:
            fuzzer.kill()
            fuzzer.wait()
    told = [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
    findings = [(line["test"], line["seed"], line["finding"]) for line in told if "finding" in line]
    batches = [line for line in told if "seed" in line]
    if not told or "ended" not in told[-1] or (status != 0 and not findings):
        last = batches[-1] if batches else {"test": "nothing ran", "seed": seed or 0}
        findings.append((last["test"], last["seed"], f"the process {ended}"))
    return Result(
        name=name,
        examples=sum(line.get("examples", 0) for line in told),
        batches=len({(line["test"], line["seed"]) for line in batches}),
        seconds=time.monotonic() - began,
        findings=tuple(findings),
        log=log,
    )


def main() -> int:
    """0: nothing was found. 1: something was. 2: there is no such fuzzer."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="wall time of each fuzzer")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="fuzzers at a time")
    parser.add_argument(
        "--only", default="", help="names, with commas between: the journal's is in test_journal.py"
    )
    parser.add_argument("--seed", type=int, help="the first seed of each property, instead of any")
    parser.add_argument("--directory", type=Path, default=HERE, help="where the fuzzers are")
    parser.add_argument(
        "--kept", type=Path, default=CHECKOUT / "artifacts/fuzz", help="logs and what was found"
    )
    arguments = parser.parse_args()
    only = set(filter(None, arguments.only.split(",")))
    files = {path.stem.removeprefix("test_"): path for path in sorted(arguments.directory.glob("test_*.py"))}
    if not files or only - files.keys():
        print(
            f"no fuzzer {', '.join(sorted(only - files.keys()))}; there is {', '.join(files) or 'none'}",
            file=sys.stderr,
        )
        return 2
    chosen = [path for name, path in files.items() if not only or name in only]
    arguments.kept.mkdir(parents=True, exist_ok=True)
    os.nice(10)
    print(f"{len(chosen)} fuzzer(s), {arguments.minutes:g} min each, {arguments.jobs} at a time", flush=True)

    def each(file: Path) -> Result:
        result = run(file, seconds=arguments.minutes * 60, seed=arguments.seed, kept=arguments.kept)
        print(result.lines(), flush=True)
        return result

    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        results = list(pool.map(each, chosen))
    found = sum(len(result.findings) for result in results)
    print(f"{sum(result.examples for result in results):,} examples, {found} finding(s)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
