"""A kernel made of a few files, for parsers that need no more than that."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from overcommit.host.kernel import Advice
from overcommit.model.facts import Residency
from overcommit.model.ranges import Range


@dataclass
class FileKernel:
    """`overcommit.host.kernel.Kernel` over a dictionary; an exception as a content is raised on reading."""

    files: dict[str, str | OSError] = field(default_factory=dict)

    def read(self, path: str) -> str:
        content = self.files.get(path, FileNotFoundError(2, "No such file or directory", path))
        if isinstance(content, OSError):
            raise content
        return content

    def read_all(self, directory: str, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.read(f"{directory}/{name}") for name in names)

    def read_tree(self, directory: str, leave_out: Collection[str]) -> dict[str, str]:
        raise AssertionError(f"a parser read all of {directory} but {leave_out}")

    def write_all(self, directory: str, writes: Sequence[tuple[str, str]], *, go_on: bool) -> tuple[int, ...]:
        raise AssertionError(f"a parser wrote {writes} below {directory} ({go_on})")

    def write(self, path: str, value: str) -> None:
        raise AssertionError(f"a parser wrote {value!r} to {path}")

    def list(self, path: str) -> tuple[str, ...]:
        inside = (name.removeprefix(path + "/") for name in self.files if name.startswith(path + "/"))
        return tuple(sorted({name.partition("/")[0] for name in inside}))

    def exists(self, path: str) -> bool:
        return path in self.files or bool(self.list(path))

    def drain(self, path: str, most_bytes: int) -> str:
        raise AssertionError(f"a parser drained {most_bytes} from {path}")

    def make_directory(self, path: str) -> None:
        raise AssertionError(f"a parser made {path}")

    def remove_directory(self, path: str) -> None:
        raise AssertionError(f"a parser removed {path}")

    def links(self, directory: str) -> tuple[str, ...]:
        return tuple(self.read(f"{directory}/{name}") for name in self.list(directory))

    def lock_holder(self, path: str) -> int | None:
        raise AssertionError(f"a parser asked who locks {path}")

    def residency(self, pid: int, ram: Sequence[Range]) -> Residency:
        raise AssertionError(f"a parser asked for the residency of {pid} in {ram}")

    def count_resident(self, pid: int, ram: Sequence[Range]) -> int:
        raise AssertionError(f"a parser counted what is resident of {pid} in {ram}")

    def advise(self, pid: int, start_time: int, ranges: Sequence[Range], advice: Advice) -> None:
        raise AssertionError(f"a parser advised {advice} about {ranges} of {pid} ({start_time})")


@pytest.fixture
def kernel_with() -> Callable[[Mapping[str, str | OSError]], FileKernel]:
    return lambda files: FileKernel(dict(files))
