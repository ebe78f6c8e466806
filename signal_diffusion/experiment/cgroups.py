"""The memory that Linux allows this process and the others of its job or container, by its control groups.

SLURM, Kubernetes and Docker set such limits; a process above one is killed, whatever the machine has. See
https://docs.kernel.org/admin-guide/cgroup-v2.html and https://docs.kernel.org/admin-guide/cgroup-v1/memory.html.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

__all__ = ["memory_limit"]


def memory_limit(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int | None:
    """The smallest limit, in bytes, of this process's groups and those that contain them; None without one."""
    limits: list[int] = []
    with suppress(OSError):  # not Linux
        for line in groups.read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                limits += _limits(mounted, path, "memory.max")
            elif "memory" in controllers.split(","):
                limits += _limits(mounted / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(top: Path, path: str, name: str) -> list[int]:
    """The limits of a group and of those that contain it.

    In a container, the path may be one of the host, and the container's own group is `top`.
    """
    group = top / path.lstrip("/")
    files = [each / name for each in (group, *group.parents) if each.is_relative_to(top)]
    words = [file.read_text().strip() for file in files if file.is_file()]
    return [int(word) for word in words if word.isdecimal()]  # without a limit it is "max", or nearly 2^63
