"""Metrics of generated samples during training: the right samples, weights and examples, and no side effects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import evenly_spaced
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.randomness import Purpose, derived_seed
from signal_diffusion.sampling.trained import Trained
from signal_diffusion.training.comparison import Comparison
from signal_diffusion.training.diffusion import train
from tests.latent_spaces import small_vae
from tests.training.comparisons import COMPARED, NUM_EXAMPLES, SHORT, comparison, held_out
from tests.training.runs import largest_difference, metrics_of

NAME = "validation/spectral_distance"


def test_the_distance_is_the_rms_difference_of_spectra_from_1_to_45_hz_with_averaged_weights(
    compared_run: Path, compared: Trained, synthetic_dataset: Path
) -> None:
    assert compared.averaged
    x, values = held_out(compared, synthetic_dataset)[evenly_spaced(76, NUM_EXAMPLES)]
    cond = Conditioning({"label": values["label"][[0, 2, 5, 8, 11]]})
    sampling = replace(compared.sampling, seed=derived_seed(8, 0))

    samples = replace(compared.generator, sampling=sampling).generate(compared.model, cond, range(5))

    representation = representation_of(DatasetCard.load(synthetic_dataset))
    frequencies, real = representation.mean_spectrum(x)
    _, generated = representation.mean_spectrum(samples)
    inside = (frequencies >= 1) & (frequencies <= 45)
    distance = (generated - real)[inside].square().mean().sqrt().item()
    assert 0 < inside.sum() < len(frequencies) and Purpose.COMPARISON == 8
    assert metrics_of(compared_run)[-1][NAME] == pytest.approx(distance, rel=1e-4)


def test_the_comparison_changes_neither_weights_nor_other_metrics(
    compared_run: Path, experiment_file: Path, tmp_path: Path
) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=SHORT)

    assert largest_difference(compared_run / "checkpoint-4", tmp_path / "checkpoint-4") == 0
    added = (NAME, "validation/generated/")
    without = [
        {name: value for name, value in row.items() if not name.startswith(added)} for row in metrics_of(compared_run)
    ]
    assert without == metrics_of(tmp_path) != metrics_of(compared_run)


def test_the_distance_of_examples_from_themselves_is_0(
    compared: Trained, synthetic_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, _ = held_out(compared, synthetic_dataset)[evenly_spaced(76, NUM_EXAMPLES)]
    monkeypatch.setattr(SampleGenerator, "generate", lambda *given, **more: x)

    compare = comparison(compared, synthetic_dataset, num_generated=NUM_EXAMPLES)

    assert compare(compared.model, Accelerator(cpu=True), lambda: None)["spectral_distance"] == 0.0


def test_a_request_to_stop_interrupts_the_comparison_between_batches(
    compared: Trained, synthetic_dataset: Path
) -> None:
    compare = comparison(compared, synthetic_dataset)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        compare(compared.model.train(), Accelerator(cpu=True), stop)
    assert compared.model.training
    compared.model.eval()


def test_the_comparison_does_not_change_the_global_random_state(compared: Trained, synthetic_dataset: Path) -> None:
    compare = comparison(compared, synthetic_dataset)
    before = torch.get_rng_state()

    first, second = (compare(compared.model, Accelerator(cpu=True), lambda: None) for _ in range(2))

    assert first == second and torch.equal(torch.get_rng_state(), before)


def test_images_without_a_spectrum_are_refused(compared: Trained, synthetic_dataset: Path) -> None:
    image = Picture.from_parameters({"channels": 1, "size": 64})
    with pytest.raises(UserError, match=r"^\[training.validation\] num_generated: these examples have no spectrum"):
        comparison(compared, synthetic_dataset, representation=image)


def test_latents_are_decoded_for_the_comparison_and_a_missing_vae_is_only_a_warning(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small_vae().save_pretrained(tmp_path / "vae")
    latent = ("model.autoencoder.enabled=true", f"model.autoencoder.path={tmp_path / 'vae'}")
    cached = ("model.autoencoder.cache_latents=true", f"data.loading.cache_dir={tmp_path / 'cache'}")
    small = ("model.architecture.patch_size=[4, 4]", "training.max_steps=4", "training.validation.interval=2")

    original, calls = Comparison.__call__, []

    def watched(self: Comparison, *given: object) -> dict[str, float]:
        calls.append(given)
        if len(calls) == 2:
            (tmp_path / "vae").rename(tmp_path / "moved")
        return original(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Comparison, "__call__", watched)
    train(experiment_file, output_dir=tmp_path / "run", overrides=(*COMPARED, *latent, *cached, *small))

    found = [row.get(NAME) for row in metrics_of(tmp_path / "run") if "validation/loss" in row]
    assert found[0] > 0 and found[1:] == [None]
    assert "warning: no metrics of generated samples: " in capsys.readouterr().out
