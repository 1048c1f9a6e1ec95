"""The verbs that only look, on the machine the tests run on: nothing is changed, whatever it is."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from overcommit.errors import HostError
from overcommit.host.memory import read_boot_id
from overcommit.hypervisor.port import ListedDomain
from overcommit.model.facts import BalloonStats
from overcommit.model.moments import Wall
from overcommit.records.journal import Journal, PoolClaimed
from overcommit.testing import FakeAgent, FakeDamon, FakeGuest, FakeHost, FakeHypervisor, FakeKernel
from overcommit.units import GIB, MIB
from tests.cli.conftest import Run
from tests.installed_fakes import Unforked


class NoDomains:
    """A hypervisor on which nothing runs."""

    def describe(self) -> str:
        return "nothing, at nowhere"

    def domains(self) -> tuple[ListedDomain, ...]:
        return ()

    def xml(self, uuid: str) -> str:
        raise AssertionError(uuid)

    def busy_with(self, uuid: str) -> str | None:
        raise AssertionError(uuid)

    def balloon(self, uuid: str, *, now: Wall) -> BalloonStats:
        raise AssertionError(f"{uuid} {now}")

    def set_balloon(self, uuid: str, size_bytes: int) -> None:
        raise AssertionError(f"{uuid} {size_bytes}")

    def ask_agent(self, uuid: str, command: str, *, seconds: int) -> str:
        raise AssertionError(f"{uuid} {command} {seconds}")


@pytest.fixture(autouse=True)
def empty_host(mocker: MockerFixture) -> None:
    """Root on a host without domains; DAMON is whatever this machine's kernel says, or free."""
    mocker.patch("os.geteuid", return_value=0)
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=NoDomains())


@pytest.fixture
def damon_is_free(mocker: MockerFixture) -> None:
    mocker.patch("overcommit.control.one_controller.require_free", return_value=())


def left_in(state: Path) -> list[str]:
    return sorted(path.name for path in state.iterdir()) if state.exists() else []


def test_doctor_changes_nothing(run: Run, state: Path) -> None:
    ended = run("doctor")
    assert ended.status in {0, 4, 5}
    assert "ok       privileges: running as root" in ended.out
    assert "domains: none is running" in ended.out
    assert "Traceback" not in ended.err
    assert left_in(state) == []


def test_a_libvirt_that_does_not_say_its_version_keeps_nothing_else_from_being_told(
    run: Run, mocker: MockerFixture
) -> None:
    error = HostError("libvirt did not report its version within 10 s", hint="QEMU or libvirtd hangs")
    mocker.patch.object(NoDomains, "describe", side_effect=error)
    ended = run("doctor")
    assert "warn     libvirt: libvirt did not report its version within 10 s" in ended.out
    assert "domains: none is running" in ended.out


def test_doctor_for_programs(run: Run) -> None:
    ended = run("doctor", "--json")
    found = json.loads(ended.out)
    assert found["kind"] == "doctor"
    assert {"privileges", "DAMON", "memory", "libvirt"} <= {f["about"] for f in found["findings"]}
    assert all(f["fix"] for f in found["findings"] if f["level"] in {"fail", "conflict"})
    worst = {f["level"] for f in found["findings"]}
    assert ended.status == (5 if "fail" in worst else 4 if "conflict" in worst else 0)


@pytest.mark.usefixtures("damon_is_free")
def test_plan_changes_nothing_and_keeps_no_generation(run: Run, state: Path) -> None:
    ended = run("plan", "--detailed-exitcode")
    assert ended.status == 0
    assert "0 domains" in ended.out
    assert ended.out.endswith("No changes. The policy allows nothing that is worth taking back now.\n")
    assert left_in(state) == ["lock"]


@pytest.mark.usefixtures("damon_is_free")
def test_plan_for_programs_is_a_plan_and_can_be_saved(run: Run, tmp_path: Path) -> None:
    ended = run("plan", "--json", "-q", "-o", tmp_path / "p.json")
    assert json.loads(ended.out)["kind"] == "plan"
    assert (tmp_path / "p.json").read_text() == ended.out
    assert ended.err == ""


@pytest.mark.usefixtures("damon_is_free")
def test_plan_that_cannot_be_saved(run: Run, tmp_path: Path) -> None:
    ended = run("plan", "-o", tmp_path / "none" / "p.json")
    assert ended.status == 64
    assert f"cannot save the plan to {tmp_path}/none/p.json: there is no directory" in ended.err
    assert ended.out == "", "nobody waits for a plan that has no place"


