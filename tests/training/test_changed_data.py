"""A run knows the data that it was trained on: changed files are refused, or accepted on purpose."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.integrity import digest_of
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.changed_data import changed_since
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.sampling.dataset_conditions import values_like
from signal_diffusion.training.diffusion import train
from tests.conftest import TINY
from tests.data.test_integrity import flip_a_byte

TRAIN, HELD_OUT = "train/00000.parquet", "validation/00000.parquet"
SHORT = ("training.max_steps=2", "training.checkpointing.interval=1", "training.validation.interval=2")
LONGER = ("training.max_steps=3", *SHORT[1:])


@pytest.fixture
def root(synthetic_dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synthetic_dataset, tmp_path / "dataset"))


@pytest.fixture
def experiment(root: Path, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY.format(root=root))
    return path


@pytest.mark.parametrize("name", [TRAIN, HELD_OUT])
def test_a_run_on_a_changed_file_is_refused_with_a_line_that_names_it(name: str, root: Path, experiment: Path) -> None:
    flip_a_byte(root / name)
    with pytest.raises(UserError) as caught:
        train(experiment, output_dir=root.with_name("run"), overrides=SHORT)
    assert caught.value.lines == (
        f"{root / name}: changed after the dataset was made (its SHA-256 is not the one in the card); "
        "restore the file or make the dataset again; to train on it as it is, use --accept-changed-data",
    )
    assert not (root.with_name("run") / "config.toml").exists()


def test_a_split_that_training_does_not_read_may_change(root: Path, experiment: Path) -> None:
    flip_a_byte(root / HELD_OUT)
    assert train(experiment, output_dir=root.with_name("run"), overrides=(*SHORT, "training.validation.enabled=false"))


def test_a_resume_on_changed_data_is_refused_unless_it_is_accepted(
    root: Path, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = root.with_name("run")
    train(experiment, output_dir=run, overrides=SHORT)
    flip_a_byte(root / TRAIN)
    with pytest.raises(UserError, match=rf"{TRAIN}: changed after .* use --accept-changed-data"):
        train(experiment, output_dir=run, resume="latest", overrides=LONGER)

    assert train(experiment, output_dir=run, resume="latest", overrides=LONGER, accept_changed_data=True)
    assert f"warning: {root}: not the files that the checkpoint was trained on: {TRAIN}" in capsys.readouterr().err
    assert DatasetCard.load(run / "checkpoint-3").files[TRAIN] == digest_of(root / TRAIN)

    assert train(experiment, output_dir=run, resume="latest", overrides=("training.max_steps=4", *SHORT[1:]))


def test_a_resume_on_other_limits_names_the_key_and_both_values(root: Path, experiment: Path) -> None:
    run = root.with_name("run")
    train(experiment, output_dir=run, overrides=SHORT)
    card = DatasetCard.load(root)
    before = card.representation["parameters"]["db_max"]
    card.representation["parameters"]["db_max"] = 55.5
    card.save(root)
    with pytest.raises(UserError) as caught:
        train(experiment, output_dir=run, resume="latest", overrides=LONGER)
    [line] = caught.value.lines
    expected = (
        f"was trained on another dataset (representation.parameters.db_max was {before}, now 55.5); use the same, or"
    )
    assert expected in line


def test_a_resume_on_a_dataset_that_was_made_again_names_the_files(root: Path, experiment: Path) -> None:
    run = root.with_name("run")
    train(experiment, output_dir=run, overrides=SHORT)
    flip_a_byte(root / TRAIN)
    card = DatasetCard.load(root)
    card.files[TRAIN] = digest_of(root / TRAIN)
    card.save(root)
    with pytest.raises(UserError, match=rf"with other files \({TRAIN}\); use the same, .* --accept-changed-data"):
        train(experiment, output_dir=run, resume="latest", overrides=LONGER)
    assert train(experiment, output_dir=run, resume="latest", overrides=LONGER, accept_changed_data=True)


def test_conditions_of_a_changed_split_are_refused(root: Path, experiment: Path) -> None:
    flip_a_byte(root / HELD_OUT)
    with pytest.raises(
        UserError, match=rf"--like validation: .*{HELD_OUT}: changed after .*; restore the file, or make"
    ):
        values_like(load_experiment(experiment), ("label",), "validation", 3, seed=0)
    assert values_like(load_experiment(experiment), ("label",), "train", 3, seed=0)


def test_an_export_names_changed_files_if_the_dataset_is_on_this_machine(root: Path, experiment: Path) -> None:
    data, card = load_experiment(experiment).data, DatasetCard.load(root)
    assert changed_since(data, card) == []
    flip_a_byte(root / TRAIN)
    assert changed_since(data, card) == [f"{root / TRAIN}: not the file that the run was trained on"]
    shutil.rmtree(root)
    assert changed_since(data, card) == []
