"""A kdamond as data, and the writes that make it so."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence

import pytest

from overcommit.damon.capabilities import FEATURES, Capabilities, template
from overcommit.damon.codec import Write, difference, render
from overcommit.damon.schemes import (
    ACTOR_INTERVALS,
    MONITOR_INTERVALS,
    RECHECK_AGGREGATIONS,
    Sentinel,
    fvaddr_actor,
    fvaddr_migration,
    monitor,
    paddr_actor,
    with_pain,
)
from overcommit.damon.sysfs import DamonSysfs, busy_deadline_of
from overcommit.damon.tree import Context, Filter, Kdamond, Scheme, Target, Weights, parse_regions
from overcommit.errors import HostError, Unsupported
from overcommit.model.heat import AccessRegion
from overcommit.model.ranges import Range, normalise, total_size
from overcommit.testing import FakeDamon, FakeHost, FakeKernel
from overcommit.units import GIB, MIB, PAGE_SIZE

GUEST = Target.of(42, (Range(0, GIB), Range(4 * GIB, 5 * GIB)))


def offering(version: tuple[int, int]) -> Capabilities:
    host = FakeHost([])
    tree = DamonSysfs(FakeKernel(host, FakeDamon(host, version)))
    tree.set_slots(1)
    return tree.probe(0)


MODERN, OLD = offering((7, 3)), offering((6, 12))
C, S = "contexts/0", "contexts/0/schemes/0"


def actor(capabilities: Capabilities = MODERN, target: Target = GUEST) -> Kdamond:
    return fvaddr_actor(target, max_bytes_per_second=50 * MIB, lease_seconds=300.0, capabilities=capabilities)


def scheme_of(kdamond: Kdamond) -> Scheme:
    (context,) = kdamond.contexts
    (scheme,) = context.schemes
    return scheme


def context_of(kdamond: Kdamond) -> Context:
    return kdamond.contexts[0]


def files(writes: Iterable[Write]) -> dict[str, str]:
    listed = list(writes)
    assert len({w.path for w in listed}) == len(listed), "a file is written twice"
    return dict(listed)


def regions_of(kdamond: Kdamond, target: int = 0) -> list[Range]:
    bounds = list(context_of(kdamond).targets[target].ranges)
    assert bounds == sorted(bounds), "the kernel refuses regions that are not in order"
    return bounds


@pytest.mark.parametrize("kdamond", [monitor(GUEST, Sentinel()), actor()], ids=["monitor", "actor"])
def test_ranges_are_split_beforehand_into_as_many_regions_as_are_allowed_at_least(kdamond: Kdamond) -> None:
    """Older kernels start with one region per range, which one accessed page makes hot as a whole."""
    regions = regions_of(kdamond)
    assert normalise(regions) == GUEST.ranges
    limits = context_of(kdamond).attributes.regions
    assert limits.minimum / 2 <= len(regions) <= limits.maximum
    assert all(region.start % (2 * MIB) == 0 for region in regions)


def test_monitor_only_looks() -> None:
    written = files(render(monitor(GUEST, Sentinel())))
    assert scheme_of(monitor(GUEST, Sentinel())).action == "stat"
    assert not {f"{S}/action", f"{S}/quotas/bytes"} & written.keys(), "a new scheme looks only, without limit"
    assert written[f"{S}/access_pattern/nr_accesses/max"] == str(2**32 - 1)
    assert written[f"{C}/operations"] == "fvaddr"
    assert written[f"{C}/monitoring_attrs/intervals/sample_us"] == "100000"
    assert written[f"{C}/monitoring_attrs/intervals/aggr_us"] == "2000000"


def test_monitor_has_the_guest_first_and_a_page_of_ours_that_outlives_it() -> None:
    sentinel = Sentinel()
    kdamond = monitor(GUEST, sentinel)
    guest, ours = context_of(kdamond).targets
    assert guest.pid == 42
    assert [r.size for r in normalise(regions_of(kdamond))] == [GIB, GIB]
    assert ours == sentinel.target
    (page,) = ours.ranges
    assert page.size == PAGE_SIZE
    assert page.start % PAGE_SIZE == 0


def test_actor_takes_only_what_was_not_accessed_at_all_and_was_looked_at_again() -> None:
    written = files(render(actor()))
    assert written[f"{S}/action"] == "pageout"
    assert scheme_of(actor()).pattern.accesses.maximum == 0
    assert written[f"{S}/access_pattern/age/min"] == str(RECHECK_AGGREGATIONS)


def test_actor_is_bounded_in_rate_and_never_touches_the_sentinel() -> None:
    written = files(render(actor()))
    window = int(written[f"{S}/quotas/reset_interval_ms"]) / 1000
    assert int(written[f"{S}/quotas/bytes"]) == 50 * MIB * window
    assert written[f"{C}/targets/nr_targets"] == "1"


def test_the_first_unlimited_quota_window_is_over_before_any_region_is_old_enough() -> None:
    kdamond = actor()
    intervals = context_of(kdamond).attributes.intervals
    old_enough = scheme_of(kdamond).pattern.age.minimum * intervals.aggregation_seconds
    assert old_enough > scheme_of(kdamond).quota.reset_seconds


def test_a_dead_controllers_actor_ends_by_itself_where_the_kernel_can() -> None:
    """Each look at all that is idle takes as long as its quota needs for that."""
    looks = int(files(render(actor(MODERN)))[f"{S}/stats/max_nr_snapshots"])
    sweep = max(1.0, total_size(GUEST.ranges) / (50 * MIB))
    assert 300.0 - sweep < looks * sweep * ACTOR_INTERVALS.aggregation_seconds <= 300.0
    assert f"{S}/stats/max_nr_snapshots" not in files(render(actor(OLD)))


def migration(capabilities: Capabilities) -> Kdamond:
    return fvaddr_migration(
        GUEST, 1, max_bytes_per_second=50 * MIB, lease_seconds=300.0, capabilities=capabilities
    )


def test_migration_moves_what_was_not_accessed_and_looks_at_each_page_again() -> None:
    scheme, pageout = scheme_of(migration(MODERN)), scheme_of(actor())
    assert (scheme.action, scheme.target_nid) == ("migrate_cold", 1)
    assert scheme.ops_filters == (Filter(kind="young", matching=True, allow=False),)
    assert (scheme.pattern, scheme.limit.max_snapshots) == (pageout.pattern, 300)
    assert (scheme.quota.size, scheme.quota.reset_seconds) == (50 * MIB, pageout.quota.reset_seconds)


def test_what_migration_leaves_costs_little_where_the_kernel_can() -> None:
    new, older = (scheme_of(migration(offering(v))).quota for v in ((7, 2), (6, 17)))
    assert new.fail_charge_num / new.fail_charge_denom == 0.001
    assert older.fail_charge_denom == 0


def test_migration_of_what_is_in_use_moves_what_was_accessed_at_the_same_pace() -> None:
    """No region comes before another: the hottest, which lie on the node already, would take each turn."""
    back = scheme_of(
        fvaddr_migration(
            GUEST, 0, in_use=True, max_bytes_per_second=50 * MIB, lease_seconds=300.0, capabilities=MODERN
        )
    )
    there = scheme_of(migration(MODERN))
    assert (back.action, back.target_nid) == ("migrate_hot", 0)
    assert back.ops_filters == (Filter(kind="young", matching=False, allow=False),)
    assert (back.pattern.accesses.minimum, back.pattern.age.minimum) == (1, 0)
    assert back.pattern.accesses.maximum >= 10
    assert (back.quota, back.limit) == (there.quota, there.limit)
    assert back.quota.weights == Weights()


@pytest.mark.parametrize("version", [(6, 12), (6, 16)])
def test_migration_is_refused_by_what_a_kernel_offers_not_by_the_word_which_it_takes(
    version: tuple[int, int],
) -> None:
    capabilities = offering(version)
    assert "migrate_cold" in capabilities.keywords[f"{S}/action"]
    with pytest.raises(Unsupported, match="cannot move the memory of a process"):
        migration(capabilities)


@pytest.mark.parametrize("size", [MIB, 16 * MIB, GIB, 64 * GIB, 1024 * GIB])
def test_regions_stay_within_what_the_kernel_and_the_host_can_take(size: int) -> None:
    target = Target.of(1, (Range(0, size),))
    for kdamond in (monitor(target, Sentinel()), actor(target=target)):
        limits = context_of(kdamond).attributes.regions
        assert 3 <= limits.minimum < limits.maximum <= 2000  # below 3 the kernel says EINVAL


@pytest.mark.parametrize("kdamond", [monitor(GUEST, Sentinel()), actor()], ids=["monitor", "actor"])
def test_a_directory_exists_before_it_is_used(kdamond: Kdamond) -> None:
    """Writing N to ``nr_x`` makes ``x/0`` to ``x/N-1``; every numbered directory needs its count first."""
    made: dict[str, int] = {}
    for path, value in render(kdamond):
        for match in re.finditer(r"(.*?/?(?:contexts|targets|regions|schemes))/(\d+)/", path):
            parent = path[: match.end(1)]
            assert int(match[2]) < made.get(parent, 0), f"{path} before its directory"
        if "/nr_" in path and path.rpartition("/nr_")[2] in {"contexts", "targets", "regions", "schemes"}:
            made[path.rpartition("/")[0]] = int(value)


@pytest.mark.parametrize("kdamond", [monitor(GUEST, Sentinel()), actor()], ids=["monitor", "actor"])
def test_every_upper_bound_of_the_pattern_is_open_or_meant(kdamond: Kdamond) -> None:
    """The kernel's defaults are 0, which would match next to nothing."""
    pattern = scheme_of(kdamond).pattern
    assert pattern.size.maximum == 2**64 - 1
    assert pattern.age.maximum == 2**32 - 1