@pytest.mark.usefixtures("damon_is_free")
def test_who_has_an_earlier_plan_open_does_not_read_the_next_one(run: Run, tmp_path: Path) -> None:
    saved = tmp_path / "p.json"
    saved.write_text("earlier")
    saved.chmod(0o666)
    with saved.open("r+") as by_anybody:
        assert run("plan", "-o", saved).status == 0
        assert by_anybody.read() == "earlier"
        by_anybody.write("later")
    assert json.loads(saved.read_text())["kind"] == "plan"
    assert saved.stat().st_mode & 0o777 == 0o600
    assert left_in(tmp_path) == ["p.json", "state"]


@pytest.mark.usefixtures("damon_is_free")
def test_a_plan_is_not_saved_through_a_link_of_anybody_s(run: Run, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root")
    for target in ("passwd", "none", "p.json"):
        link = tmp_path / "p.json"
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        ended = run("plan", "-o", link)
        assert ended.status == 64
        assert "it is a symbolic link; name the file itself" in ended.err
        assert "hint:" in ended.err
    assert (tmp_path / "passwd").read_text() == "root"


@pytest.mark.usefixtures("damon_is_free")
def test_a_plan_goes_into_a_pipe_of_one_s_own_only(run: Run, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run("plan", "-o", pipe).status == 0
    assert json.loads(os.read(reading, 1 << 16))["kind"] == "plan"
    assert run("plan", "-o", "/dev/null").status == 0
    if os.geteuid() == 0:
        os.chown(pipe, 65534, 65534)
        ended = run("plan", "-o", pipe)
        assert ended.status == 64
        assert "it is a pipe of uid 65534" in ended.err
    os.close(reading)


@pytest.mark.usefixtures("damon_is_free")
def test_a_plan_that_apply_would_not_take_is_said_to_be_one(run: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    assert "apply will refuse" not in run("plan", "-o", tmp_path / "p.json").err
    tmp_path.chmod(0o775)
    ended = run("plan", "-o", tmp_path / "p.json")
    assert ended.status == 0
    assert "apply will refuse it there: the plan" in ended.err
    assert "others may replace it in its directory (mode 0775)" in ended.err
    assert run("apply", tmp_path / "p.json").status == 4


@pytest.mark.usefixtures("damon_is_free")
def test_a_domain_that_does_not_run_is_refused(run: Run) -> None:
    ended = run("plan", "--domain", "web")
    assert ended.status == 64
    assert "error: no running domain 'web'" in ended.err
    assert "hint:  running: none" in ended.err


@pytest.mark.usefixtures("damon_is_free")
def test_applying_an_empty_plan_does_nothing(run: Run, tmp_path: Path, state: Path) -> None:
    run("plan", "-o", tmp_path / "p.json")
    ended = run("apply", tmp_path / "p.json")
    assert (ended.status, ended.out) == (0, "")
    assert "nothing to do" in ended.err
    assert left_in(state) == ["lock"]


def test_status(run: Run, state: Path) -> None:
    ended = run("status")
    assert ended.status == 0
    assert "0 domains, 0 B promised" in ended.out
    assert json.loads(run("status", "--json").out)["domains"] == []
    assert left_in(state) == []


def test_restoring_a_host_we_never_touched(run: Run) -> None:
    for _ in range(2):
        ended = run("restore")
        assert (ended.status, ended.out) == (
            0,
            "Nothing to restore: overcommit has changed nothing on this host.\n",
        )


@pytest.mark.usefixtures("damon_is_free")
def test_a_second_controller_is_refused(run: Run, state: Path) -> None:
    run("restore")
    with (state / "lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = run("plan")
    assert ended.status == 4
    assert "another controller is running" in ended.err


def test_no_colour_where_nobody_looks(run: Run) -> None:
    ended = run("doctor")
    assert "\x1b" not in ended.out + ended.err


def in_this_process(mocker: MockerFixture, version: tuple[int, int]) -> FakeKernel:
    host = FakeHost([])
    kernel = Unforked(host, FakeDamon(host, version))
    mocker.patch("overcommit.cli.session.DamonWorker", return_value=kernel)
    return kernel


@pytest.mark.parametrize(("version", "lacks"), [((6, 12), True), ((7, 3), False)])
def test_doctor_probes_what_damon_offers_and_gives_the_slot_back(
    run: Run, mocker: MockerFixture, version: tuple[int, int], lacks: bool
) -> None:
    kernel = in_this_process(mocker, version)
    found = json.loads(run("doctor", "--probe", "--json").out)["findings"]
    about_damon = {f["text"]: f["level"] for f in found if f["about"] == "DAMON"}
    assert about_damon["operations fvaddr, paddr, vaddr"] == "ok"
    assert any(text.startswith("actions ") and "pageout" in text for text in about_damon)
    assert any(text.startswith("no snapshot limit (Linux 7.0): ") for text in about_damon) is lacks
    assert ("warn" in about_damon.values()) is lacks
    assert kernel.damon.tree == {"nr_kdamonds": "0"}


COLD_NODE = """
version: 1
host: {cold_node: 1}
classes: {all: {}}
default_class: all
"""


@pytest.mark.parametrize(
    ("version", "options", "level", "says"),
    [
        (
            (7, 3),
            (),
            "ok",
            "demotion can be used if DAMON can move memory of a process (doctor --probe tests that)",
        ),
        ((7, 3), ("--probe",), "ok", "demotion can be used"),
        ((6, 12), ("--probe",), "warn", "demotion cannot: this kernel's DAMON cannot move the memory of"),
    ],
)
def test_doctor_says_whether_cold_memory_can_go_to_the_cold_node(
    run: Run,
    mocker: MockerFixture,
    tmp_path: Path,
    version: tuple[int, int],
    options: tuple[str, ...],
    level: str,
    says: str,
) -> None:
    kernel = in_this_process(mocker, version)
    kernel.host.second_node_bytes = GIB
    kernel.host.guests.append(FakeGuest("web", "uuid-1", 501, 128 * MIB, resident=set(range(100))))
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=FakeHypervisor(kernel.host))
    policy = tmp_path / "policy.yaml"
    policy.write_text(COLD_NODE)
    found = json.loads(run("doctor", "--json", "--policy", policy, *options).out)["findings"]
    (verdict,) = (f for f in found if f["text"].startswith("demotion "))
    assert (verdict["level"], verdict["text"].startswith(says)) == (level, True), verdict
    assert [f["text"] for f in found if f["about"] == "memory node 1"] == ["1.0 GiB, 1.0 GiB free"]


def test_doctor_tells_who_holds_the_memory_each_thing_once(run: Run, mocker: MockerFixture) -> None:
    host = in_this_process(mocker, (7, 3)).host
    host.huge_pages_bytes = host.arc_bytes = GIB
    host.swap_device, host.zswap, host.slice_limit_bytes = "vda2", True, 64 * MIB
    host.guests.append(FakeGuest("web", "uuid-1", 501, 128 * MIB, resident=set(range(100))))
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=FakeHypervisor(host))
    found = json.loads(run("doctor", "--json").out)["findings"]
    levels = [(f["about"], f["level"]) for f in found]
    expected = {
        "huge pages": "warn",
        "ZFS": "ok",
        "zswap": "ok",
        "swap": "warn",
        "limit of /machine.slice": "warn",
    }
    for about, level in expected.items():
        assert levels.count((about, level)) == 1, levels
    assert next(f["text"] for f in found if f["about"] == "swap").endswith("readable on the disk")


def test_status_for_programs_has_the_limit_of_the_slice(run: Run, mocker: MockerFixture) -> None:
    host = in_this_process(mocker, (7, 3)).host
    host.slice_limit_bytes = 512 * MIB
    host.guests.append(
        FakeGuest("web", "uuid-1", 501, 128 * MIB, resident=set(range(100)), overhead_bytes=30 * MIB)
    )
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=FakeHypervisor(host))
    seen = json.loads(run("status", "--json").out)
    limit = seen["host"]["slice_limit"]
    assert (limit["path"], limit["limit_bytes"], limit["current_bytes"]) == (
        "/machine.slice",
        512 * MIB,
        130 * MIB,
    )
    assert seen["domains"][0]["overhead_bytes"] == 30 * MIB


HELP = """
version: 1
classes: {all: {guest_help: [compaction]}}
default_class: all
"""


@pytest.mark.parametrize(
    ("agent", "level", "says", "fix"),
    [
        (FakeAgent(), "ok", "can be used", ""),
        (None, "warn", "cannot: no channel for a guest agent", "org.qemu.guest_agent.0"),
        (
            FakeAgent(connected=False),
            "warn",
            "cannot: its guest agent is not connected",
            "start qemu-guest-agent",
        ),
        (
            FakeAgent(blocked={"guest-file-open"}),
            "warn",
            "cannot: its guest agent may not do guest-file-open",
            "/etc/sysconfig/qemu-ga",
        ),
    ],
)
def test_doctor_says_whether_a_guest_can_be_helped_inside(
    run: Run,
    mocker: MockerFixture,
    tmp_path: Path,
    agent: FakeAgent | None,
    level: str,
    says: str,
    fix: str,
) -> None:
    kernel = in_this_process(mocker, (7, 3))
    guest = FakeGuest("web", "uuid-1", 501, 128 * MIB, resident=set(range(100)), agent=agent)
    guest.free_page_reporting = True
    kernel.host.guests.append(guest)
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=FakeHypervisor(kernel.host))
    policy = tmp_path / "policy.yaml"
    policy.write_text(HELP)
    found = json.loads(run("doctor", "--json", "--policy", policy).out)["findings"]
    (verdict,) = (f for f in found if f["text"].startswith("compaction in the guest "))
    assert (verdict["level"], verdict["text"]) == (level, f"compaction in the guest {says}")
    assert fix in verdict["fix"]


