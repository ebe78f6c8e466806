"""The animation next to a preview shows how the preview's own samples emerge from noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.figures.pixels import LEFT, RIGHT
from signal_diffusion.randomness import Purpose, generator_for
from signal_diffusion.training import previews
from signal_diffusion.training.diffusion import train
from tests.latent_spaces import small_vae

DRAWN = (
    *("training.visualization.enabled=true", "training.visualization.num_samples=4", "training.max_steps=1"),
    *("training.visualization.seed=3", "training.validation.enabled=false"),
)
ANIMATED = (*DRAWN, "training.visualization.animation=true")
NAME = "step-00000001.gif"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """What is passed to the drawing functions: frames and samples by class. Only the animation is really drawn."""
    given: dict[str, list] = {}
    animation = previews.draw_animation

    def draw_animation(path: Path, frames: list, representation: object) -> None:
        given["frames"] = frames
        animation(path, frames, representation)

    def draw_samples(path: Path, rows: list, *, title: str) -> None:
        given["samples"] = [row.samples.tensors for row in rows]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    monkeypatch.setattr(previews, "draw_animation", draw_animation)
    monkeypatch.setattr(previews, "draw_samples", draw_samples)
    monkeypatch.setattr(previews, "draw_latents", lambda path, latents, *, title: None)
    return given


def noise(number: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=generator_for(Purpose.SAMPLE, 3, number))


def test_an_animation_starts_with_noise_and_ends_with_the_samples_of_the_preview(
    experiment_file: Path, synthetic_dataset: Path, tmp_path: Path, drawn: dict[str, list]
) -> None:
    train(experiment_file, output_dir=tmp_path, overrides=ANIMATED)

    first, second, last = drawn["frames"]
    as_example = representation_of(DatasetCard.load(synthetic_dataset)).normalisation.restored
    start = as_example(torch.stack([noise(i, (1, 64, 64)) for i in (0, 1)]))
    assert torch.equal(first[0], torch.cat([start, start]))  # two of each class, from the same noise
    assert torch.equal(last[0], torch.cat(drawn["samples"])) and torch.equal(last[0], last[1])
    assert torch.equal(second[1], last[0])  # Euler's last step ends at the network's x0
    assert not torch.equal(first[1], second[1])
    with Image.open(tmp_path / "samples" / NAME) as image:
        assert (image.n_frames, image.width) == (3, LEFT + 4 * 128 + 3 * 2 + RIGHT)


def test_an_animation_is_optional_and_does_not_change_the_samples(
    experiment_file: Path, tmp_path: Path, drawn: dict[str, list]
) -> None:
    train(experiment_file, output_dir=tmp_path / "with", overrides=ANIMATED)
    animated = torch.cat(drawn["samples"])

    train(experiment_file, output_dir=tmp_path / "without", overrides=DRAWN)

    assert torch.equal(torch.cat(drawn["samples"]), animated)
    assert (tmp_path / "with" / "samples" / NAME).is_file()
    assert [path.name for path in (tmp_path / "without" / "samples").iterdir()] == ["step-00000001.png"]


def test_a_latent_models_frames_are_decoded(experiment_file: Path, tmp_path: Path, drawn: dict[str, list]) -> None:
    small_vae().save_pretrained(tmp_path / "vae")
    latent = ("model.autoencoder.enabled=true", f"model.autoencoder.path={tmp_path / 'vae'}")
    steps = ("model.architecture.patch_size=[4, 4]", "generation.sampling.steps=14")
    few = ("training.visualization.num_samples=2", "data.loading.max_train_examples=16")

    train(experiment_file, output_dir=tmp_path / "run", overrides=(*ANIMATED, *latent, *steps, *few))

    assert len(drawn["frames"]) == 13
    assert {tuple(part.shape) for frame in drawn["frames"] for part in frame} == {(2, 1, 64, 64)}
    torch.testing.assert_close(drawn["frames"][-1][0], torch.cat(drawn["samples"]))
