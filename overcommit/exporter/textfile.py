"""The metrics as a file for node_exporter's textfile collector."""

from __future__ import annotations

import os
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile

from overcommit.errors import HostError
from overcommit.exporter.latest import Latest


def write(latest: Latest, path: Path, every: float) -> None:
    """Write the file, repeatedly unless ``every`` (seconds) is 0. It is replaced atomically.

    Raises:
        HostError: it cannot be written.
    """
    registry = CollectorRegistry()
    registry.register(latest)
    os.umask(0o022)  # node_exporter is another user
    while True:
        latest.refresh(max(1.0, every / 2))
        try:
            write_to_textfile(str(path), registry)
        except OSError as error:
            raise HostError(
                f"cannot write {path}: {error.strerror or error}",
                hint="the folder must be there, and this user's to write to",
            ) from error
        if every == 0:
            return
        time.sleep(every)
