"""The memory limit of a job or container is the smallest of its control group and those around it."""

from __future__ import annotations

from pathlib import Path

import pytest

from signal_diffusion.experiment.cgroups import memory_limit

SLURM_V2 = "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n"
SLURM_V1 = "4:memory:/slurm/uid_1000/job_7/step_0\n3:cpuset:/slurm\n1:name=systemd:/\n"
STEP_V2 = "system.slice/slurmstepd.scope/job_7/step_0"
MAX_V1 = "9223372036854771712\n"


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        (SLURM_V2, {f"{STEP_V2}/memory.max": "max\n"}, None),
        (
            SLURM_V2,
            {f"{STEP_V2}/memory.max": "3000\n", "system.slice/slurmstepd.scope/job_7/memory.max": "max\n"},
            3000,
        ),
        (SLURM_V2, {f"{STEP_V2}/memory.max": "3000\n", "system.slice/memory.max": "2000\n"}, 2000),
        ("0::/\n", {"memory.max": "1000\n"}, 1000),
        (SLURM_V1, {"memory/slurm/uid_1000/job_7/memory.limit_in_bytes": "4000\n", "memory.max": "1\n"}, 4000),
        (SLURM_V1, {"memory/memory.limit_in_bytes": MAX_V1}, int(MAX_V1)),
        ("5:cpu,memory:/docker/0123\n0::/\n", {"memory/memory.limit_in_bytes": "500\n"}, 500),
        ("5:cpu:/a\n", {"memory/a/memory.limit_in_bytes": "500\n"}, None),
    ],
    ids=["none", "own", "around", "container-v2", "v1", "v1-none", "container-v1", "another-controller"],
)
def test_the_smallest_limit_of_a_group_and_those_around_it_counts(
    groups: str, files: dict[str, str], limit: int | None, tmp_path: Path
) -> None:
    (tmp_path / "cgroup").write_text(groups)
    for name, content in files.items():
        path = tmp_path / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "memory.max").write_text("1\n")  # above what is mounted
    assert memory_limit(tmp_path / "cgroup", tmp_path / "mounted") == limit


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path / "none", tmp_path) is None


def test_the_limit_of_this_process_can_be_read() -> None:
    assert memory_limit() is None or memory_limit() > 2**28  # type: ignore[operator]
