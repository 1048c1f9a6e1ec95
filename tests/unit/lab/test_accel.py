"""What is made of a kernel's boot under KVM, and for how long that is believed."""

import subprocess
from pathlib import Path

import pytest
from pytest_mock import MockerFixture, MockType

from integration.lab import accel
from integration.lab.image.build import Image

TOO_LONG = subprocess.TimeoutExpired("qemu", accel.PROBE_SECONDS)


@pytest.fixture
def image(tmp_path: Path, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch) -> Image:
    monkeypatch.setenv("OVERCOMMIT_LAB_CACHE", str(tmp_path))
    boot_id = mocker.patch.object(accel, "BOOT_ID", tmp_path / "boot_id")
    boot_id.write_text("first\n")
    for release in ("6.12.1", "7.3.4"):
        (tmp_path / "kernels" / release).mkdir(parents=True)
    mocker.patch.object(accel, "KVM", tmp_path / "kvm").touch()
    return Image(tmp_path)


@pytest.fixture
def qemu(mocker: MockerFixture) -> MockType:
    """Says its version, and then what a test makes of it."""
    return mocker.patch("integration.lab.accel.subprocess.run")


def boots(said: str | Exception) -> list[object]:
    version = subprocess.CompletedProcess([], 0, "QEMU emulator version 10.0.2\n")
    return [version, said if isinstance(said, Exception) else subprocess.CompletedProcess([], 0, said)]


@pytest.mark.parametrize(
    ("said", "name", "why"),
    [
        ("PROBE UP nested\n", "kvm", "a kernel booted"),
        ("PROBE UP\n", "tcg,thread=single", "no nested virtualisation"),
        ("Kernel panic\n", "tcg,thread=single", "died at boot"),
        (TOO_LONG, "tcg,thread=single", "did not come up"),
    ],
    ids=["nested", "not nested", "died", "too long"],
)
def test_kvm_is_taken_where_a_kernel_boots_that_has_it_itself(
    image: Image, qemu: MockType, said: str | Exception, name: str, why: str
) -> None:
    qemu.side_effect = boots(said)
    chosen = accel.probe(image)
    assert (chosen.name, chosen.emulated, why in chosen.reason) == (name, name != "kvm", True), chosen


def test_it_is_asked_once_for_each_boot_of_the_machine(image: Image, qemu: MockType) -> None:
    qemu.side_effect = [*boots(TOO_LONG), *boots("PROBE UP nested\n")]
    assert accel.probe(image).emulated
    qemu.side_effect = [boots("")[0], *boots("PROBE UP nested\n")]
    assert accel.probe(image).emulated, "it was remembered"
    (image.root / "boot_id").write_text("second\n")
    assert accel.probe(image).name == "kvm"


def test_who_may_not_open_it_is_told_who_may(
    image: Image, mocker: MockerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mocker.patch("integration.lab.accel.os.access", return_value=False)
    assert "the group kvm may" in accel.probe(image).reason
    monkeypatch.setattr(accel, "KVM", image.root / "none")
    assert "there is no /dev/kvm" in accel.probe(image).reason
