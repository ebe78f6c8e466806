"""`[data.balancing]`: from the experiment file to the batches of a run."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from signal_diffusion.data.balancing import balanced_weights
from signal_diffusion.data.preparing.prepare import PrepareOptions, prepare
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.dataset import dataset_of, grouping_of, order_of
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.training.diffusion import train
from tests.training.runs import largest_difference, metrics_of

BY_GENDER = ("data.balancing.columns=['gender']",)


def shares(config: Path, root: Path, *overrides: str) -> dict[str, float]:
    """The share of each gender in an epoch of training."""
    experiment = load_experiment(config, (f"data.paths.root={root}", *overrides))
    columns = grouping_of(dataset_of(experiment.data))
    weights = balanced_weights(list(columns.values()), experiment.data.balancing.max_weight)
    order = order_of(experiment, len(weights), weights=weights)
    seen = [i for step in range(order.steps_per_epoch) for batch in order.indices(step) for i in batch]
    counts = Counter(columns["gender"][i] for i in seen)
    return {gender: count / len(seen) for gender, count in counts.items()}


def test_a_balanced_run_prints_the_new_shares_and_its_resume_is_bit_identical(
    experiment_file: Path, tmp_path: Path, capsys
):
    train(experiment_file, output_dir=tmp_path / "whole", overrides=BY_GENDER)
    assert "balanced by gender: female 0.66 → 0.50, male 0.34 → 0.50" in capsys.readouterr().out
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for step in range(8, 16):
        shutil.rmtree(tmp_path / "cut" / f"checkpoint-{step}")
    train(experiment_file, output_dir=tmp_path / "cut", resume="latest", overrides=BY_GENDER)
    assert largest_difference(tmp_path / "whole" / "checkpoint-15", tmp_path / "cut" / "checkpoint-15") == 0.0
    assert metrics_of(tmp_path / "whole")[-1] == metrics_of(tmp_path / "cut")[-1]


def test_balancing_changes_the_trained_weights(experiment_file: Path, tmp_path: Path):
    train(experiment_file, output_dir=tmp_path / "as-it-is", overrides=("training.max_steps=2",))
    train(experiment_file, output_dir=tmp_path / "balanced", overrides=("training.max_steps=2", *BY_GENDER))
    assert largest_difference(tmp_path / "as-it-is" / "checkpoint-2", tmp_path / "balanced" / "checkpoint-2") > 0


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("data.balancing.columns=['age']", r"no categorical or text column 'age'; use one of label, gender, health"),
        ("data.balancing.columns=['sex']", r"no categorical or text column 'sex'"),
        ("data.balancing.columns=['gender', 'gender']", "expected each name once"),
    ],
)
def test_a_column_that_cannot_be_balanced_is_refused(
    experiment_file: Path, tmp_path: Path, override: str, complaint: str
):
    with pytest.raises(UserError, match=complaint):
        train(experiment_file, output_dir=tmp_path / "run", overrides=(override,))
    assert not (tmp_path / "run").exists()


def test_balancing_without_shuffling_is_refused(experiment_file: Path):
    with pytest.raises(UserError, match=r"needs data\.loading\.shuffle_train = true"):
        load_experiment(experiment_file, (*BY_GENDER, "data.loading.shuffle_train=false"))


@pytest.mark.slow
@pytest.mark.real_data
def test_nine_men_of_36_subjects_become_half_of_an_epoch(experiment_file: Path, real_data: Path, tmp_path: Path):
    options = PrepareOptions(channels="Cz,Pz", reference="none")
    card = prepare([real_data / "eegmat"], tmp_path / "eegmat", options)
    subjects = [subject for split in card.splits.values() for subject in split["subjects"]]
    assert len(subjects) == 36
    before = card.splits["train"]["marginals"]["gender"]["male"]["share"]
    assert 0.2 < before < 0.3
    whole = "data.loading.max_train_examples=100000"
    after = shares(experiment_file, tmp_path / "eegmat", *BY_GENDER, whole)
    assert after["male"] == pytest.approx(0.5, abs=0.02)
    capped = shares(experiment_file, tmp_path / "eegmat", *BY_GENDER, whole, "data.balancing.max_weight=1.0")
    assert before < capped["male"] < 0.45
