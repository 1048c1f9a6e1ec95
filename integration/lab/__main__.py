"""The lab's command line: ``python -m integration.lab``."""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from integration.lab import accel, box, deb, rpm, state
from integration.lab import soak as soak_run
from integration.lab.errors import HostVmDiedError, LabError
from integration.lab.guests import Backing, Balloon, GuestSpec
from integration.lab.hostvm import HostVm
from integration.lab.image import build as image_build
from integration.lab.lab import Lab

_OPTIONS: dict[str, Any] = {"ignore_unknown_options": True}
name_option = click.option("--name", default="lab", show_default=True, help="Which lab.")
timeout_option = click.option("--timeout", default=240.0, show_default=True, help="Seconds.")


def say(text: str) -> None:
    """Report progress; stdout is for results."""
    click.echo(text, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Run a KVM host with guests inside of a virtual machine."""


@main.command()
@click.option("--rebuild", is_flag=True, help="Build the host root anew, with today's packages.")
def build(rebuild: bool) -> None:
    """Build the images that are missing, and the checkout's package."""
    image = image_build.build(say, rebuild=rebuild)
    deb.prepare(say)
    say(f"kernels: {', '.join(image.releases)}")


@main.command("deb")
@click.option("--version", help="In place of the one that debian/changelog says.")
@click.option("--by-contents", is_flag=True, help="Have the version name the contents, as the lab does.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default="dist")
def build_deb(directory: Path, version: str | None, by_contents: bool) -> None:
    """Build the checkout's Debian package into DIRECTORY (dist), check it, and print its path."""
    click.echo(deb.build(directory, say, version=version, by_contents=by_contents))


@main.command("rpm")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default="dist")
def build_rpm(directory: Path) -> None:
    """Build the RPM package into DIRECTORY (dist) as far as Debian can, and print its path.

    rpmlint must have no complaint, it must have what the Debian package has, and leave nothing when it is
    erased.
    """
    click.echo(rpm.build(directory, say))


@main.command("accel")
def show_accel() -> None:
    """Print as JSON which accelerator host VMs get on this machine; builds nothing."""
    chosen = accel.probe(image_build.built())
    click.echo(json.dumps(asdict(chosen) | {"emulated": chosen.emulated}))


@main.command("box")
@click.option("--kernel", help="Kernel that the box boots, such as 6.12; the newest by default.")
@click.option(
    "--output", type=click.Path(path_type=Path, file_okay=False), default="dist", show_default=True,
    help="Directory.",
)  # fmt: skip
def make_box(kernel: str | None, output: Path) -> None:
    """Make a Vagrant box of the host VM and print its path."""
    image = image_build.build(say)
    begin = time.monotonic()
    path = box.make(image, kernel, output)
    say(f"box {box.name_of(image.release(kernel))}: {time.monotonic() - begin:.1f} s")
    click.echo(path)


@main.command()
@name_option
@click.option("--kernel", help="Kernel of the host VM, such as 6.12; the newest by default.")
@click.option("--memory", default="4G", show_default=True)
@click.option("--cpus", type=click.IntRange(1, 64), help="1 under emulation, else 2.")
@click.option("--nodes", type=click.IntRange(1, 2), default=1, help="2: a quarter of memory has no CPU.")
@click.option("--append", default="", help="More words for the kernel command line.")
@click.option("--reuse", is_flag=True, help="Take a running lab that matches.")
@click.option("--timeout", default=180.0, show_default=True, help="Seconds.")
def up(
    name: str, kernel: str | None, memory: str, cpus: int | None, nodes: int, append: str, reuse: bool,
    timeout: float,
) -> None:  # fmt: skip
    """Boot a host VM."""
    begin = time.monotonic()
    lab = Lab.up(
        name, kernel=kernel, memory=memory, cpus=cpus, nodes=nodes, append=append, reuse=reuse,
        timeout=timeout, say=say,
    )  # fmt: skip
    say(f"{lab.name} is up after {time.monotonic() - begin:.1f} s: {lab.vm.kernel}, "
        f"ssh port {lab.vm.ssh.port}")  # fmt: skip


@main.command()
@name_option
def push(name: str) -> None:
    """Build the checkout's Debian package, and install it in the host VM."""
    begin = time.monotonic()
    changed = Lab.find(name).push(say)
    say(f"{'installed' if changed else 'up to date'} after {time.monotonic() - begin:.1f} s")


@main.command(context_settings=_OPTIONS)
@name_option
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(name: str, command: tuple[str, ...]) -> None:
    """Run a command in the host VM; one word is a shell line."""
    sys.exit(Lab.find(name).vm.stream(command[0] if len(command) == 1 else command))


@main.command()
@name_option
def shell(name: str) -> None:
    """Open a shell in the host VM."""
    sys.exit(Lab.find(name).vm.stream("", tty=True))


@main.command()
@name_option
@click.argument("remote")
@click.argument("local", type=click.Path(path_type=Path))
def pull(name: str, remote: str, local: Path) -> None:
    """Copy out of the host VM."""
    Lab.find(name).pull(remote, local)


@main.command()
@name_option
@click.argument("local", type=click.Path(path_type=Path, exists=True))
@click.argument("remote")
def put(name: str, local: Path, remote: str) -> None:
    """Copy into the host VM."""
    Lab.find(name).put(local, remote)


@main.command()
@name_option
@click.option("--json", "as_json", is_flag=True)
def status(name: str, as_json: bool) -> None:
    """Show the labs of this machine; exit 1 when the named one is not up."""
    rows = [
        {
            "name": known.name, "alive": known.process.alive(), "kernel": known.kernel,
            "memory": known.memory, "cpus": known.cpus, "accel": known.accel, "port": known.port,
            "pid": known.process.pid, "up_seconds": round(time.time() - known.started),
        }
        for known in map(state.LabState.load, state.names()) if known
    ]  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows, indent=1))
    else:
        for row in rows:
            alive = "up" if row["alive"] else "DEAD"
            click.echo(f"{row['name']:<12} {alive:<5} {row['kernel']:<34} {row['memory']:>5}"
                       f" {row['accel']} {row['up_seconds']} s")  # fmt: skip
    sys.exit(0 if HostVm.find(name) else 1)


