"""The scripts of scripts/slurm on a real SLURM; skipped where there is no `sbatch`, or nothing that answers it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from signal_diffusion.data.preparing.prepare import prepare
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.encoding import encode
from tests.data.preparing.options import OPTIONS
from tests.data.preparing.test_prepare import bids, contents, ten_subjects  # noqa: F401  # fixtures
from tests.training.processes import several_processes
from tests.training.runs import largest_difference, metrics_of
from tests.training.test_encoding import contents as contents_of_cache
from tests.training.test_encoding import wanted
from tests.training.test_latent_runs import vae  # noqa: F401  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.processes]
ROOT = Path(__file__).parents[1]
SETS = (
    "training.max_steps=400",
    "training.log_interval=20",
    "training.checkpointing.interval=150",
    "training.validation.interval=200",
    "training.gradient_accumulation_steps=1",
)
STATE, RESTARTS = re.compile(r"JobState=(\w+)"), re.compile(r"Restarts=(\d+)")


def answer(*command: str | Path) -> str:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=True).stdout


def wait_until(condition: Callable[[], bool], seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)
    assert condition()


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Submit a script with words from a folder as a user would have it; jobs that are left are cancelled."""
    if shutil.which("sbatch") is None:
        pytest.skip("no SLURM: sbatch is not on the PATH")
    try:
        answer("sinfo", "--noheader")
    except (subprocess.SubprocessError, OSError) as error:
        pytest.skip(f"SLURM does not answer: {error}")
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    (tmp_path / "logs").mkdir()
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    jobs: list[str] = []

    def submitted(name: str, options: tuple[str, ...], *words: str | Path) -> str:
        script, few = tmp_path / "scripts" / "slurm" / f"{name}.sbatch", ("--cpus-per-task=1", "--time=30")
        jobs.append(answer("sbatch", "--parsable", "--chdir", tmp_path, *few, *options, script, *words).strip())
        return jobs[-1]

    yield submitted
    for job in jobs:
        subprocess.run(["scancel", job], capture_output=True, check=False)


def state_of(job: str) -> tuple[str, int]:
    """The state of a job, and how often it has been put back into the queue."""
    text = answer("scontrol", "show", "job", job)
    state, restarts = STATE.search(text), RESTARTS.search(text)
    assert state and restarts
    return state[1], int(restarts[1])


def rows_in(run: Path) -> int:
    metrics = run / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.is_file() else 0


def test_a_run_that_is_warned_once_and_preempted_once_ends_with_the_bits_of_one_that_was_not(
    submit: Callable[..., str], experiment_file: Path, tmp_path: Path
) -> None:
    sets = [word for override in SETS for word in ("--set", override)]
    run = tmp_path / "run"
    job = submit("train", ("--ntasks-per-node=2",), experiment_file, run, *sets)
    warned, preempted = ("scancel", "--signal=USR1", "--batch", job), ("scontrol", "requeue", job)
    for number, stop in enumerate((warned, preempted), start=1):
        enough = rows_in(run) + 4
        wait_until(lambda enough=enough: rows_in(run) >= enough)
        answer(*stop)
        wait_until(lambda number=number: state_of(job) == ("PENDING", number))
        answer("scontrol", "update", f"JobId={job}", "StartTime=now")  # SLURM waits two minutes otherwise
    wait_until(lambda: state_of(job)[0] == "COMPLETED")

    logs = {path.name: path.read_text() for path in (tmp_path / "logs").iterdir()}
    assert logs.keys() == {f"train-{job}.log", f"train-{job}-0.log", f"train-{job}-1.log"}
    log = logs[f"train-{job}-0.log"]
    assert "stopped by SIGUSR1 at step" in log and "stopped by SIGTERM at step" in log, log
    assert log.count("resumed from ") == 2 and log.count("finished at step 400 of 400") == 1
    undisturbed = tmp_path / "undisturbed"
    finished = several_processes(2, {}, train, experiment_file, output_dir=undisturbed, overrides=SETS)
    assert finished.exit_codes == [0, 0], finished.output
    assert largest_difference(run / "checkpoint-400", undisturbed / "checkpoint-400") == 0
    assert metrics_of(run) == metrics_of(undisturbed)


