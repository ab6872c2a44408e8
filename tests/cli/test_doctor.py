"""What a machine can hold: reading machines that we made up, and the command on this one."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fanout.doctor import report
from fanout.doctor.calibration import calibrated
from fanout.doctor.capacity import UNLIMITED, Costs, Limits, Plan
from fanout.doctor.machine import memory_limit_bytes, read_limits

from .running import error, fanout, good

COSTS = Costs()
USUAL = Plan(workers=2, processes=2, connections_max=100_000, admit_per_s=4_000)

# --- Reading a machine


def machine(root: Path, **files: str) -> Path:
    """Write a machine's files; "__" stands for "/"."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def read(root: Path) -> Limits:
    return read_limits(root, files=(1024, 524_288), cores=4)


@pytest.fixture(autouse=True)
def _no_kubernetes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def test_what_is_not_there_is_unknown(tmp_path: Path) -> None:
    assert read(tmp_path) == msgspec.structs.replace(
        Limits(files_soft=1024, files_hard=524_288, cores=4), source_addresses=read(tmp_path).source_addresses
    )


def test_every_limit_is_read(tmp_path: Path) -> None:
    machine(
        tmp_path,
        proc__sys__fs__nr_open="1048576\n",
        proc__sys__fs__file_max="",
        proc__meminfo="MemTotal: 8 kB\nMemAvailable:    4096 kB\n",
        proc__sys__net__ipv4__ip_local_port_range="32768\t60999\n",
        proc__sys__net__ipv4__tcp_mem="1\t2\t3\n",
        proc__sys__net__ipv4__tcp_max_syn_backlog="2048\n",
        proc__sys__net__ipv4__tcp_syncookies="0\n",
        proc__sys__net__core__somaxconn="4096\n",
        proc__sys__net__netfilter__nf_conntrack_max="262144\n",
        proc__sys__net__netfilter__nf_conntrack_count="17\n",
        proc__net__fib_trie="        |-- 127.0.0.0\n           /8 host LOCAL\n",
    )
    (tmp_path / "proc/sys/fs/file-max").write_text("9223372036854775807\n")
    (tmp_path / "proc/sys/fs/file-nr").write_text("1213\t0\t9223372036854775807\n")
    found = read(tmp_path)
    assert found == Limits(
        files_soft=1024,
        files_hard=524_288,
        nr_open=1_048_576,
        files_system=2**63 - 1,
        files_system_used=1213,
        memory_available_bytes=4096 * 1024,
        ports=28_232,
        source_addresses=2**24 - 2,
        somaxconn=4096,
        syn_backlog=2048,
        tcp_pages=3,
        conntrack=262_144,
        conntrack_used=17,
        cores=4,
    )


def test_limits_that_are_not_in_force_limit_nothing(tmp_path: Path) -> None:
    """SYN cookies take over from a full queue, and nothing is tracked without a rule that asks for it."""
    machine(
        tmp_path,
        proc__sys__net__ipv4__tcp_max_syn_backlog="128\n",
        proc__sys__net__ipv4__tcp_syncookies="1\n",
        proc__sys__net__netfilter__nf_conntrack_max="1000\n",
        proc__sys__net__netfilter__nf_conntrack_count="0\n",
    )
    assert (read(tmp_path).syn_backlog, read(tmp_path).conntrack) == (None, None)


def test_nonsense_is_unknown(tmp_path: Path) -> None:
    machine(
        tmp_path,
        proc__sys__fs__nr_open="many\n",
        proc__meminfo="MemAvailable: lots\n",
        proc__sys__net__ipv4__tcp_mem="1 2\n",
        proc__self__cgroup="0::/../..\nrubbish\n",
        sys__fs__cgroup__cpuDOTmax="fast\n",
    )
    found = read(tmp_path)
    assert (found.nr_open, found.memory_available_bytes, found.tcp_pages, found.cores_quota) == (None,) * 4