def test_doctor_asks_no_agent_where_no_class_lets_it(run: Run, mocker: MockerFixture) -> None:
    kernel = in_this_process(mocker, (7, 3))
    agent = FakeAgent()
    guest = FakeGuest("web", "uuid-1", 501, 128 * MIB, resident=set(range(100)), agent=agent)
    guest.free_page_reporting = True
    kernel.host.guests.append(guest)
    mocker.patch("overcommit.cli.session.LibvirtClient", return_value=FakeHypervisor(kernel.host))
    assert "in the guest" not in run("doctor").out
    assert agent.asked == []


def test_doctor_does_not_probe_a_damon_that_is_in_use(run: Run, mocker: MockerFixture) -> None:
    kernel = in_this_process(mocker, (7, 3))
    kernel.damon.modules["damon_stat"] = True
    ended = run("doctor", "--probe")
    assert ended.status in {4, 5}
    assert "damon_stat" in ended.out
    assert kernel.damon.tree == {"nr_kdamonds": "0"}
    assert kernel.damon.modules["damon_stat"]


def left_by_a_controller(state: Path, kernel: FakeKernel) -> Journal:
    """One that watched, and was then not heard of again."""
    journal = Journal(state)
    journal.lock()
    boot_id = read_boot_id(kernel)
    generation = journal.begin("apply", boot_id=boot_id, started_at=Wall(0.0))
    generation.record(PoolClaimed(size=1, before={}))
    return journal


