"""Which checkpoint of a run is sampled from, and which cache a checkpoint of another machine uses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from signal_diffusion.checkpoints import MANIFEST, write_manifest
from signal_diffusion.cli import app
from signal_diffusion.errors import UserError
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling.choosing import checkpoint_at, experiment_at
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train
from tests import text_encoders


@pytest.fixture(scope="module")
def validated(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with validation, three checkpoints and its own cache folder."""
    folder = tmp_path_factory.mktemp("runs") / "validated"
    (folder.parent / "cache").mkdir()
    short = ("training.max_steps=3", "training.validation.interval=2", "data.loading.max_train_examples=32")
    train(experiment_file, output_dir=folder, overrides=(*short, f"data.loading.cache_dir={folder.parent / 'cache'}"))
    return folder


def best_step(run: Path) -> int:
    return json.loads((run / "checkpoint-3" / "progress.json").read_text())["best_step"]


def test_generation_checkpoint_selects_the_newest_the_best_or_a_named_checkpoint_of_a_run(validated: Path) -> None:
    chosen = {name: checkpoint_at(validated, [f"generation.checkpoint={name}"]).name for name in ("latest", "best")}

    assert chosen == {"latest": "checkpoint-3", "best": f"checkpoint-{best_step(validated)}"}
    assert checkpoint_at(validated) == validated / "checkpoint-3"
    assert checkpoint_at(validated, ["generation.checkpoint=checkpoint-1"]).name == "checkpoint-1"
    assert checkpoint_at(validated / "checkpoint-1", ["generation.checkpoint=best"]).name == "checkpoint-1"


def test_the_best_checkpoint_may_be_older_than_the_newest(validated: Path, tmp_path: Path) -> None:
    run = shutil.copytree(validated, tmp_path / "run")
    newest = run / "checkpoint-3"
    progress = json.loads((newest / "progress.json").read_text())
    (newest / "progress.json").write_text(json.dumps(progress | {"best_step": 1}))
    write_manifest(newest, 3, json.loads((newest / MANIFEST).read_text())["files"])

    assert checkpoint_at(run, ["generation.checkpoint=best"]) == run / "checkpoint-1"