def test_of_nested_groups_the_tightest_counts(tmp_path: Path) -> None:
    machine(
        tmp_path,
        proc__self__cgroup="0::/kubepods/pod7\n",
        sys__fs__cgroup__kubepods__memoryDOTmax="5000\n",
        sys__fs__cgroup__kubepods__memoryDOTcurrent="4000\n",
        sys__fs__cgroup__kubepods__memoryDOTstat="anon 3500\ninactive_file 500\n",
        sys__fs__cgroup__kubepods__pod7__memoryDOTmax="4000\n",
        sys__fs__cgroup__kubepods__pod7__memoryDOTcurrent="100\n",
        sys__fs__cgroup__kubepods__cpuDOTmax="max 100000\n",
        sys__fs__cgroup__kubepods__pod7__cpuDOTmax="150000 100000\n",
    )
    found = read(tmp_path)
    # 1,500 are left in the outer group, for the file cache makes room; 3,900 in the inner one.
    assert (found.memory_cgroup_bytes, found.memory_cgroup_used_bytes) == (5000, 3500)
    assert found.cores_quota == 1.5


@pytest.mark.parametrize("path", ["/docker/abc", "/"])
def test_groups_of_version_1_are_read_wherever_they_are_mounted(tmp_path: Path, path: str) -> None:
    """In a container the path is often the host's, and only the group itself is mounted, at the top."""
    machine(
        tmp_path,
        proc__self__cgroup=f"4:memory:{path}\n3:cpu,cpuacct:{path}\n0::{path}\n",
        sys__fs__cgroup__memory__memoryDOTlimit_in_bytes="4096000\n",
        sys__fs__cgroup__memory__memoryDOTusage_in_bytes="96000\n",
        sys__fs__cgroup__memory__memoryDOTstat="total_inactive_file 6000\n",
    )
    machine(
        tmp_path / "sys/fs/cgroup/cpu,cpuacct",
        cpuDOTcfs_quota_us="50000\n",
        cpuDOTcfs_period_us="100000\n",
    )
    found = read(tmp_path)
    assert (found.memory_cgroup_bytes, found.memory_cgroup_used_bytes, found.cores_quota) == (4_096_000, 90_000, 0.5)


def test_no_limit_of_version_1_is_none(tmp_path: Path) -> None:
    machine(
        tmp_path,
        proc__self__cgroup="4:memory:/\n3:cpu:/\n",
        sys__fs__cgroup__memory__memoryDOTlimit_in_bytes="9223372036854771712\n",
        sys__fs__cgroup__cpu__cpuDOTcfs_quota_us="-1\n",
        sys__fs__cgroup__cpu__cpuDOTcfs_period_us="100000\n",
    )
    assert (read(tmp_path).memory_cgroup_bytes, read(tmp_path).cores_quota) == (None, None)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, 8192 * 1024),
        ({"sys__fs__cgroup__podDOTslice__memoryDOTmax": "5000\n"}, 5000),
        ({"sys__fs__cgroup__podDOTslice__memoryDOTmax": "5000\n", "sys__fs__cgroup__memoryDOTmax": "4000\n"}, 4000),
        ({"sys__fs__cgroup__podDOTslice__memoryDOTmax": "max\n"}, 8192 * 1024),
        ({"sys__fs__cgroup__memory__memoryDOTlimit_in_bytes": "6000\n"}, 6000),
        ({"sys__fs__cgroup__memory__memoryDOTlimit_in_bytes": "9223372036854771712\n"}, 8192 * 1024),
        ({"proc__meminfo": "MemTotal: lots\n"}, None),
    ],
)
def test_a_process_may_take_what_its_tightest_group_or_the_machine_has(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    usual = {
        "proc__self__cgroup": "4:memory:/\n0::/pod.slice\n",
        "proc__meminfo": "MemTotal: 8192 kB\nMemAvailable: 4096 kB\n",
    }
    assert memory_limit_bytes(machine(tmp_path, **{**usual, **files})) == limit


def test_in_kubernetes_it_is_said_which_field_to_change(tmp_path: Path) -> None:
    machine(
        tmp_path,
        proc__self__cgroup="0::/\n",
        sys__fs__cgroup__memoryDOTmax=str(2**28),
        sys__fs__cgroup__memoryDOTcurrent="0",
        var__run__secrets__kubernetesDOTio__token="",
    )
    limits = read(tmp_path)
    refused = report.refusal(report.case_of(limits, USUAL, COSTS), 100_000, with_swarm=False)
    assert refused is not None
    assert "resources.limits.memory: " in refused


def test_this_machine_is_read_as_it_is() -> None:
    found = read_limits()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert (found.files_soft, found.files_hard) == tuple(UNLIMITED if n < 0 else n for n in (soft, hard))
    assert found.cores


# --- Figures of a benchmark


def bench_file(path: Path, *figures: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"python": "3.11", "settings": {"devices": 5000, "rounds": 3}, "figures": figures}))
    return path