@main.command()
@name_option
@click.option("--all", "everything", is_flag=True, help="All labs of this machine.")
def down(name: str, everything: bool) -> None:
    """Take a host VM down and remove all it left."""
    for each in state.names() if everything else [name]:
        known = state.LabState.load(each)
        if known:
            HostVm(known).stop()
        else:
            state.forget(each)


@main.command()
@click.option("--name", default="soak", show_default=True)
@click.option("--guests", default=6, show_default=True)
@click.option("--minutes", default=15.0, show_default=True)
@click.option("--runs", default=1, show_default=True)
@click.option("--kernel", help="Kernel of the host VM; the newest by default.")
@click.option("--memory", default="4G", show_default=True)
@click.option("--append", default="", help="More words for the host VM's kernel command line.")
@click.option("--machine", default="q35", show_default=True)
@click.option("--qemu", default="", help="More arguments for the host VM's QEMU.")
@click.option("--guest-append", default="", help="More words for the guests' command line.")
@click.option("--guest-machine", default="pc", show_default=True)
@click.option("--guest-kernel", default="6.12", show_default=True)
@click.option("--workload", default="hotset", show_default=True)
@click.option("--keep", is_flag=True, help="Leave a lab that failed, to look into it.")
def soak(runs: int, minutes: float, qemu: str, **options: Any) -> None:
    """Run guests for a while and check that each of them works; exit 1 unless all runs held."""
    spec = soak_run.SoakSpec(seconds=minutes * 60, qemu_arguments=tuple(shlex.split(qemu)), **options)
    results = []
    for number in range(1, runs + 1):
        results.append(soak_run.run(spec, say))
        say(f"run {number}: {results[-1].line()}")
    click.echo(json.dumps({
        "settings": asdict(spec), "held": sum(each.passed for each in results),
        "runs": [asdict(each) for each in results],
    }, indent=1))  # fmt: skip
    sys.exit(0 if all(each.passed for each in results) else 1)


@main.group()
def guest() -> None:
    """Guests in the host VM."""