def test_a_network_that_its_weights_cannot_be_of_is_refused_before_it_is_built(validated: Path, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(validated / "checkpoint-3", tmp_path / "checkpoint-3")
    text = (checkpoint / "config.toml").read_text()
    wide = re.sub(r"num_layers = \d+", "num_layers = 256", text)
    wide = re.sub(r"attention_head_dim = \d+", "attention_head_dim = 8192", wide)
    assert wide != text
    (checkpoint / "config.toml").write_text(wide)
    write_manifest(checkpoint, 3, json.loads((checkpoint / MANIFEST).read_text())["files"])

    with pytest.raises(UserError, match=r"model.safetensors: has too few weights for the network that config.toml"):
        load_trained(checkpoint)


def test_sampling_and_export_use_the_checkpoint_that_the_file_of_the_run_names(validated: Path, tmp_path: Path) -> None:
    run = shutil.copytree(validated, tmp_path / "run")
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(
        text.replace('checkpoint = "latest"\n\n[gen', 'checkpoint = "checkpoint-1"\n\n[gen')
    )

    words = ["sample", str(run), "--num", "1", "--output", str(tmp_path / "out")]
    sampled = CliRunner().invoke(app, words, catch_exceptions=False)
    exported = CliRunner().invoke(
        app, ["export", str(run), "--output", str(tmp_path / "model")], catch_exceptions=False
    )

    assert sampled.exit_code == exported.exit_code == 0
    assert json.loads((tmp_path / "out" / "samples.json").read_text())["checkpoint"] == f"{run.name}/checkpoint-1"
    assert json.loads((tmp_path / "model" / "manifest.json").read_text())["step"] == 1
    assert load_trained(run, ["generation.checkpoint=latest"]).checkpoint.name == "checkpoint-3"


def test_the_file_of_an_exported_model_names_no_cache(validated: Path, tmp_path: Path) -> None:
    cache = str(validated.parent / "cache")
    assert load_trained(validated).experiment.data.loading.cache_dir == cache

    SignalDiffusionPipeline.from_pretrained(validated).save_pretrained(tmp_path / "model")

    assert cache not in (tmp_path / "model" / "config.toml").read_text()


def test_the_error_about_a_missing_checkpoint_lists_the_existing_ones(validated: Path) -> None:
    with pytest.raises(UserError, match=r"checkpoint-9: no such checkpoint; there are checkpoint-1, checkpoint-2"):
        checkpoint_at(validated, ["generation.checkpoint=checkpoint-9"])


def test_a_run_may_have_the_name_of_a_checkpoint(validated: Path, tmp_path: Path) -> None:
    run = shutil.copytree(validated, tmp_path / "checkpoint-7")
    assert checkpoint_at(run) == run / "checkpoint-3"


def test_a_checkpoint_without_its_manifest_is_not_taken_for_a_run(validated: Path, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(validated / "checkpoint-3", tmp_path / "checkpoint-3")
    (checkpoint / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest.json: missing; the checkpoint is incomplete"):
        load_trained(checkpoint)


def test_the_error_about_a_folder_without_a_model_lists_the_runs_in_it(validated: Path, tmp_path: Path) -> None:
    expected = "expected the folder of a run, a checkpoint or an exported model"
    with pytest.raises(UserError, match=f"^{validated.parent}: contains no model; {expected}, such as validated in it"):
        checkpoint_at(validated.parent)
    with pytest.raises(UserError, match=f"^{tmp_path}: contains no model; {expected}$"):
        checkpoint_at(tmp_path)


def test_a_run_without_validation_has_no_best_checkpoint(run: Path) -> None:
    with pytest.raises(UserError, match=r"^\[generation\] checkpoint: 'best', but .*checkpoint-4 records no best one"):
        checkpoint_at(run, ["generation.checkpoint=best"])


# The cache ------------------------------------------------------------------------------------------------------------


def test_training_uses_the_cache_of_the_file_and_sampling_works_without_it(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "usual"))
    encoder = text_encoders.clip(tmp_path / "clip")
    words = ("model.conditioning.type=caption", f"model.conditioning.text_encoder={encoder}")
    named = (f"data.loading.cache_dir={tmp_path / 'own'}", "training.max_steps=1", "training.validation.enabled=false")
    train(experiment_file, output_dir=tmp_path / "run", overrides=(*words, *named))
    assert list((tmp_path / "own").rglob("*.embedding")) and not (tmp_path / "usual").exists()

    shutil.rmtree(tmp_path / "own")  # as on another machine
    trained = load_trained(tmp_path / "run", captions=["relaxed"])

    assert trained.experiment.data.loading.cache_dir == ""
    assert list((tmp_path / "usual").rglob("*.embedding")) and not (tmp_path / "own").exists()


@pytest.mark.parametrize("cache", ["/nowhere/at/all", "$NO_SUCH_VARIABLE/cache"])
def test_the_cache_of_another_machine_is_ignored_but_that_of_an_override_is_used(
    run: Path, tmp_path: Path, cache: str
) -> None:
    checkpoint = shutil.copytree(run / "checkpoint-4", tmp_path / "checkpoint-4")
    text = (checkpoint / "config.toml").read_text()
    (checkpoint / "config.toml").write_text(text.replace('cache_dir = ""', f'cache_dir = "{cache}"'))

    assert cache in (checkpoint / "config.toml").read_text()
    default = experiment_at(checkpoint, [])
    overridden = experiment_at(checkpoint, [f"data.loading.cache_dir={tmp_path / 'new'}"])

    assert default.data.loading.cache_dir == ""
    assert overridden.data.loading.cache_dir == str(tmp_path / "new")


def test_matplotlib_keeps_its_fonts_in_the_cache_of_the_experiment(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MPLCONFIGDIR")
    load_trained(run)
    assert "MPLCONFIGDIR" not in os.environ
    load_trained(run, [f"data.loading.cache_dir={tmp_path}"])
    assert Path(os.environ["MPLCONFIGDIR"]).is_relative_to(tmp_path)


@pytest.mark.slow
def test_sampling_writes_nothing_under_home_if_a_cache_is_set(run: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    words = ["sample", run, "--num", "1", "--format", "png", "--output", tmp_path / "out"]
    words += ["--set", f"data.loading.cache_dir={tmp_path / 'cache'}"]
    kept = {name: value for name, value in os.environ.items() if name not in ("MPLCONFIGDIR", "XDG_CACHE_HOME")}
    command = [sys.executable, "-m", "signal_diffusion.cli", *map(str, words)]

    subprocess.run(command, env=kept | {"HOME": str(tmp_path / "home")}, check=True)

    assert list((tmp_path / "home").rglob("*")) == [] and list((tmp_path / "cache").rglob("fontlist*"))
