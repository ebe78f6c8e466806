"""[data] and the tables below it."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.types import (
    TABLE,
    BatchSize,
    Examples,
    Fraction,
    Name,
    NotNegative,
    Positive,
    Side,
    Workers,
)

__all__ = ["Augmentation", "Balancing", "ColorJitter", "Columns", "Data", "Loading", "Paths"]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Paths:
    """[data.paths]: where the dataset is. `~` and `$VARIABLES` are expanded."""

    root: str = ""
    """Folder that `signal-diffusion prepare` wrote, or an external dataset (docs/pictures.md); with `data.source =
    "hub"`, "owner/name" or "owner/name@revision"; "" = `train` and `val` are folders themselves."""
    train: Name = "train"
    """Split to train on."""
    val: Name = "validation"
    """Split to validate on; "val" finds "validation" too."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Columns:
    """[data.columns]: names of the dataset's columns."""

    image: Name = "image"
    """Column of the images."""
    signal: Name = "signal"
    """Column of the time series."""
    label: Name = "label"
    """Column of the class, for `model.conditioning.type = "class"`."""
    gender: Name = "gender"
    """Column of the gender."""
    health: Name = "health"
    """Column of the health status or diagnostic group."""
    age: Name = "age"
    """Column of the age in years."""
    caption: Name = "caption"
    """Column of the caption, a description in words."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Loading:
    """[data.loading]: how examples are loaded and batched."""

    batch_size: BatchSize = 32
    """Examples per process and forward pass. As many as memory holds (`config check` estimates it); more make gradients
    less noisy."""
    num_workers: Workers = 0
    """Worker processes that read ahead from a memory-mapped split, one of more than 4 GiB or of more than a quarter of
    the free memory; a split in memory needs none."""
    shuffle_train: bool = True
    """Shuffle the training examples again for each epoch."""
    drop_last: bool = True
    """Drop the incomplete last step of an epoch; false fills it up with examples from the start of the epoch."""
    max_train_examples: Examples | None = None
    """Train on this many examples, spread evenly over the split; absent = all. For trials, and to see how much data a
    model needs."""
    max_val_examples: Examples | None = None
    """Let validation choose from this many examples, spread evenly over the split; absent = all."""
    cache_dir: str = ""
    """Folder for data that can be recreated: built-in and converted datasets, memory-mapped copies of splits, embedded
    captions, latents; "" = `$XDG_CACHE_HOME` or `~/.cache`, also used when sampling on a machine without this folder.
    Set it if the home folder is small or slow."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Balancing:
    """[data.balancing]: sample rare groups more often in training; validation and test are not affected."""

    columns: tuple[Name, ...] = Field(default=(), strict=False)
    """Columns whose combinations of values are the groups, such as ["gender", "label"]; [] = off. Set it if samples of
    rare groups are worse."""
    max_weight: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 10.0
    """Largest factor by which an example's probability is raised, relative to a group of average size."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class ColorJitter:
    """[data.augmentation.color_jitter]: only for `representation = "image"`."""

    enabled: bool = False
    """Change brightness, contrast and (for colour images) saturation, by random factors for each image."""
    strength: Fraction = 0.2
    """The factors are uniform in [1 - strength, 1 + strength]."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Augmentation:
    """[data.augmentation]: random changes of training examples, different each time an example is used."""

    mirror: bool = False
    """Swap the electrodes of left and right in half of the windows; only for time series, and not with labels of a
    side, such as movements of the left or right hand. Worth it if there are few people."""
    horizontal_flip: bool = False
    """Mirror half of the images, left to right; only for `representation = "image"`."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Rotate each image by up to this angle, either way; only for `representation = "image"`."""
    color_jitter: ColorJitter = field(default_factory=ColorJitter)
    gaussian_noise_std: NotNegative = 0.0
    """Standard deviation of white noise added to the tensors, whose values are in [-1, 1]; 0 = off."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Data:
    """[data]: the dataset and its representation."""

    representation: Name = "db-only"
    """Kind of tensor that the model learns; must match the dataset's. "image" is for arbitrary images."""
    source: Literal["dataset", "synthetic", "hub"] = "dataset"
    """"dataset" reads `data.paths.root`; "synthetic" generates the built-in EEG once and keeps it in the cache; "hub"
    downloads `data.paths.root` from the Hugging Face Hub, into its cache."""
    streaming: bool = False
    """With `source = "hub"`: read the training split from the Hub while training, instead of downloading it first. Set
    true if it does not fit on the disk; it must have been made by `prepare`."""
    image_size: Side | None = None
    """Width and height in pixels that images are resized to, for datasets not made by `prepare`; absent = original
    size."""
    sampling_rate: Positive | None = None
    """Sampling rate of the signals in Hz, for datasets that were not made by `prepare` and do not state it."""
    paths: Paths = field(default_factory=Paths)
    columns: Columns = field(default_factory=Columns)
    loading: Loading = field(default_factory=Loading)
    balancing: Balancing = field(default_factory=Balancing)
    augmentation: Augmentation = field(default_factory=Augmentation)
