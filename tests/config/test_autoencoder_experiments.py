"""Experiment files of autoencoders are read as strictly as those of diffusion models, and not confused with them."""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from pathlib import Path

import pytest

from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.rules import effects
from signal_diffusion.config.writing import to_toml
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_autoencoder_experiment, load_experiment
from signal_diffusion.training import autoencoder, diffusion

CONFIG = Path(__file__).parents[2] / "config"
IQ, DIT = CONFIG / "autoencoder" / "eeg-db-iq.toml", CONFIG / "diffusion" / "dit-db-iq.toml"
SHIPPED = sorted((CONFIG / "autoencoder").glob("*.toml"))
BASE = '[data]\nrepresentation = "db-iq"\n[data.paths]\nroot = "x"\n[model]\nname = "autoencoder_kl"\n'


def lines_of(path: Path, text: str) -> list[str]:
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        autoencoder.load(path)
    return [line.removeprefix(f"{path}: ") for line in caught.value.lines]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    experiment = autoencoder.load(path)
    resolved = tmp_path / "config.toml"
    resolved.write_text(to_toml(experiment))
    assert autoencoder.load(resolved) == experiment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[model.loss]\nkl_wieght = 1e-6", "[model.loss] kl_wieght: unknown key (did you mean 'kl_weight'?)"),
        ("[model.loss]\nreconstruction = 'l3'", "expected 'l1' or 'l2', found 'l3'"),
        ("[model.architecture]\nblock_out_channels = []", "block_out_channels: "),
        ("[model.architecture]\nnorm_num_groups = 3", "3 does not divide 16 of block_out_channels"),
        ("[model.diffusion]\nmethod = 'ddpm'", "[model] diffusion: unknown key"),
        ("[generation.sampling]\nsteps = 3", "generation: unknown key"),
        ("[training.visualization]\nguidance_scale = 2.0", "guidance_scale: has no effect on an autoencoder"),
        ("[training.validation]\nnum_generated = 2", "num_generated: has no effect on an autoencoder"),
        ("[data.balancing]\ncolumns = ['label']", "columns: has no effect on an autoencoder"),
        ("[data.balancing]\nmax_weight = 2.0", "max_weight: has no effect on an autoencoder"),
        ("[training.scheduler]\ngamma = 0.5", "has no effect with training.scheduler.type = 'cosine'"),
        ("[data.augmentation]\nhorizontal_flip = true", "reverses time in EEG"),
        ("[training]\nmixed_precision = 'fp16'\n[compute]\ndevice = 'cpu'", "'fp16' needs CUDA"),
    ],
)
def test_one_mistake_gives_one_line(tmp_path: Path, text: str, expected: str) -> None:
    [line] = lines_of(tmp_path / "experiment.toml", BASE + text)
    assert expected in line


@pytest.mark.parametrize("key", ["stft_weight", "signal_weight"])
def test_signal_losses_are_refused_for_db_only(tmp_path: Path, key: str) -> None:
    text = BASE.replace("db-iq", "db-only") + f"[model.loss]\n{key} = 0.1"
    [line] = lines_of(tmp_path / "experiment.toml", text)
    assert line.startswith(f"[model.loss] {key}: has no effect with data.representation = 'db-only'")


def test_no_conflict_is_derived_from_the_default_of_an_invalid_key(tmp_path: Path) -> None:
    text = BASE.replace("db-iq", "db-iqq") + "[model.loss]\nstft_weight = 0.1\nsignal_weight = 0.1"
    [line] = lines_of(tmp_path / "experiment.toml", text)
    assert line.endswith("found 'db-iqq' (did you mean 'db-iq'?)")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("model.name='autoencoder_lk'", "found 'autoencoder_lk' (did you mean 'autoencoder_kl'?)"),
        ("model.name=[1]", "[model] name: expected 'autoencoder_kl', found [1]"),
        ("model=3", "model: expected a table, found 3"),
    ],
)
def test_an_invalid_model_name_is_not_taken_for_a_diffusion_experiment(model: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        autoencoder.load(IQ, [model])
    [line] = caught.value.lines
    assert line.endswith(expected)


def test_the_diffusion_reader_suggests_autoencoder_kl() -> None:
    with pytest.raises(UserError, match=r"found 'autoencoder_lk' \(did you mean 'autoencoder_kl'\?\)"):
        load_experiment(DIT, ["model.name=autoencoder_lk"])


def test_each_reader_names_the_other_kind_of_experiment() -> None:
    with pytest.raises(UserError) as of_autoencoder:
        load_experiment(IQ)
    with pytest.raises(UserError) as of_diffusion:
        load_autoencoder_experiment(DIT)
    assert of_autoencoder.value.lines == (f"{IQ}: is an autoencoder experiment; expected a diffusion experiment",)
    assert of_diffusion.value.lines == (
        f"{DIT}: is a diffusion experiment; expected an autoencoder experiment, with [model] name = 'autoencoder_kl', "
        "found 'dit'",
    )


def test_a_trainer_names_the_command_of_the_other_kind() -> None:
    with pytest.raises(UserError) as of_autoencoder:
        diffusion.train(IQ)
    with pytest.raises(UserError) as of_diffusion:
        autoencoder.train(DIT)
    [first], [second] = of_autoencoder.value.lines, of_diffusion.value.lines
    assert first.endswith(f"; run this one with `uv run python -m signal_diffusion.training.autoencoder {IQ}`")
    assert second.endswith(f"; run this one with `uv run python -m signal_diffusion.training.diffusion {DIT}`")


def test_every_key_in_the_rules_exists() -> None:
    experiment = AutoencoderExperiment()
    unread = [(table, keys) for table, keys, *_ in effects.AUTOENCODER_READ_ONLY_WITH]
    for table, keys in (*unread, *effects.NOT_OF_AN_AUTOENCODER):
        assert set(keys.split()) <= {field.name for field in dataclasses.fields(attrgetter(table)(experiment))}
