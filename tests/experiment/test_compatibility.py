"""A run may not resume with a method that gives its weights another meaning."""

from __future__ import annotations

from pathlib import Path

import pytest

from signal_diffusion.config.writing import to_toml
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.compatibility import check_same_run
from signal_diffusion.experiment.loading import CONFIG_NAME, load_experiment

DDPM = ["model.diffusion.method=ddpm", "model.diffusion.beta_schedule=linear"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_timesteps", "500"),
        ("beta_schedule", "quadratic"),
        ("beta_start", "0.0002"),
        ("beta_end", "0.03"),
        ("zero_terminal_snr", "true"),
        ("prediction", "v"),
    ],
)
def test_a_run_does_not_resume_with_another_schedule_or_prediction(
    key: str, value: str, experiment_file: Path, synthetic_dataset: Path, tmp_path: Path
) -> None:
    before = load_experiment(experiment_file, DDPM)
    (tmp_path / CONFIG_NAME).write_text(to_toml(before))
    card = DatasetCard.load(synthetic_dataset)
    (tmp_path / CARD_NAME).write_text(card.to_json())
    check_same_run(Checkpoint(tmp_path), before, card)

    overrides = [*DDPM, f"model.diffusion.{key}={value}"]
    if key == "zero_terminal_snr":
        overrides.append("model.diffusion.prediction=v")
    with pytest.raises(UserError, match=rf"\[model.diffusion\] {key}: .*, but .* was trained with"):
        check_same_run(Checkpoint(tmp_path), load_experiment(experiment_file, overrides), card)