def test_what_a_kernel_lacks_is_named_with_the_version_that_brought_it() -> None:
    list(MODERN.require(render(actor(MODERN))))
    with pytest.raises(Unsupported, match="max_nr_snapshots") as refusal:
        list(OLD.require(render(actor(offering((7, 0))))))
    assert refusal.value.hint == "it came with Linux 7.0"


BEFORE_TUNING = offering((7, 0))


def test_pain_is_told_as_a_goal_and_nothing_else_changes() -> None:
    """At the bound the goal is reached, and DAMON takes nothing."""
    calm = actor(MODERN)
    goal = f"{S}/quotas/goals/0"
    assert files(render(calm))[f"{S}/quotas/goal_tuner"] == "temporal"
    assert files(render(calm))[f"{goal}/target_value"] == "10000"
    for pain, current in ((0.5, "5000"), (1.0, "10000"), (float("inf"), "20000")):
        assert list(difference(calm, with_pain(calm, pain))) == [(f"{goal}/current_value", current)]


def test_without_a_goal_pain_changes_nothing() -> None:
    for kdamond in (actor(BEFORE_TUNING), monitor(GUEST, Sentinel()), Kdamond()):
        assert with_pain(kdamond, 0.7) == kdamond


def test_features_show_in_the_files_of_the_kernel_that_brought_them() -> None:
    assert MODERN.missing() == ()
    assert {feature.name for feature in OLD.missing()} == {feature.name for feature in FEATURES}
    for feature in FEATURES:
        major, minor = map(int, feature.since.split("."))
        before = (major, minor - 1) if minor else (major - 1, 19)
        assert feature.file in offering((major, minor)).files
        assert feature.file not in offering(before).files


