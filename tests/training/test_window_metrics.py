"""Metrics of generated samples in microvolts: those of `evaluation`, logged while training, followed by the best."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from signal_diffusion.checkpoints import list_checkpoints
from signal_diffusion.config import schema
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.metrics import METRICS
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.randomness import Purpose, derived_seed, generator_for
from signal_diffusion.sampling.trained import Trained
from signal_diffusion.training.comparison import Comparison
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.window_metrics import NAMES, WindowMetrics, rows_of_people
from tests.training.comparisons import NUM_EXAMPLES, comparison, examples_of, held_out
from tests.training.runs import metrics_of

SEED = derived_seed(Purpose.COMPARISON, 0)
BEST = ("training.checkpointing.save_best_only=true", "training.checkpointing.total_limit=1")
EVERY_STEP = ("training.validation.interval=1", "training.max_steps=3", "training.validation.num_generated=8")


def microvolts(trained: Trained, examples: Tensor, numbers: list[int]) -> Features:
    signals = [
        trained.representation.to_signal(example, generator_for(Purpose.SIGNAL, SEED, number))
        for example, number in zip(examples, numbers, strict=True)
    ]
    return Features(Windows(signals=torch.stack(signals)[:, None].numpy(), sfreq=125.0, ch_names=["EEG"]))


def test_values_and_floors_are_those_of_evaluation(compared: Trained, synthetic_dataset: Path) -> None:
    rows = evenly_spaced(76, 36)
    x, values = held_out(compared, synthetic_dataset)[rows]
    train_split = examples_of(compared, synthetic_dataset, "train")
    others = rows_of_people(train_split, 1, most=36, seed=SEED)
    samples = compared.generator.without_guide(guidance_scale=1.0, seed=SEED).generate(
        compared.model, Conditioning({"label": values["label"]}), range(36)
    )
    real, generated = microvolts(compared, x, rows), microvolts(compared, samples, list(range(36)))
    other = microvolts(compared, train_split[others][0], others)

    compare = comparison(compared, synthetic_dataset, num_generated=36, num_examples=36)
    found = compare(compared.model, Accelerator(cpu=True), lambda: None)

    for name in NAMES:
        assert found[f"generated/{name}"] == METRICS[name].compute(real, generated).value
        assert found[f"generated/{name}_floor"] == METRICS[name].compute(real, other).value > 0
    assert len(found) == 1 + 2 * len(NAMES)
    subjects = train_split.column("subject", others)
    assert subjects and len(set(subjects)) == 1 and subjects[0] in compared.card.splits["train"]["subjects"]


def test_a_run_logs_them_of_the_averaged_weights(
    compared_run: Path, compared: Trained, synthetic_dataset: Path
) -> None:
    found = comparison(compared, synthetic_dataset)(compared.model, Accelerator(cpu=True), lambda: None)
    row = metrics_of(compared_run)[-1]
    for name in ("lsd", "bp-w1", "envcv-w1"):
        assert row[f"validation/generated/{name}"] == pytest.approx(found[f"generated/{name}"], rel=1e-4)
    assert "validation/generated/eeg-fd" not in row


def test_metrics_that_cannot_be_computed_are_named_with_the_reason(compared: Trained, synthetic_dataset: Path) -> None:
    compare = comparison(compared, synthetic_dataset)
    assert compare.notes == [
        "num_generated: no generated/eeg-fd: groups of 5 windows; more than 6 are needed",
        "num_generated: no generated/coverage: groups of 5 windows; more than 5 are needed",
    ]
    expected = r"^\[training.validation\] metric: 'generated/eeg-fd' cannot be computed: groups of 5 windows"
    with pytest.raises(UserError, match=expected):
        comparison(compared, synthetic_dataset, metric="generated/eeg-fd")


def test_a_group_with_fewer_windows_than_samples_is_named(compared: Trained, synthetic_dataset: Path) -> None:
    notes = comparison(compared, synthetic_dataset, num_generated=40).notes
    assert notes[0].startswith(
        f"num_generated: only {NUM_EXAMPLES} of 40 samples are compared in microvolts, since the validation"
    )


def test_samples_that_are_not_finite_have_no_metrics(
    compared: Trained, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compare = comparison(compared, synthetic_dataset)
    monkeypatch.setattr(SampleGenerator, "generate", lambda *given, **more: torch.full((5, 1, 64, 64), math.nan))
    assert compare(compared.model, Accelerator(cpu=True), lambda: None).keys() == {"spectral_distance"}
    assert "warning: some generated samples are not finite" in capsys.readouterr().out


def test_people_without_names_have_no_floors() -> None:
    random = np.random.default_rng(0)
    real, other = (
        Windows(signals=10 * random.standard_normal((20, 2, 500)), sfreq=125.0, ch_names=["Cz", "Pz"]) for _ in range(2)
    )
    metrics = WindowMetrics(real, other, 20)
    assert metrics.no_floors == "real windows have no column subject" and not metrics.floors
    found = metrics(torch.randn(20, 2, 500))
    assert found is not None and set(found) == {"lsd", "bp-w1", "envcv-w1"}
    assert metrics.missing.keys() == {"eeg-fd", "coverage"}


@pytest.mark.parametrize(
    ("metric", "best"),
    [pytest.param("generated/lsd", np.argmin, marks=pytest.mark.slow), ("generated/coverage", np.argmax)],
)
def test_save_best_only_follows_a_metric_of_generated_samples(
    metric: str, best: object, experiment_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=(*BEST, *EVERY_STEP, f"training.validation.metric={metric}"))

    values = [row[f"validation/{metric}"] for row in metrics_of(tmp_path) if "validation/loss" in row]
    step = 1 + int(best(values))  # type: ignore[operator]
    progress = json.loads((tmp_path / "checkpoint-3" / "progress.json").read_text())
    assert len(values) == 3 and progress["best_step"] == step and progress["best_value"] == values[step - 1]
    assert {path.name for path in list_checkpoints(tmp_path)} == {f"checkpoint-{step}", "checkpoint-3"}
    assert f"({metric} {values[step - 1]:.4f})" in capsys.readouterr().err


def test_a_step_without_the_metric_is_never_the_best(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = iter(({}, {"generated/lsd": 3.0}, {}))
    monkeypatch.setattr(Comparison, "__call__", lambda *given: next(found))
    metric = "training.validation.metric=generated/lsd"
    train(experiment_file, output_dir=tmp_path, overrides=(*BEST, *EVERY_STEP, metric))
    assert {path.name for path in list_checkpoints(tmp_path)} == {"checkpoint-2", "checkpoint-3"}
    assert capsys.readouterr().err.count("generated/lsd of step 1 is not finite; it cannot be the best") == 1


@pytest.mark.slow
def test_a_resumed_run_has_the_same_values(experiment_file: Path, tmp_path: Path) -> None:
    train(experiment_file, output_dir=tmp_path / "whole", overrides=EVERY_STEP)
    train(
        experiment_file,
        output_dir=tmp_path / "other",
        overrides=EVERY_STEP,
        resume=str(tmp_path / "whole/checkpoint-2"),
    )
    rows = [[row for row in metrics_of(tmp_path / name) if row["step"] > 2] for name in ("whole", "other")]
    assert rows[0] == rows[1] and "validation/generated/coverage" in rows[0][-1]


def test_the_metrics_of_the_table_are_those_that_are_computed() -> None:
    names = [f"{schema.GENERATED}{name}" for name in NAMES]
    larger = tuple(f"{schema.GENERATED}{name}" for name in NAMES if METRICS[name].better == "larger")
    allowed = schema.Validation.__dataclass_fields__["metric"].type
    assert all(name in str(allowed) for name in names) and larger == schema.LARGER_IS_BETTER
