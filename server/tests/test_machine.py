import os
from pathlib import Path

import pytest
from sigmax_server.machine import usable_cores, usable_memory


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def machine(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def version_2(root: Path, group: str, **limits: str) -> Path:
    """A machine whose process is in `group`; `limits` are cpu.max by folder, `_` for a slash."""
    files = {"proc/self/cgroup": f"0::{group}\n"}
    for folder, limit in limits.items():
        files[f"sys/fs/cgroup/{folder.strip('_').replace('_', '/')}/cpu.max"] = limit
    return machine(root, files)


def version_1(root: Path, group: str, folder: str, quota: str) -> Path:
    return machine(
        root,
        {
            "proc/self/cgroup": f"3:memory:/other\n2:cpu,cpuacct:{group}\n0::/\n",
            f"sys/fs/cgroup/cpu,cpuacct/{folder}/cpu.cfs_quota_us": f"{quota}\n",
            f"sys/fs/cgroup/cpu,cpuacct/{folder}/cpu.cfs_period_us": "100000\n",
        },
    )


def test_without_control_groups_affinity_decides(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 8


def test_a_quota_is_rounded_down(tmp_path: Path) -> None:
    assert usable_cores(version_2(tmp_path, "/box", box="250000 100000\n")) == 2


def test_a_quota_under_one_core_still_gives_one(tmp_path: Path) -> None:
    assert usable_cores(version_2(tmp_path, "/box", box="50000 100000\n")) == 1


def test_a_quota_over_the_affinity_changes_nothing(tmp_path: Path) -> None:
    assert usable_cores(version_2(tmp_path, "/box", box="6400000 100000\n")) == 8


def test_an_unlimited_group_changes_nothing(tmp_path: Path) -> None:
    assert usable_cores(version_2(tmp_path, "/box", box="max 100000\n")) == 8


def test_the_smallest_limit_on_the_way_up_decides(tmp_path: Path) -> None:
    root = version_2(
        tmp_path, "/pod/box", pod_box="max 100000\n", pod="300000 100000\n", _="700000 100000\n"
    )
    assert usable_cores(root) == 3


def test_a_path_of_the_host_falls_back_to_the_root_of_the_container(tmp_path: Path) -> None:
    assert usable_cores(version_2(tmp_path, "/host/only/here", _="400000 100000\n")) == 4


def test_a_path_out_of_the_namespace_ends(tmp_path: Path) -> None:
    assert usable_cores(version_2(tmp_path, "/../../pod", _="400000 100000\n")) == 4


def test_version_1_has_quota_and_period_in_two_files(tmp_path: Path) -> None:
    assert usable_cores(version_1(tmp_path, "/docker/box", "docker/box", "200000")) == 2


def test_version_1_in_a_container(tmp_path: Path) -> None:
    assert usable_cores(version_1(tmp_path, "/docker/host", ".", "500000")) == 5


def test_version_1_without_a_limit(tmp_path: Path) -> None:
    assert usable_cores(version_1(tmp_path, "/docker/box", "docker/box", "-1")) == 8


def test_version_1_mounted_under_the_controllers_short_name(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "2:cpuacct,cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert usable_cores(root) == 3


GIBIBYTE = 2**30
MEMINFO = {"proc/meminfo": "MemTotal:        8388608 kB\nMemFree: 1 kB\n"}


def test_without_control_groups_the_machine_has_the_memory(tmp_path: Path) -> None:
    assert usable_memory(machine(tmp_path, MEMINFO)) == 8 * GIBIBYTE


def test_the_smallest_memory_on_the_way_up_decides(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/pod/box\n",
        "sys/fs/cgroup/pod/box/memory.max": "max\n",
        "sys/fs/cgroup/pod/memory.max": f"{GIBIBYTE}\n",
        "sys/fs/cgroup/memory.max": f"{2 * GIBIBYTE}\n",
    }
    assert usable_memory(machine(tmp_path, MEMINFO | files)) == GIBIBYTE


def test_version_1_says_that_memory_is_unlimited_by_a_large_number(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "3:memory:/box\n2:cpu:/other\n",
        "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert usable_memory(machine(tmp_path, MEMINFO | files)) == 8 * GIBIBYTE
    files["sys/fs/cgroup/memory/box/memory.limit_in_bytes"] = "134217728\n"
    assert usable_memory(machine(tmp_path, MEMINFO | files)) == 2**27
