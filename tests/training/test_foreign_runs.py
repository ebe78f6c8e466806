"""Training on datasets that `prepare` did not write, from files to samples; resuming with augmentation."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train
from tests.training.runs import largest_difference, metrics_of

SIZES = {"train": 40, "validation": 8}
AUGMENTED = (
    "data.augmentation.horizontal_flip=true",
    "data.augmentation.rotation_degrees=10.0",
    "data.augmentation.color_jitter.enabled=true",
    "data.augmentation.gaussian_noise_std=0.05",
)


def discs(count: int) -> list[np.ndarray]:
    """Images of coloured discs, 32 × 32 × 3: red for class 0, blue for class 1."""
    rng = np.random.default_rng(0)
    edge = np.arange(32)
    images = []
    for number in range(count):
        x, y = rng.uniform(8, 24, 2)
        inside = ((edge[:, None] - y) ** 2 + (edge - x) ** 2 < 36)[..., None]
        colour = ([220, 40, 40], [40, 60, 220])[number % 2]
        images.append(np.where(inside, colour, 245).astype(np.uint8))
    return images


def folder_of_pictures(root: Path) -> None:
    for split, count in SIZES.items():
        (root / split).mkdir(parents=True)
        with (root / split / "metadata.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file_name", "label"])
            for number, disc in enumerate(discs(count)):
                Image.fromarray(disc).save(root / split / f"{number}.png")
                writer.writerow([f"{number}.png", ("red", "blue")[number % 2]])


def parquet_of_images(root: Path) -> None:
    root.mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["red", "blue"])})
    for split, count in SIZES.items():
        encoded = []
        for disc in discs(count):
            buffer = io.BytesIO()
            Image.fromarray(disc).save(buffer, "png")
            encoded.append({"bytes": buffer.getvalue(), "path": None})
        columns = {"image": encoded, "label": [number % 2 for number in range(count)]}
        datasets.Dataset.from_dict(columns, features=features).to_parquet(root / f"{split}.parquet")


def parquet_of_signals(root: Path) -> None:
    root.mkdir()
    rng = np.random.default_rng(0)
    for split, count in SIZES.items():
        signals = 20 * rng.standard_normal((count, 4, 256))
        columns = {"signal": signals.tolist(), "label": ["rest", "task"] * (count // 2)}
        pq.write_table(pa.table(columns), root / f"{split}.parquet")


KINDS = {
    "folder": (folder_of_pictures, ("data.representation=image",)),
    "parquet": (parquet_of_images, ("data.representation=image", "data.image_size=16")),
    "signals": (
        parquet_of_signals,
        ("data.representation=timeseries", "data.sampling_rate=100.0", "model.architecture.patch_size=[1, 64]"),
    ),
}


@pytest.mark.parametrize(
    ("kind", "shape"), [("folder", (3, 32, 32)), ("parquet", (3, 16, 16)), ("signals", (1, 4, 256))]
)
def test_a_model_trains_on_a_dataset_that_prepare_did_not_write(
    kind: str, shape: tuple[int, ...], experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write, options = KINDS[kind]
    write(tmp_path / "root")
    overrides = (
        f"data.paths.root={tmp_path / 'root'}",
        *options,
        "training.max_steps=3",
        "training.visualization.enabled=true",
        "training.visualization.num_samples=4",
    )
    assert train(experiment_file, output_dir=tmp_path / "run", overrides=overrides)
    assert (tmp_path / "run" / "samples" / "step-00000003.png").stat().st_size > 1000
    trained = load_trained(tmp_path / "run")
    assert trained.card.shape == shape
    assert load_experiment(tmp_path / "run" / "config.toml").data == trained.experiment.data


def test_resume_is_bit_identical_with_augmentation(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder_of_pictures(tmp_path / "root")
    paths = (f"data.paths.train={tmp_path / 'root/train'}", f"data.paths.val={tmp_path / 'root/validation'}")
    text = experiment_file.read_text()
    [root] = [line for line in text.splitlines() if line.startswith("root =")]
    (tmp_path / "folders.toml").write_text(text.replace(root, ""))
    overrides = (*paths, "data.representation=image", "training.max_steps=6", *AUGMENTED)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train(tmp_path / "folders.toml", output_dir=whole, overrides=overrides)
    resumed.mkdir()
    shutil.copytree(whole / "checkpoint-3", resumed / "checkpoint-3")
    train(tmp_path / "folders.toml", output_dir=resumed, overrides=overrides, resume="latest")
    assert largest_difference(whole / "checkpoint-6", resumed / "checkpoint-6") == 0
    plain = tmp_path / "plain"
    train(tmp_path / "folders.toml", output_dir=plain, overrides=overrides[:-4])
    assert largest_difference(whole / "checkpoint-6", plain / "checkpoint-6") > 0
    assert [row["step"] for row in metrics_of(whole)] == [row["step"] for row in metrics_of(plain)]