def test_a_cancelled_run_saves_and_stays_cancelled(
    submit: Callable[..., str], experiment_file: Path, tmp_path: Path
) -> None:
    run, sets = tmp_path / "run", [word for override in SETS for word in ("--set", override)]
    job = submit("train", (), experiment_file, run, *sets, "--set", "training.max_steps=100000")
    wait_until(lambda: rows_in(run) >= 1)
    answer("scancel", job)
    wait_until(lambda: state_of(job)[0] == "CANCELLED")
    assert "paused at step" in (tmp_path / "logs" / f"train-{job}-0.log").read_text()
    assert state_of(job) == ("CANCELLED", 0)


def test_each_job_of_an_array_has_its_own_words_and_log(
    submit: Callable[..., str], experiment_file: Path, tmp_path: Path
) -> None:
    few = ("--set", "training.max_steps=2", "--set", "compute.seed=%a")
    job = submit("train", ("--array=3,5",), experiment_file, tmp_path / "seed-%a", *few)
    runs = {seed: tmp_path / f"seed-{seed}" for seed in (3, 5)}
    wait_until(lambda: all((run / "checkpoint-2" / "manifest.json").is_file() for run in runs.values()))
    wait_until(lambda: "RUNNING" not in answer("squeue", "--noheader", "--format=%T", "--jobs", job))
    assert all(f"seed = {seed}\n" in (run / "config.toml").read_text() for seed, run in runs.items())
    assert len(list((tmp_path / "logs").iterdir())) == 4


def test_the_tasks_of_a_job_share_samples_and_another_job_waits_for_them(
    submit: Callable[..., str], experiment_file: Path, tmp_path: Path
) -> None:
    train(experiment_file, output_dir=tmp_path / "run", overrides=("training.max_steps=2",))
    words = (tmp_path / "run", "--num", "4", "--output", tmp_path / "samples")
    sampled = submit("sample", ("--ntasks-per-node=2",), *words)
    judged = submit("evaluate", (f"--dependency=afterok:{sampled}",), "--help")
    wait_until(lambda: state_of(judged)[0] == "COMPLETED")
    assert {path.name for path in (tmp_path / "samples").iterdir()} >= {"samples.npz", "samples.json"}
    assert "Judge synthetic EEG" in (tmp_path / "logs" / f"evaluate-{judged}-0.log").read_text()


def test_the_jobs_of_an_array_prepare_what_one_process_does(
    submit: Callable[..., str],
    bids: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    options = ("--representation", "db-only", "--channels", "Fz,Cz,Pz", "--window", "256")
    words = (bids, "--output", tmp_path / "out", *options)
    read = submit("prepare", ("--array=1-2",), *words, "--shard", "%a/2")
    merged = submit("prepare", (f"--dependency=afterok:{read}",), *words, "--merge")
    wait_until(lambda: state_of(merged)[0] == "COMPLETED")
    prepare([bids], tmp_path / "one", OPTIONS)
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_the_jobs_of_an_array_encode_what_one_process_does(
    submit: Callable[..., str],
    experiment_file: Path,
    vae: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    sets = {name: wanted(vae, tmp_path / name) for name in ("jobs", "one")}
    words = [word for override in sets["jobs"] for word in ("--set", override)]
    job = submit("encode", ("--array=1-2",), experiment_file, *words, "--shard", "%a/2")
    wait_until(lambda: not answer("squeue", "--noheader", "--jobs", job))
    encode(experiment_file, sets["one"], say=lambda _: None, progress=lambda *_: None)
    assert contents_of_cache(tmp_path / "jobs") == contents_of_cache(tmp_path / "one")
    logs = [path.read_text() for path in sorted((tmp_path / "logs").glob("*-0.log"))]
    assert len(logs) == 2 and all("examples of train: encoded" in log for log in logs)
