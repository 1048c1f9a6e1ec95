"""The ``overcommit-exporter`` program: its options, and how it ends.

The Prometheus library, which may not be installed, is loaded only when it is needed.
"""

from __future__ import annotations

import argparse
import gc
import importlib.resources
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from overcommit.display import plain
from overcommit.errors import OvercommitError, Unsupported, UsageError
from overcommit.program import end, option_parser

PROGRAM = "overcommit-exporter"
DEFAULT_ADDRESS = "127.0.0.1"
DEFAULT_PORT = 10960
"""All ports from 9100 to 9999, which the Prometheus project assigns to exporters, are taken."""
MOST_DOMAINS = 250
_GARBAGE_OBJECTS = 200_000
"""A page has no reference cycles. To search for them took a tenth of the time."""
_UNIT = "overcommit-exporter.service"
_DESCRIPTION = """\
Serve the state of overcommitd as metrics for Prometheus, until it is stopped.

It asks overcommitd for its status at each scrape, at most once a second. While overcommitd does not answer,
it serves the last known values: overcommit_up is 0, and overcommit_status_age_seconds says how old they are.
docs/metrics.md lists all metrics.
"""


def options_of(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed options.

    Raises:
        UsageError: an option is not known, or its value is invalid.
    """
    parser = option_parser(PROGRAM, _DESCRIPTION)
    parser.add_argument(
        "--listen",
        metavar="ADDRESS:PORT",
        default=f"{DEFAULT_ADDRESS}:{DEFAULT_PORT}",
        help="Where to serve. [default: %(default)s]",
    )
    parser.add_argument(
        "--textfile",
        metavar="PATH",
        type=Path,
        help="Serve nothing: write the metrics to this file, which ends in .prom, for node_exporter.",
    )
    parser.add_argument(
        "--every",
        metavar="SECONDS",
        type=float,
        default=15.0,
        help="How often to write the file; 0: once. [default: %(default)s]",
    )
    parser.add_argument(
        "--most-domains",
        metavar="N",
        type=int,
        default=MOST_DOMAINS,
        help="Domains with series of their own; the others are summed. [default: %(default)s]",
    )
    parser.add_argument("--print-unit", action="store_true", help="Print a unit for systemd, and end.")
    options = parser.parse_args(arguments)
    if options.most_domains < 0:
        raise UsageError(f"--most-domains {options.most_domains}: below 0", hint="--most-domains 500")
    if not 0 <= options.every < float("inf"):
        raise UsageError(f"--every {options.every}: no time", hint="--every 15")
    if options.textfile is not None and options.textfile.suffix != ".prom":
        raise UsageError(
            f"{options.textfile} does not end in .prom: node_exporter would not read it",
            hint="--textfile /var/lib/prometheus/node-exporter/overcommit.prom",
        )
    return options


def address_of(text: str) -> tuple[str, int]:
    """Address and port of ``127.0.0.1:10960`` or ``[::1]:10960``.

    Raises:
        UsageError: the text has another form.
    """
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if found is None or int(found[3]) > 65535:
        raise UsageError(
            f"--listen {text}: not ADDRESS:PORT", hint=f"--listen {DEFAULT_ADDRESS}:{DEFAULT_PORT}"
        )
    return found[1] or found[2], int(found[3])


def unit(program: str) -> str:
    """The systemd unit that runs ``program`` (a path)."""
    template = importlib.resources.files("overcommit.exporter").joinpath(_UNIT).read_text()
    return template.replace("@EXPORTER@", program)


def exporter(arguments: Sequence[str]) -> None:
    """Run until a signal stops it.

    Raises:
        Unsupported: the Prometheus library is not installed.
        OvercommitError: it cannot start, or cannot continue.
    """
    options = options_of(arguments)
    if options.print_unit:
        print(unit(str(Path(sys.argv[0]).resolve())), end="")
        return
    address, port = address_of(options.listen)
    try:
        from overcommit.exporter.latest import Latest
        from overcommit.exporter.serving import server
        from overcommit.exporter.textfile import write
    except ModuleNotFoundError as error:
        raise Unsupported(
            f"the Python module {error.name} is not installed",
            hint="apt-get install python3-prometheus-client, or: pip install prometheus-client",
        ) from error
    latest = Latest(most_domains=options.most_domains, say=_say)
    if options.textfile is not None:
        write(latest, options.textfile, options.every)
        return
    gc.set_threshold(_GARBAGE_OBJECTS)
    with server(latest, address, port) as serving:
        serving.serve_forever()


def _say(sentence: str) -> None:
    print(plain(" ".join(sentence.split("\n"))), file=sys.stderr, flush=True)


def main() -> None:
    """Run, and end with one of the documented exit statuses."""
    try:
        exporter(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except OvercommitError as error:
        end(error)
