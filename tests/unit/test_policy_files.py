"""What kinds of files a policy may be, whose, and how large (rule S13)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from overcommit.daemon.policy_file import PolicyFile
from overcommit.errors import UsageError
from overcommit.policy import files, loader
from overcommit.testing.policy_at_once import PolicyAtOnce

TEXT = "version: 1\nclasses: {all: {floor: 20%}}\ndefault_class: all\n"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    path = tmp_path / "policy.yaml"
    path.write_text(TEXT)
    path.chmod(0o644)
    (tmp_path / "policy.d").mkdir(mode=0o755)
    return path


def override(policy: Path, name: str = "x.yaml") -> Path:
    return policy.with_suffix(".d") / name


def as_pipe(policy: Path) -> None:
    os.mkfifo(override(policy))


def as_link(policy: Path) -> None:
    secret = policy.with_name("secret")
    secret.write_text("root:$6$secret\n")
    secret.chmod(0o600)
    override(policy).symlink_to(secret)


def as_endless(policy: Path) -> None:
    policy.unlink()
    policy.symlink_to("/dev/zero")


def too_large(policy: Path) -> None:
    override(policy).write_bytes(b"#" * (1 << 20) + b"\n")


def too_many(policy: Path) -> None:
    for number in range(257):
        override(policy, f"{number}.yaml").touch()


def too_much_together(policy: Path) -> None:
    for number in range(5):
        override(policy, f"{number}.yaml").write_bytes(b"#" * 1_000_000 + b"\n")


@pytest.mark.parametrize("obeyed", [True, False])
@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (as_pipe, "x.yaml: it is a pipe, no regular file"),
        (as_link, "x.yaml: it is a symbolic link; name the file itself"),
        (as_endless, "policy.yaml: it is a device, no regular file"),
        (too_large, "x.yaml: it is larger than 1024 KiB"),
        (too_many, "257 overrides in .* are more than 256"),
        (too_much_together, "are larger than 4 MiB"),
    ],
)
def test_odd_files_are_refused_at_once(
    policy: Path, spoil: Callable[[Path], None], why: str, obeyed: bool
) -> None:
    spoil(policy)
    with pytest.raises(UsageError, match=why) as caught:
        files.read_all(policy, obeyed=obeyed)
    assert "secret\n" not in str(caught.value)
    assert "$6$" not in str(caught.value)


def test_the_policy_itself_may_be_a_link_to_a_managed_file(policy: Path) -> None:
    link = policy.with_name("link.yaml")
    link.symlink_to(policy)
    assert loader.load(link).default_class == "all"


@pytest.mark.parametrize("which", ["policy", "override"])
def test_what_others_may_write_is_not_obeyed_but_can_be_validated(policy: Path, which: str) -> None:
    file = policy if which == "policy" else override(policy)
    if which == "override":
        file.write_text("classes: {all: {floor: 30%}}\n")
    file.chmod(0o666)
    with pytest.raises(UsageError, match="is not trusted: others may write to it") as caught:
        loader.load(policy)
    assert f"chmod go-w {file}" in (caught.value.hint or "")
    assert files.read_all(policy, obeyed=False)[0] == (TEXT, str(policy))


def test_the_daemon_tells_everybody_only_what_everybody_may_read(policy: Path) -> None:
    file = PolicyFile(policy, PolicyAtOnce)
    policy.write_text(TEXT + "secret_word: 1\n")
    for mode, told in (
        (0o644, "unknown key secret_word"),
        (0o600, f"not valid; to see why: overcommitctl validate {policy}"),
    ):
        policy.chmod(mode)
        file.begin()
        assert not file.read_again()
        assert f"{policy}:4:1: {told}" in (file.refused or "")
