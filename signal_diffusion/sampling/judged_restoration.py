"""How well a trained model restores windows of people whom it was not trained on, next to the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from signal_diffusion.evaluation.restoration.electrodes import ridge, splines
from signal_diffusion.evaluation.restoration.gaps import ORDER, autoregressive, linear
from signal_diffusion.evaluation.restoration.judging import MODEL, rows_of
from signal_diffusion.evaluation.restoration.metrics import LEAST_DRAWS, scores_of
from signal_diffusion.evaluation.restoration.report import Restoration
from signal_diffusion.evaluation.restoration.scenarios import Scenario, referenced, scenarios_of, without_new
from signal_diffusion.experiment.conditions import distinct_captions
from signal_diffusion.experiment.dataset import Dataset
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.sampling.filling import filled_window
from signal_diffusion.sampling.given_windows import check_fills_windows, window_filler
from signal_diffusion.sampling.montages import montage_named, with_montage
from signal_diffusion.sampling.privacy_inputs import OnProgress
from signal_diffusion.sampling.provenance import checkpoint_name, weight_hashes
from signal_diffusion.sampling.restoration_inputs import Judged, windows_to_restore
from signal_diffusion.sampling.trained import Trained, with_captions

__all__ = ["assess_restoration"]


def assess_restoration(
    trained: Trained,
    dataset: Dataset,
    *,
    split: str,
    windows: int,
    draws: int,
    shares: Sequence[float],
    gaps: Sequence[float],
    seed: int = 0,
    on_progress: OnProgress = lambda what, done, total: None,
) -> Restoration:
    """Restore electrodes, gaps and ends of windows by a model and by the baselines, and compare them with the truth.

    The model gets the conditions of each window. With an average reference, windows that miss electrodes are referenced
    to the average of the given ones first, for all methods.

    Parameters
    ----------
    dataset, split
        What the model was trained on, and the split with people whom it was not trained on (see `checked_split`). The
        dataset may have more electrodes, if the model knows them by their places; they are then a scenario.
    windows
        Number of windows, spread over the people.
    draws
        Draws of the model for each window.
    shares, gaps
        Shares of electrodes that are missing, and lengths of gaps in s.

    Raises
    ------
    UserError
        If the model is not one of signals.
    """
    check_fills_windows(trained)
    if trained.encoder is not None:
        trained = with_captions(
            trained, distinct_captions([dataset.open(split)], dataset.card, dataset.data.columns.caption)
        )
    own = trained.card.channels
    if dataset.card.channels != own:
        trained = with_montage(trained, montage_named(dataset.card.channels, dataset.card, "--real"))
    judged, notes = windows_to_restore(trained, dataset, split, windows, seed)
    scenarios, left_out = scenarios_of(judged.signals.shape, judged.sfreq, shares=shares, gaps=gaps, seed=seed)
    scenarios = [*without_new(judged.signals.shape, dataset.card.channels, own), *scenarios]
    notes += left_out
    if lacking := [name for name in dataset.card.channels if name not in dataset.card.positions]:
        notes.append(f"no splines: the dataset has no position of {', '.join(lacking)}")
    if draws < LEAST_DRAWS:
        notes.append(f"no coverage: {draws} draws have no 80 % interval; at least {LEAST_DRAWS} are needed")
    scores = {}
    for number, scenario in enumerate(scenarios):
        is_referenced = scenario.kind == "electrodes" and judged.is_average
        truth = referenced(judged.signals, scenario.missing) if is_referenced else judged.signals
        restored = _baselines(judged, truth, scenario, with_splines=not lacking)
        found = {name: scores_of(truth, each[None], scenario.missing, judged.sfreq) for name, each in restored.items()}
        done = number * len(truth), len(scenarios) * len(truth)
        scores[scenario.name] = found | {MODEL: _of_model(trained, judged, truth, scenario, draws, done, on_progress)}
    return Restoration(
        about=_about(trained, judged, split, draws, seed), rows=rows_of(scores, judged.people), notes=notes
    )


def _about(trained: Trained, judged: Judged, split: str, draws: int, seed: int) -> dict[str, Any]:
    repeats = trained.sampling.resampling_steps
    return {
        "checkpoint": checkpoint_name(trained),
        "weights_sha256": weight_hashes(trained.checkpoint),
        "given": "trained with masks" if trained.model.takes_known else f"by replacement, each step {repeats} times",
        "real": f"{judged.dataset.root.name}:{split}",
        "windows": len(judged.signals),
        "people": len(np.unique(judged.people)),
        "draws": draws,
        "seed": seed,
        "sampling": asdict(trained.sampling),
    }


def _baselines(judged: Judged, truth: np.ndarray, scenario: Scenario, *, with_splines: bool) -> dict[str, np.ndarray]:
    """Method → what it restores, (N, electrodes, samples)."""
    missing, card = scenario.missing, judged.dataset.card
    given = np.where(missing, 0, truth)
    if scenario.kind == "electrodes":
        splined = {"splines": splines(given, missing, card.channels, card.positions)} if with_splines else {}
        return splined | {"ridge": ridge(given, missing, *judged.fitted, is_average=judged.is_average)}
    lines = {"linear": linear(given, missing)} if scenario.kind == "gap" else {}
    return lines | {f"AR({ORDER})": autoregressive(given, missing)}


def _of_model(
    trained: Trained,
    judged: Judged,
    truth: np.ndarray,
    scenario: Scenario,
    draws: int,
    progress: tuple[int, int],
    on_progress: OnProgress,
) -> dict[str, np.ndarray]:
    """Metrics of the draws, window by window, so that memory does not grow with the number of windows."""
    cond = Conditioning(judged.attributes)

    def conditions(window: int) -> Conditioning:
        return cond[torch.full((draws,), window)]

    done, total = progress
    fill, found = window_filler(trained, conditions, range(draws)), []
    for number, (window, missing) in enumerate(zip(truth, scenario.missing, strict=True)):
        on_progress("restoring", done + number, total)
        given = np.tile(np.where(missing, 0, window), (draws, 1, 1))
        restored = filled_window(given, ~missing, window.shape[-1], fill, number=number, start=number)
        found.append(scores_of(window[None], restored[:, None], missing[None], judged.sfreq))
    on_progress("restoring", done + len(truth), total)
    return {name: np.concatenate([each[name] for each in found]) for name in found[0]}