def figure(name: str, value: Any) -> dict[str, Any]:
    return {"name": name, "what": "in words", "unit": "", "value": value, "yardstick": 1, "against": "", "ratio": 1}


def test_figures_of_a_benchmark_replace_the_usual_ones(tmp_path: Path) -> None:
    path = bench_file(
        tmp_path / "bench.json",
        figure("fan-out", 50.0),
        figure("memory", 1500),
        figure("handshakes", 9000.5),
        figure("publish-to-first", 5.8),
    )
    assert calibrated(path) == msgspec.structs.replace(
        COSTS, device_bytes=1500, connects_per_core_s=9000.5, sends_per_core_s=100_000
    )
    said = json.loads(good(fanout("doctor", "--json", "--calibrate", str(path))))
    assert said["costs"]["device_bytes"] == 1500


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"figures": 7}',
        '{"figures": [1]}',
        '{"figures": []}',
        '{"figures": [{"what": "x"}]}',
        "[" * 10**5,
    ],
)
def test_a_file_without_figures_is_refused_with_the_way_to_make_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(text)
    assert "make bench" in error(fanout("doctor", "--calibrate", str(path)))
    assert "make bench" in error(fanout("doctor", "--calibrate", str(tmp_path / "nothing.json")))


@pytest.mark.parametrize("value", [0, -1, 1e300, "1", None, True, float("nan"), float("inf")])
def test_a_figure_that_cannot_be_is_refused(tmp_path: Path, value: Any) -> None:
    for name in ("memory", "fan-out"):
        path = bench_file(tmp_path / "bench.json", figure(name, value))
        assert "make bench" in error(fanout("doctor", "--calibrate", str(path)))


# --- The command


def test_it_marks_what_binds_and_closes_with_what_to_change() -> None:
    said = good(fanout("doctor"))
    assert "> " in said
    assert "As a gateway" in said
    assert "With the swarm on the same machine" in said
    assert said.count("What binds is ") == 2
    assert said.count("For twice as many: ") == 2


def test_a_machine_may_read_it() -> None:
    said = json.loads(good(fanout("doctor", "--json", "--workers", "3", "--connections-max", "10")))
    devices = said["gateway"]["devices"]
    assert devices["total"] == 30
    assert devices["binds"] == "connections_max"
    bound = next(each for each in devices["bounds"] if each["limit"] == "connections_max")
    assert bound["allows"] == 30
    assert "--connections-max 20" in bound["for_twice"]
    assert said["with_swarm"]["devices"]["total"] == 30
    assert said["asked"] is None


def test_it_counts_with_the_settings_the_gateway_would_read() -> None:
    said = json.loads(
        good(fanout("doctor", "--json", FANOUT_GATEWAY_CONNECTIONS_MAX="7", FANOUT_GATEWAY_WORKERS="2"))
    )
    assert said["gateway"]["devices"]["total"] == 14


def test_what_fits_is_granted_and_what_does_not_is_refused_with_the_limit_and_the_way_to_raise_it() -> None:
    small = ("doctor", "--workers", "1", "--connections-max", "100")
    good(fanout(*small, "--devices", "100"))
    result = fanout(*small, "--devices", "101")
    assert result.exit_code == 1
    assert "101 devices do not fit" in error(result)
    assert "--connections-max 101" in error(result)
    both = fanout(*small, "--devices", "101", "--with-swarm", "--json")
    assert both.exit_code == 1
    assert json.loads(both.stdout)["asked"] == {"devices": 101, "with_swarm": True, "fits": False}


@pytest.mark.parametrize(
    "words",
    [["--devices", "0"], ["--devices", "many"], ["--workers", "0"], ["--admit-per-s", "nan"], ["--admit-per-s", "0"]],
)
def test_wrong_questions_are_one_line(words: list[str]) -> None:
    assert error(fanout("doctor", *words))
