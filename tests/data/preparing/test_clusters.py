"""Units of work in several processes and on a Dask cluster, some of which are killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
from signal_diffusion.errors import UserError
from signal_diffusion.executing.clusters import _run_in, check_cluster, check_submission
from tests.data.preparing.killed import KilledWhileReading
from tests.data.preparing.options import OPTIONS
from tests.data.preparing.test_prepare import contents, ten_subjects  # noqa: F401  # a fixture

NAME = "sub-03_task-rest_eeg.edf"
READ = "signal_diffusion.data.preparing.prepare.read_recording"


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a Dask cluster of two processes of this machine."""
    distributed = pytest.importorskip("distributed", reason="needs the extra `cluster`")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture(scope="module")
def expected(ten_subjects: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:  # noqa: F811
    """The dataset that one process makes."""
    root = tmp_path_factory.mktemp("one") / "out"
    prepare([ten_subjects], root, OPTIONS)
    return contents(root)


def prepared(
    recordings: Path, folder: Path, options: PrepareOptions, monkeypatch: pytest.MonkeyPatch, times: int = 1
) -> dict[str, bytes]:
    """Prepare while workers that read one recording are killed, so many `times`."""
    (folder / "attempts").mkdir()
    monkeypatch.setattr(READ, KilledWhileReading(folder / "attempts", NAME, times))
    prepare([recordings], folder / "out", options)
    assert {path.name for path in folder.iterdir()} == {"attempts", "out"}
    return contents(folder / "out")


def attempts(folder: Path) -> Counter[str]:
    """How often each recording was read."""
    return Counter(path.stem for path in (folder / "attempts").iterdir())


@pytest.mark.slow
def test_a_dask_worker_killed_in_a_unit_costs_that_unit_and_the_bytes_are_those_of_one_process(
    ten_subjects: Path,  # noqa: F811
    scheduler: str,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert prepared(ten_subjects, tmp_path, replace(OPTIONS, cluster=scheduler), monkeypatch) == expected
    again = {name: count for name, count in attempts(tmp_path).items() if count > 1}
    assert again == {f"sub-03-eeg-{NAME}": 2}


@pytest.mark.slow
def test_a_unit_whose_dask_workers_are_always_killed_is_one_line(
    ten_subjects: Path,  # noqa: F811
    scheduler: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match="killed several times, perhaps for lack of memory"):
        prepared(ten_subjects, tmp_path, replace(OPTIONS, cluster=scheduler), monkeypatch, times=9)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_process_killed_in_a_unit_is_replaced_and_the_bytes_are_those_of_one_process(
    ten_subjects: Path,  # noqa: F811
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("signal_diffusion.data.preparing.tensors._FEW", 0)  # the processes also make the tensors
    assert prepared(ten_subjects, tmp_path, replace(OPTIONS, workers=2), monkeypatch) == expected
    assert "a process was killed, perhaps for lack of memory; what it worked on is done again" in caplog.text
    assert attempts(tmp_path).total() <= 20 + 2  # of both processes


@pytest.mark.slow
def test_a_process_that_is_always_killed_is_one_line(
    ten_subjects: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UserError, match="killed 4 times, perhaps for lack of memory; use fewer --workers"):
        prepared(ten_subjects, tmp_path, replace(OPTIONS, workers=2), monkeypatch, times=9)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pbs",
        "tcp://node",
        "node:8786",
        "http://node:8786",
        "tcp://:1",
        "tcp://node:0",
        "tcp://node:99999",
        "tcp://[::1",
    ],
)
def test_a_cluster_is_an_address_or_slurm(text: str) -> None:
    with pytest.raises(UserError, match="expected the address of a Dask scheduler, tcp://HOST:PORT, or slurm"):
        check_cluster(text)


@pytest.mark.parametrize(
    "text", ["slurm", "tcp://node:8786", "tls://10.0.0.1:8786", "tcp://[::1]:8786", "ws://node:80/"]
)
def test_addresses_of_schedulers_are_taken(text: str) -> None:
    check_cluster(text)


def test_a_scheduler_that_does_not_answer_is_one_line(
    ten_subjects: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("distributed", reason="needs the extra `cluster`")
    monkeypatch.setattr("signal_diffusion.executing.clusters._SECONDS_TO_CONNECT", 0.2)
    with pytest.raises(UserError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9") as error:
        prepare([ten_subjects], tmp_path / "out", replace(OPTIONS, cluster="tcp://127.0.0.1:9"))
    assert len(error.value.lines) == 1


def test_jobs_of_slurm_have_one_unit_at_a_time_unless_dasks_file_says_otherwise() -> None:
    pytest.importorskip("dask_jobqueue", reason="needs the extra `cluster`")
    import dask

    from signal_diffusion.executing.clusters import slurm_cluster

    with slurm_cluster() as cluster:
        script = cluster.job_script()
    assert "--cpus-per-task=1" in script and "--mem=4G" in script and "--nthreads 1" in script
    with dask.config.set({"jobqueue.slurm.memory": "9GiB", "jobqueue.slurm.queue": "long"}), slurm_cluster() as cluster:
        script = cluster.job_script()
    assert "--mem=9G" in script and "-p long" in script


def test_jobs_that_slurm_does_not_accept_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="cluster: slurm needs the command sbatch"):
        check_submission("#!/bin/sh")
    sbatch = tmp_path / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: Memory specification can not be satisfied' >&2; exit 1\n")
    sbatch.chmod(0o755)
    with pytest.raises(UserError, match=r"Memory specification can not be satisfied.* in ~/\.config/dask") as error:
        check_submission("#!/bin/sh")
    assert len(error.value.lines) == 1


def test_a_worker_that_does_not_see_the_files_is_one_line(tmp_path: Path) -> None:
    for folder, file in ((tmp_path / "none", tmp_path / "out.npy"), (tmp_path, tmp_path / "none" / "out.npy")):
        with pytest.raises(
            UserError, match=r"none: not found on \S+, a worker of --cluster; workers need the file system"
        ):
            _run_in(folder, print, file)


def test_a_unit_runs_in_the_folder_of_the_command_and_leaves_that_of_the_worker(tmp_path: Path) -> None:
    before = Path.cwd()
    assert _run_in(tmp_path, Path.cwd) == tmp_path
    assert Path.cwd() == before