def test_words_are_probed_too() -> None:
    assert "collapse" in MODERN.keywords[f"{S}/action"]
    assert "collapse" not in OLD.keywords[f"{S}/action"]
    assert f"{S}/quotas/goal_tuner" not in OLD.keywords


def test_a_path_is_reduced_to_its_shape() -> None:
    assert template("contexts/0/targets/12/regions/3/start") == "contexts/N/targets/N/regions/N/start"


HOST_RAM = (Range(0x1000, 0x9F000), Range(0x100000, GIB), Range(4 * GIB, 8 * GIB))


def by_physical_address(capabilities: Capabilities) -> Kdamond:
    return paddr_actor(
        HOST_RAM, "/machine.slice/x", most_bytes=MIB, lease_seconds=15.0, capabilities=capabilities
    )


@pytest.mark.parametrize("capabilities", [OLD, MODERN], ids=["6.12", "7.3"])
def test_paging_out_by_physical_address_rejects_all_memory_but_the_cgroups(
    capabilities: Capabilities,
) -> None:
    """Allowing the cgroup's would skip the kernel's own check for accessed pages."""
    kdamond = by_physical_address(capabilities)
    list(capabilities.require(render(kdamond)))
    scheme = scheme_of(kdamond)
    (only,) = scheme.ops_filters or scheme.filters
    assert (only.kind, only.matching, only.allow, only.memcg_path) == (
        "memcg",
        False,
        False,
        "/machine.slice/x",
    )
    assert (scheme.ops_filters == ()) is (capabilities is OLD)
    assert (scheme.quota.fail_charge_denom > 0) is (capabilities is MODERN)
    assert scheme.quota.size == MIB
    assert scheme.limit.max_snapshots == (0 if capabilities is OLD else 15)
    assert scheme.quota.reset_seconds >= 3600, "so much once, and no more"