def _settings(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = {}
    for value in values:
        key, equals, setting = value.partition("=")
        if not equals:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE")
        pairs[key] = setting
    return pairs


_on_off = click.Choice(["on", "off"])


@guest.command("add")
@name_option
@click.argument("guest_name", metavar="NAME")
@click.option("--memory", default="512M", show_default=True)
@click.option("--plug", default="", help="Memory beside that, in a virtio-mem device.")
@click.option("--workload", default="idle", show_default=True)
@click.option("--set", "settings", multiple=True, callback=_settings, metavar="KEY=VALUE")
@click.option(
    "--balloon", type=click.Choice(get_args(Balloon)), default="virtio", show_default=True,
    help="nodriver: a device, but no driver for it in the guest; needy, phantom, absurd: it lies over it.",
)  # fmt: skip
@click.option("--no-balloon", is_flag=True, help="The same as --balloon none.")
@click.option("--fpr", type=_on_off, default="on", show_default=True, help="Free page reporting.")
@click.option("--autodeflate", type=_on_off, default="on", show_default=True)
@click.option("--stats-period", default=2, show_default=True)
@click.option("--vcpus", default=1, show_default=True)
@click.option("--hugepages", is_flag=True)
@click.option("--locked", is_flag=True)
@click.option("--shared", is_flag=True)
@click.option(
    "--backing",
    type=click.Choice(get_args(Backing)),
    default="",
    help="cell: a memfd that its NUMA cell shares; file: a file on the host's disk.",
)
@click.option("--nvdimm", default="", help="Persistent memory of that size, in a file.")
@click.option("--plug-pages", default="", help="Size of the huge pages that --plug is made of.")
@click.option("--tpm", is_flag=True, help="Emulate a TPM.")
@click.option("--vfio", default="", help="A PCI device of the host VM, by QEMU's command line.")
@click.option("--agent", is_flag=True, help="Run QEMU's guest agent in the guest.")
@click.option("--block-rpcs", default="", help="What the agent refuses, separated by commas.")
@click.option("--swap", default="", help="Size of a swap disk in the guest; none by default.")
@click.option("--kernel", default="6.12", show_default=True)
@click.option("--append", default="", help="More words for the guest's kernel command line.")
@timeout_option
def guest_add(
    name: str, guest_name: str, no_balloon: bool, fpr: str, autodeflate: str, balloon: Balloon,
    timeout: float, **options: Any,
) -> None:  # fmt: skip
    """Start a guest and wait until it answers."""
    spec = GuestSpec(
        guest_name, balloon="none" if no_balloon else balloon, free_page_reporting=fpr == "on",
        autodeflate=autodeflate == "on", **options,
    )  # fmt: skip
    took = Lab.find(name).guest_add(spec, timeout)
    say(f"guest {guest_name} answers after {took:.1f} s")


@guest.command("list")
@name_option
@click.option("--json", "as_json", is_flag=True)
def guest_list(name: str, as_json: bool) -> None:
    """Show the running guests."""
    guests = Lab.find(name).guest_list()
    if as_json:
        click.echo(json.dumps(guests, indent=1))
        return
    for each in guests:
        spec, mib = each["spec"], {k: v // 1024 for k, v in each.items() if isinstance(v, int)}
        click.echo(f"{each['name']:<16} {spec['workload']:<12} memory {spec['memory']:>6}"
                   f"  balloon {mib.get('balloon.current', 0):>5}M"
                   f"  rss {mib.get('balloon.rss', 0):>5}M")  # fmt: skip


@guest.command("log")
@name_option
@click.argument("guest_name", metavar="NAME")
@click.option("-f", "--follow", is_flag=True)
def guest_log(name: str, guest_name: str, follow: bool) -> None:
    """Show a guest's console."""
    lab = Lab.find(name)
    if follow:
        sys.exit(lab.vm.stream(["tail", "-n", "+1", "-f", lab.guests.console_path(guest_name)]))
    click.echo(lab.guest_log(guest_name), nl=False)


@guest.command("send", context_settings=_OPTIONS)
@name_option
@click.argument("guest_name", metavar="NAME")
@click.argument("words", nargs=-1, required=True)
@timeout_option
def guest_send(name: str, guest_name: str, words: tuple[str, ...], timeout: float) -> None:
    """Send a line to a guest and print its answer."""
    click.echo(json.dumps(Lab.find(name).guest_send(guest_name, " ".join(words), timeout)))


@guest.command("remove")
@name_option
@click.argument("guest_name", metavar="NAME")
def guest_remove(name: str, guest_name: str) -> None:
    """End a guest at once."""
    Lab.find(name).guest_remove(guest_name)


def entry() -> None:
    """Run, with errors as one line."""
    try:
        main()
    except HostVmDiedError as error:
        click.echo(f"error: {error.args[0]}; its console ends with:\n{error.console}", err=True)
        sys.exit(3)
    except LabError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    entry()
