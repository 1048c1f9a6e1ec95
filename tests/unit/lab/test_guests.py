"""What a guest's specification becomes: a libvirt domain and a kernel command line."""

import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from integration.lab.errors import LabError
from integration.lab.guests import LIARS, Balloon, GuestSpec, domain_xml

LIAR = Path(__file__).parents[3] / "integration" / "lab" / "guest" / "liar.c"


def words(spec: GuestSpec) -> set[str]:
    return {word for word in spec.command_line().split() if word.startswith("wl.")}


def devices(spec: GuestSpec) -> ET.Element:
    found = ET.fromstring(domain_xml(spec, "/kernel", "/initrd")).find("devices")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("balloon", "model", "expected"),
    [
        ("virtio", "virtio", set()),
        ("none", "none", set()),
        ("nodriver", "virtio", {"wl.balloon=off"}),
        ("needy", "virtio", {"wl.balloon=needy"}),
        ("phantom", "virtio", {"wl.balloon=phantom"}),
    ],
)
def test_a_guest_that_ignores_the_balloon_or_lies_has_the_device(
    balloon: Balloon, model: str, expected: set[str]
) -> None:
    spec = GuestSpec("g", balloon=balloon)
    assert words(spec) == expected
    (device,) = devices(spec).iter("memballoon")
    assert device.get("model") == model


def test_a_guest_has_swap_of_its_own_only_when_asked() -> None:
    assert list(devices(GuestSpec("g")).iter("disk")) == []
    spec = GuestSpec("g", swap="64M")
    assert words(spec) == {"wl.swap=on"}
    (disk,) = devices(spec).iter("disk")
    assert [element.attrib.get("file") for element in disk.iter("source")] == [spec.swap_file]
    assert disk.find("readonly") is None
    assert disk.findtext("serial") == "swap", "the guest's init knows the disk by it"


def test_the_disk_to_read_from_and_the_one_to_swap_to_are_two() -> None:
    spec = GuestSpec("g", workload="pagecache", swap="64M")
    targets = {t.get("dev") for disk in devices(spec).iter("disk") for t in disk.iter("target")}
    assert len(targets) == 2
    assert [d.find("readonly") is None for d in devices(spec).iter("disk")] == [False, True]


def test_a_setting_with_a_space_is_refused() -> None:
    with pytest.raises(LabError, match="must not contain spaces"):
        GuestSpec("g", settings={"total": "1 M"}).command_line()


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("no C compiler")
    target = tmp_path_factory.mktemp("liar") / "liar"
    flags = ["-O2", "-static", "-Wall", "-Wextra", "-Werror"]
    subprocess.run(["gcc", *flags, "-o", target, LIAR], check=True, timeout=60)
    return target


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "needy, phantom or absurd, not ''"),
        (("honest",), "needy, phantom or absurd, not 'honest'"),
        *(((role,), "only in a guest of the lab") for role in LIARS),
    ],
)
def test_the_liar_leaves_every_other_machine_alone(
    liar: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    done = subprocess.run([liar, *arguments], capture_output=True, text=True, timeout=10, check=False)
    assert (done.returncode, done.stderr) == (1, f"liar: {complaint}\n")
