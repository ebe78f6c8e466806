"""Latents that are encoded before a run, by units of work: runs read them, and the bytes are those of one process."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from signal_diffusion.cli.encode import encode as command
from signal_diffusion.errors import UserError
from signal_diffusion.executing.shard import Shard
from signal_diffusion.training import encoding, latent_shards
from signal_diffusion.training.diffusion import train
from tests.training.killed_while_encoding import KilledWhileEncoding
from tests.training.test_latent_runs import CACHED, overrides, vae  # noqa: F401  # vae is a fixture

BYTES_PER_SHARD = 2**15
"""16 examples: 7 shards of the training split, and 5 of the validation split."""


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent_shards, "BYTES_PER_SHARD", BYTES_PER_SHARD)


def wanted(vae: Path, cache: Path) -> tuple[str, ...]:  # noqa: F811
    return (*overrides(vae), CACHED, f"data.loading.cache_dir={cache}")


def contents(cache: Path) -> dict[str, bytes]:
    """All files of a cache of latents, but the locks."""
    [folder] = cache.glob("*/*/latents")
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def encoded(experiment: Path, given: tuple[str, ...], **options: object) -> list[str]:
    """Encode, and return the lines that are printed."""
    lines: list[str] = []
    encoding.encode(experiment, given, say=lines.append, progress=lambda *_: None, **options)  # type: ignore[arg-type]
    return lines


def test_a_run_reads_what_was_encoded_before_it(
    experiment_file: Path,
    vae: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = wanted(vae, tmp_path / "cache")
    lines = encoded(experiment_file, given)
    assert [line.split(" into ")[0] for line in lines[::2]] == [
        "encoding 100 examples of train",
        "encoding 76 examples of validation",
    ]
    assert [line.split(" from ")[0] for line in encoded(experiment_file, given)] == [
        "using cached latents of 100 examples of train",
        "using cached latents of 76 examples of validation",
    ]
    train(experiment_file, output_dir=tmp_path / "run", overrides=(*given, "training.max_steps=1"))
    printed = capsys.readouterr().out
    assert printed.count("using cached latents of ") == 2 and "encoding" not in printed


def test_jobs_of_an_array_make_the_bytes_of_one_process_in_any_order(
    experiment_file: Path,
    vae: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    encoded(experiment_file, wanted(vae, tmp_path / "one"))
    given, lines = wanted(vae, tmp_path / "jobs"), list[str]()
    for number in (3, 1, 2, 3):  # the last one is repeated
        encoding.encode_part(experiment_file, given, Shard(number, 3), say=lines.append, progress=lambda *_: None)

    assert contents(tmp_path / "jobs") == contents(tmp_path / "one")
    assert len(contents(tmp_path / "one")) == 7 + 5 + 2
    assert [line.split(" into ")[0] for line in lines[-2:]] == [
        "shard 3/3 of 100 examples of train: encoded 0 of 2 files",
        "shard 3/3 of 76 examples of validation: encoded 0 of 1 files",
    ]


@pytest.mark.slow
def test_a_dask_worker_killed_in_a_shard_costs_that_shard_and_the_bytes_are_those_of_one_process(
    experiment_file: Path,
    vae: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra `cluster`")
    encoded(experiment_file, wanted(vae, tmp_path / "one"))
    (tmp_path / "attempts").mkdir()
    killed = KilledWhileEncoding(tmp_path / "attempts", "00004.latents", BYTES_PER_SHARD)
    monkeypatch.setattr(encoding, "encode_shard", killed)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        encoded(experiment_file, wanted(vae, tmp_path / "many"), cluster=cluster.scheduler_address)

    assert contents(tmp_path / "many") == contents(tmp_path / "one")  # and nothing half-written
    attempts = Counter(path.stem for path in (tmp_path / "attempts").iterdir())
    assert len(attempts) == 7 + 5
    assert [(name[-13:], count) for name, count in attempts.items() if count > 1] == [("00004.latents", 2)]


def test_a_worker_that_finds_other_latents_than_the_command_is_one_line(
    experiment_file: Path,
    vae: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    given = wanted(vae, tmp_path / "cache")
    encoded(experiment_file, given)
    with pytest.raises(UserError, match="a worker finds another autoencoder, dataset or cache folder") as error:
        encoding.encode_shard(tmp_path / "other" / "00000.latents", experiment_file, given)
    assert len(error.value.lines) == 1


def test_an_experiment_that_reads_no_cached_latents_is_refused(
    experiment_file: Path,
    vae: Path,  # noqa: F811
) -> None:
    with pytest.raises(UserError, match=r"tiny.toml: \[model.autoencoder\] cache_latents: false, so that runs"):
        encoded(experiment_file, overrides(vae))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cluster": "node"}, "expected the address of a Dask scheduler"),
        ({"cluster": "slurm", "shard": "1/2"}, "--cluster has no effect with --shard"),
        ({"cluster": "tcp://node:1", "workers": 2}, "--workers has no effect with --cluster tcp://node:1"),
        ({"shard": "3/2"}, "expected NUMBER/COUNT"),
    ],
)
def test_options_of_the_command_that_conflict_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        command(Path("none.toml"), **options)  # type: ignore[arg-type]


def test_the_command_refuses_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="encode starts processes itself"):
        command(Path("none.toml"))
