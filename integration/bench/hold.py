"""Half an hour of overcommitd on six guests whose needs change: what it holds, gains and costs.

::

    python -m integration.bench.hold --kernel 7.3 --out docs/measurements

The guests live without it first. How long a domain stalled is its cgroup's own count; what share of its
working set was read back in a minute is the daemon's word. ``hold.json`` has what was
seen, ``hold.svg`` shows it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from integration.bench import plot, service
from integration.bench.judging import judge, table_of
from integration.lab.guests import GuestSpec
from integration.lab.lab import Lab
from integration.suite.host import Host
from integration.suite.six_guests import Role, resume, start_in_turn

HOST_MEMORY, MEMORY = "2560M", "448M"
SAMPLER = Path(__file__).parent / "sampler.py"
REMOTE = "/var/tmp/sampler"
GUESTS = (
    Role(
        GuestSpec("web", MEMORY, "phases", {"total": "192M", "hot": "32M", "hz": "0.1", "every": "100000"}),
        "touch",
    ),
    Role(
        GuestSpec("batch", MEMORY, "freed", {"total": "192M", "after": "1"}, free_page_reporting=False),
        "freed",
    ),
    Role(GuestSpec("files", MEMORY, "pagecache", {"files": "144M", "hot": "24M", "hz": "0.1"}), "read"),
    Role(GuestSpec("kv", MEMORY, "kv", {"keys": "40000", "rate": "8"}), "serve"),
    Role(
        GuestSpec("deaf", MEMORY, "hotset", {"total": "160M", "hot": "24M", "hz": "0.1"}, balloon="nodriver"),
        "touch",
    ),
    Role(GuestSpec("idle", MEMORY, "idle", {"total": "128M"}), "idle"),
)
NAMES = tuple(role.guest.name for role in GUESTS)
CHANGES = (
    (0.25, "batch", "alloc 128M"),
    (0.30, "web", "set hot=48M"),
    (0.40, "files", "set hot=40M"),
    (0.50, "batch", "free"),
    (0.55, "deaf", "set hot=40M"),
    (0.60, "kv", "set rate=16"),
    (0.65, "web", "wake"),
    (0.75, "files", "set hot=16M"),
    (0.80, "web", "set hot=16M"),
    (0.85, "deaf", "set hot=24M"),
)
"""When (share of the daemon's time) a guest's needs change: they grow, shrink and move."""
EVERY = 15.0


def say(sentence: str) -> None:
    """On stderr, with the time."""
    print(f"{time.strftime('%H:%M:%S')} hold: {sentence}", file=sys.stderr, flush=True)


def orders(alone: float, seconds: float) -> list[list[Any]]:
    """The changes at their seconds."""
    return [[alone + share * seconds, name, line] for share, name, line in CHANGES]


def prepare(host: Host) -> None:
    """All six guests at work, and the daemon ready to be started."""
    service.install(host)
    for role in GUESTS:
        start_in_turn(host, [role])
        say(f"{role.guest.name} is at work")
    resume(host, GUESTS)
    host.lab.put(SAMPLER, f"{REMOTE}.py")


def play(host: Host, alone: float, seconds: float) -> tuple[list[dict[str, Any]], list[str]]:
    """Without the daemon, then with it; the sampler's lines, and what the daemon logged."""
    config = {
        "guests": NAMES, "seconds": alone + seconds, "every": EVERY, "orders": orders(alone, seconds),
    }  # fmt: skip
    host.lab.run(f"cat > {REMOTE}.json", stdin=json.dumps(config))
    run = f"setsid python3 {REMOTE}.py {REMOTE}.json {REMOTE}.out"
    host.shell(f"{run} < /dev/null > {REMOTE}.err 2>&1 & echo $! > {REMOTE}.pid")
    began = time.monotonic()
    time.sleep(alone)
    say(f"the daemon was ready after {service.start(host):.0f} s")
    while (left := began + alone + seconds + EVERY - time.monotonic()) > 0:
        time.sleep(min(left, 60))
        say(host.shell(f"journalctl -u overcommitd -n 1 -o cat --no-pager; tail -n 2 {REMOTE}.err"))
    lines = host.shell(f"cat {REMOTE}.out").splitlines()
    return [json.loads(line) for line in lines], service.log(host)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kernel", type=click.Choice(["6.12", "7.3"]), default="7.3", show_default=True)
@click.option("--minutes", default=30.0, show_default=True, help="With the daemon.")
@click.option("--alone", default=3.0, show_default=True, help="Minutes without it, before.")
@click.option("--name", default="hold", show_default=True, help="The lab's.")
@click.option("--out", type=click.Path(path_type=Path), default=Path(), help="Where the files go.")
def main(kernel: str, minutes: float, alone: float, name: str, out: Path) -> None:
    """Hold six guests within their bounds; ten minutes more than asked for."""
    lab = Lab.up(name, kernel=kernel, memory=HOST_MEMORY, append="transparent_hugepage=never")
    try:
        host = Host(lab)
        prepare(host)
        say("all six are at work")
        lines, log = play(host, alone * 60, minutes * 60)
        service.stop(host)
    finally:
        lab.down()
    out.mkdir(parents=True, exist_ok=True)
    (out / "hold.log").write_text("\n".join(log) + "\n")
    judged = judge(lines, kernel=lab.vm.kernel)
    (out / "hold.json").write_text(json.dumps(judged, separators=(",", ":")) + "\n")
    (out / "hold.svg").write_text(plot.draw(judged))
    print("\n".join(table_of(judged)))


if __name__ == "__main__":
    main()