def test_physical_memory_is_one_target_with_all_its_blocks() -> None:
    (target,) = context_of(by_physical_address(MODERN)).targets
    assert normalise(target.ranges) == HOST_RAM


def test_idle_resolution_is_one_snapshot_of_the_monitor() -> None:
    assert MONITOR_INTERVALS.aggregation_seconds > 10 * MONITOR_INTERVALS.sample_seconds


def region_files(index: str, start: int, end: int, accesses: int = 0, age: int = 3) -> dict[str, str]:
    values = {"start": start, "end": end, "nr_accesses": accesses, "age": age}
    return {f"{index}/{name}": f"{value}\n" for name, value in values.items()}


def test_regions_are_sorted_by_address_not_by_directory_name() -> None:
    files = region_files("10", 0, 4096, 7, 1) | region_files("9", 8192, 12288, 0, 30)
    assert parse_regions(files) == (AccessRegion(0, 4096, 7), AccessRegion(8192, 12288, 0))


@pytest.mark.parametrize("lost", ["start", "end", "nr_accesses"])
def test_region_replaced_while_being_read_is_left_out(lost: str) -> None:
    files = region_files("0", 0, 4096) | region_files("1", 4096, 8192)
    del files[f"1/{lost}"]
    assert parse_regions(files) == (AccessRegion(0, 4096, 0),)


def test_no_regions() -> None:
    assert parse_regions({}) == ()


class Refusing(FakeKernel):
    """A kernel that takes nothing in files of one name."""

    def __init__(self, host: FakeHost, name: str, number: int) -> None:
        super().__init__(host, FakeDamon(host, (7, 3)))
        self.refuses, self.number = "", number
        self.tree = DamonSysfs(self)
        self.tree.set_slots(1)
        self.refuses = name

    def write_all(self, directory: str, writes: Sequence[tuple[str, str]], *, go_on: bool) -> tuple[int, ...]:
        assert not go_on
        for number, (path, value) in enumerate(writes):
            try:
                self.write(f"{directory}/{path}", value)
            except OSError as error:
                return (*[0] * number, error.errno or 0)
        return (0,) * len(writes)

    def write(self, path: str, value: str) -> None:
        if self.refuses and path.rpartition("/")[2] == self.refuses:
            raise OSError(self.number, os.strerror(self.number), path)
        super().write(path, value)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EBUSY])
@pytest.mark.parametrize("name", ["start", "end"])
def test_no_message_says_where_a_process_s_memory_lies(name: str, number: int) -> None:
    """Everybody may read it in the status."""
    kernel = Refusing(FakeHost([]), name, number)
    pieces = (Range(0x7F12_3456_0000, 0x7F12_3496_0000),)
    wanted = actor(target=Target.of(42, pieces))
    with busy_deadline_of(0.0), pytest.raises(HostError) as caught:
        kernel.tree.configure(0, wanted, MODERN)
    assert f"/{name}" in str(caught.value)
    assert str(pieces[0].start)[:6] not in str(caught.value)
