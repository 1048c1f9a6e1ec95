"""Boot a host VM with four guests, show doctor, plan, apply and restore, and compare before and after."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from integration.lab.errors import LabError
from integration.lab.guests import GuestSpec
from integration.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Sequence

POLICY = Path(__file__).parent / "policy.yaml"
MEASURE_SECONDS = 20
MEMORY = "320M"
"""Of each guest: enough to show everything, little enough for an emulated processor."""
GUESTS = (
    (
        GuestSpec("web", MEMORY, "hotset", {"total": "200M", "hot": "48M", "hz": "0.5"}),
        "touch",
        "uses 48 of 200 MiB, the rest lies idle",
    ),
    (
        GuestSpec("files", MEMORY, "pagecache", {"files": "160M", "hot": "24M", "hz": "0.5"}),
        "read",
        "read 160 MiB of files once, needs 24 of them",
    ),
    (
        GuestSpec("batch", MEMORY, "freed", {"total": "200M", "after": "5"}, free_page_reporting=False),
        "freed",
        "has freed 200 MiB, and cannot report it",
    ),
    (
        GuestSpec("kv", MEMORY, "kv", {"keys": "40000"}),
        "serve",
        "memcached under a zipfian load",
    ),
)


class Sample(NamedTuple):
    """One guest at one time."""

    rate: float
    worst_milliseconds: float
    rss_mebibytes: int


def say(sentence: str) -> None:
    """A step."""
    click.secho(f"\n== {sentence}", bold=True, err=True)


def show(lab: Lab, *arguments: str) -> int:
    """Type a command in front of the audience."""
    click.secho(f"\nroot@labhost# overcommitctl {' '.join(arguments)}", fg="cyan")
    result = lab.run(["overcommitctl", *arguments], check=False, timeout=400)
    click.echo(result.stdout, nl=False)
    click.echo(result.stderr, nl=False)
    return result.returncode


def await_phase(lab: Lab, guest: str, phase: str) -> None:
    """Let a guest fill its memory before the next one starts: several at once are far slower than in turn."""
    deadline = time.monotonic() + 180
    while (now := lab.guest_send(guest, "stat")["phase"]) != phase:
        if time.monotonic() > deadline:
            raise LabError(f"guest {guest} stays in phase {now!r}")
        time.sleep(1)


def measure(lab: Lab) -> dict[str, Sample]:
    """Each guest's own rate over a while, and what the host holds for it."""
    names = [spec.name for spec, _, _ in GUESTS]
    before = {name: lab.guest_send(name, "stat") for name in names}
    time.sleep(MEASURE_SECONDS)
    samples = {}
    for name in names:
        after = lab.guest_send(name, "stat")
        pid = lab.run(["cat", f"/run/libvirt/qemu/{name}.pid"]).stdout.strip()
        rss = lab.run(["grep", "^Rss:", f"/proc/{pid}/smaps_rollup"]).stdout.split()[1]
        rate = (after["ops"] - before[name]["ops"]) / (after["t"] - before[name]["t"])
        samples[name] = Sample(rate, after["max_us"] / 1000, int(rss) // 1024)
    return samples


def compare(before: dict[str, Sample], after: dict[str, Sample]) -> Sequence[str]:
    """The table that the demonstration is about."""
    lines = ["guest    host memory (MiB)        operations/s          worst (ms)   what it does"]
    total = [0, 0]
    for spec, _, what in GUESTS:
        old, new = before[spec.name], after[spec.name]
        total[0] += old.rss_mebibytes
        total[1] += new.rss_mebibytes
        lines.append(
            f"{spec.name:<8} {old.rss_mebibytes:5} -> {new.rss_mebibytes:5} "
            f"({new.rss_mebibytes / old.rss_mebibytes - 1:+4.0%})  {old.rate:8.0f} -> {new.rate:8.0f}  "
            f"{old.worst_milliseconds:5.1f} -> {new.worst_milliseconds:5.1f}   {what}"
        )
    lines.append(f"all      {total[0]:5} -> {total[1]:5} ({total[1] / total[0] - 1:+4.0%})")
    return lines


def demonstrate(lab: Lab) -> None:
    """The main job from end to end."""
    lab.push(lambda sentence: click.echo(f"  {sentence}", err=True))
    lab.put(POLICY, "/var/tmp/policy.yaml")
    say("four guests, one after another")
    for spec, phase, what in GUESTS:
        began = time.monotonic()
        up = lab.guest_add(spec)
        await_phase(lab, spec.name, phase)
        ready = time.monotonic() - began
        click.echo(f"  {spec.name}: {what}; up after {up:.0f} s, at work after {ready:.0f} s", err=True)
    say("what this host can do, and who stands in the way")
    show(lab, "doctor")
    say(f"how the guests fare before: {MEASURE_SECONDS} s")
    before = measure(lab)
    common = ("--take-over", "--policy", "/var/tmp/policy.yaml")
    say("look for 38 s, then say what would be done; nothing changes yet")
    show(lab, "plan", *common, "-o", "/var/tmp/demo.plan")
    say("do exactly that, and believe only the host's own counters")
    status = show(lab, "apply", *common, "/var/tmp/demo.plan")
    say(f"how the guests fare after: {MEASURE_SECONDS} s")
    after = measure(lab)
    click.echo("\n".join(compare(before, after)))
    say("and back")
    show(lab, "restore")
    show(lab, "status", "--policy", "/var/tmp/policy.yaml")
    if status not in {0, 3}:
        raise LabError(f"apply ended with {status}")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", type=click.Choice(["6.12", "7.3"]), default="7.3", show_default=True)
@click.option("--keep", is_flag=True, help="Leave the host VM up; python -m integration.lab run --name demo")
def main(kernel: str, keep: bool) -> None:
    """Show the main job on real nested guests; takes a few minutes."""
    say(f"a KVM host in a virtual machine, kernel {kernel}")
    try:
        lab = Lab.up(
            "demo",
            kernel=kernel,
            append="transparent_hugepage=never",
            say=lambda sentence: click.echo(f"  {sentence}", err=True),
        )
        try:
            demonstrate(lab)
        finally:
            if not keep:
                say("cleaning up")
                lab.down()
    except LabError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
