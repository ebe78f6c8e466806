"""Image files of usual sizes train and are sampled, with every backbone for images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train
from tests.models.tiny import IMAGES
from tests.training.runs import metrics_of

BACKBONES = ("dit", "hourglass", "localmamba", "unet")
FILE = """
[compute]
device = "cpu"
[data]
representation = "image"
image_size = {size}
[data.paths]
root = "{root}"
[data.loading]
batch_size = 2
cache_dir = "{root}/../cache"
[model]
name = "{backbone}"
[model.architecture]
{architecture}
[model.diffusion]
method = "rectified_flow"
[training]
max_steps = 1
log_interval = 1
[training.visualization]
num_samples = 2
[generation.sampling]
steps = 2
[logging]
tensorboard = false
"""


def experiment(folder: Path, size: int, backbone: str) -> Path:
    """An experiment on photographs of 260 × 300 pixels, which are fitted to the size."""
    edge = np.linspace(0, 255, 300)
    photograph = np.stack([np.tile(edge, (260, 1)), np.tile(edge[:260, None], (1, 300)), np.full((260, 300), 90)], -1)
    for split, count in (("train", 2), ("validation", 2)):
        (folder / "images" / split).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(np.roll(photograph, 40 * number, axis=1).astype(np.uint8))
            image.save(folder / "images" / split / f"{number}.jpg")
    levels = {"channel_multipliers": [1, 1, 1, 2], "use_attention": [False, False, False, True]}
    architecture = IMAGES[backbone] | (levels if backbone == "unet" else {})
    lines = (f"{key} = {json.dumps(value)}" for key, value in architecture.items())
    path = folder / "images.toml"
    path.write_text(
        FILE.format(size=size, root=folder / "images", backbone=backbone, architecture="\n".join(lines)),
        encoding="utf-8",
    )
    return path


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("size", [96, 128, 256])
def test_image_files_train_for_a_step_and_the_model_is_sampled(size: int, backbone: str, tmp_path: Path) -> None:
    run = tmp_path / "run"

    assert train(experiment(tmp_path, size, backbone), output_dir=run)

    [first, *_] = metrics_of(run)
    assert np.isfinite(first["train/loss"]) and first["train/grad_norm"] > 0
    assert load_trained(run).card.shape == (3, size, size)
    with Image.open(run / "samples" / "step-00000001.png") as picture:
        assert min(picture.size) >= size


@pytest.mark.slow
def test_image_files_train_with_lpips(tmp_path: Path) -> None:
    lpips = pytest.importorskip("lpips")
    from safetensors.torch import save_model

    network = lpips.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False)
    save_model(network, str(tmp_path / "alex.safetensors"))
    on = ("training.perceptual=1.0", f"training.perceptual_weights={tmp_path}")
    file = experiment(tmp_path, 96, "unet")

    for name, overrides in (("on", on), ("off", ())):
        assert train(file, output_dir=tmp_path / name, overrides=overrides)

    losses = [metrics_of(tmp_path / name)[0]["train/loss"] for name in ("on", "off")]
    assert losses[0] != losses[1]
