"""The cores and the memory that this process may use."""

import math
import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """Count the cores that the scheduler and the control groups leave to this process.

    A quota is rounded down. With more shards than the quota allows, the kernel would stop a shard
    in the middle of its work, and every request of that shard would wait.

    Args:
        root: folder that holds the `proc` and `sys` file systems.

    Returns:
        The number of whole cores, at least 1.
    """
    return max(1, int(min(len(os.sched_getaffinity(0)), core_quota(root))))


def core_quota(root: Path = Path("/")) -> float:
    """Return the smallest quota of the control groups, in cores; infinity where there is none.

    Args:
        root: folder that holds the `proc` and `sys` file systems.
    """
    return min(_quotas(root), default=math.inf)


def machine_memory(root: Path = Path("/")) -> int:
    """Return the memory of the machine, in bytes.

    Args:
        root: folder that holds the `proc` file system.
    """
    kibibytes = _read(root / "proc/meminfo").partition("MemTotal:")[2].split()[0]
    return int(kibibytes) * 1024


def usable_memory(root: Path = Path("/")) -> int:
    """Return the memory that the machine and the control groups leave to this process, in bytes.

    Args:
        root: folder that holds the `proc` and `sys` file systems.
    """
    limits = (
        int(text)
        for folder in _folders(root, "memory")
        for file in ("memory.max", "memory.limit_in_bytes")
        if (text := _read(folder / file).strip()).isdecimal()  # not "max" or absent
    )
    return min([machine_memory(root), *limits])


def _quotas(root: Path) -> Iterator[float]:
    """Yield every quota of the control groups, in cores."""
    for folder in _folders(root, "cpu"):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        yield from _quota(quota, period)
        quota = _read(folder / "cpu.cfs_quota_us")
        yield from _quota(quota, _read(folder / "cpu.cfs_period_us"))


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield every folder from this process's control group up to the root of the tree."""
    groups = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:  # version 2: one tree, all controllers
            yield from _upwards(groups, group)
        elif controller in controllers.split(","):  # version 1: a tree for these controllers
            for tree in {groups / controllers, groups / controller}:
                yield from _upwards(tree, group)


def _upwards(tree: Path, group: str) -> Iterator[Path]:
    # Inside a container the path may be the host's, and not exist here. The container's own group
    # is then the root of the tree. Hence every folder on the way is tried, the root included.
    folder = tree / group.strip("/")
    yield folder
    while folder != tree:
        folder = folder.parent
        yield folder


def _quota(quota: str, period: str) -> Iterator[float]:
    if quota.strip().isdecimal() and period.strip().isdecimal():  # not "max", "-1" or absent
        yield int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