def test_doctor_names_the_controller_that_has_damon(run: Run, mocker: MockerFixture, state: Path) -> None:
    journal = left_by_a_controller(state, in_this_process(mocker, (7, 3)))
    ended = run("doctor")
    journal.unlock()
    assert f"conflict DAMON: another overcommit controller is running: pid {os.getpid()}\n" in ended.out
    assert "fix: wait until it ends, or stop it" in ended.out
    assert ended.status in {4, 5}


def test_doctor_tells_a_controller_that_died_from_one_at_work(
    run: Run, mocker: MockerFixture, state: Path
) -> None:
    left_by_a_controller(state, in_this_process(mocker, (7, 3))).unlock()
    before = (state / "lock").read_text()
    ended = run("doctor")
    assert "warn     DAMON: an overcommit controller died and left its kdamonds\n" in ended.out
    assert "fix: overcommitctl restore" in ended.out
    in_force = "generation 1 (apply): 1 change in force; to undo: overcommitctl restore"
    assert f"ok       in force: {in_force}\n" in ended.out
    assert ended.status == 0
    assert (state / "lock").read_text() == before


def test_doctor_says_which_policy_verbs_use(run: Run, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(HELP)
    assert f"ok       policy: {policy}\n" in run("doctor", "--policy", policy).out


class OtherHost(Unforked):
    """One with these files, whatever the fake has."""

    files: Mapping[str, str]

    def read(self, path: str) -> str:
        return self.files[path] if path in self.files else super().read(path)

    def exists(self, path: str) -> bool:
        return path in self.files or any(p.startswith(f"{path}/") for p in self.files) or super().exists(path)


def other_host(mocker: MockerFixture, files: Mapping[str, str]) -> None:
    host = FakeHost([])
    kernel = OtherHost(host, FakeDamon(host, (6, 17)))
    kernel.files = files
    mocker.patch("overcommit.cli.session.DamonWorker", return_value=kernel)


def test_doctor_names_what_of_the_host_works_against_us(run: Run, mocker: MockerFixture) -> None:
    other_host(
        mocker,
        {
            "/proc/sys/kernel/osrelease": "6.17.2-1-pve\n",
            "/proc/sys/vm/swappiness": "0\n",
            "/sys/fs/cgroup/system.slice/earlyoom.service/cgroup.procs": "9\n",
        },
    )
    said = run("doctor").out
    assert "warn     DAMON: kernel 6.17.2-1-pve has a known fault: " in said
    assert "warn     vm.swappiness: is 0: " in said
    assert "fix: echo vm.swappiness=60 > /etc/sysctl.d/zz-swappiness.conf && sysctl -p" in said
    assert "warn     earlyoom: is active. " in said
    assert "fix: systemctl disable --now earlyoom.service" in said


def test_doctor_does_not_call_swap_none_that_it_cannot_read(run: Run, mocker: MockerFixture) -> None:
    other_host(mocker, {"/proc/swaps": "Filename Type Size Used Priority\n/swap x file 1024 0 -2\n"})
    said = run("doctor").out
    assert "warn     swap: cannot be read: /proc/swaps has a line that names no swap area: " in said
    assert "swap: none" not in said
