"""[data] and the tables below it."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from signal_diffusion.config.types import TABLE, Count, CountOrNone, Fraction, Name, NotNegative, Positive

__all__ = ["Augmentation", "Balancing", "ColorJitter", "Columns", "Data", "Loading", "Paths"]


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Paths:
    """[data.paths]: where the dataset is. `~` and `$VARIABLES` are expanded."""

    root: str = ""
    """Folder that `signal-diffusion prepare` wrote, or a dataset of others (docs/pictures.md); with `data.source =
    "hub"`, "owner/name" or "owner/name@revision"; "" = `train` and `val` are folders themselves."""
    train: Name = "train"
    """Split to train on."""
    val: Name = "validation"
    """Split to validate on; "val" finds "validation" too."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Columns:
    """[data.columns]: the dataset's names of what the models use."""

    image: Name = "image"
    """Column of the pictures."""
    signal: Name = "signal"
    """Column of the time series."""
    label: Name = "label"
    """Column of the class, for `model.conditioning.type = "class"`."""
    gender: Name = "gender"
    """Column of the gender."""
    health: Name = "health"
    """Column of the health or group."""
    age: Name = "age"
    """Column of the age in years."""
    caption: Name = "caption"
    """Column of the description in words."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Loading:
    """[data.loading]: how examples become batches."""

    batch_size: Count = 32
    """Examples per process and forward pass."""
    num_workers: CountOrNone = 0
    """Processes that read ahead from a memory-mapped split; a split in memory is indexed without any."""
    pin_memory: bool = True
    """Page-locked host memory for faster copies to a CUDA device."""
    shuffle_train: bool = True
    """Draw a new order of the training examples in each epoch."""
    drop_last: bool = True
    """Leave out the incomplete last step of an epoch; false fills it up from the epoch's beginning."""
    max_train_examples: Count | None = None
    """Train on this many examples, spread evenly over the split; absent = all."""
    max_val_examples: Count | None = None
    """Let validation choose from this many examples, spread evenly over the split; absent = all."""
    memory_limit_mb: CountOrNone = 4096
    """A split larger than this, in MiB, stays on disk, memory-mapped."""
    cache_dir: str = ""
    """Folder of what can be made again: built-in and converted datasets, embedded captions, latents; "" =
    `$XDG_CACHE_HOME` or `~/.cache`. Sampling on a machine that has no such folder uses that, too."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Balancing:
    """[data.balancing]: rare groups drawn more often in training; validation and test stay as they are."""

    columns: tuple[Name, ...] = Field(default=(), strict=False)
    """Columns whose combinations of values are the groups, such as ["gender", "label"]; [] = off."""
    max_weight: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 10.0
    """Most that an example's share is raised, relative to a group of average size."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class ColorJitter:
    """[data.augmentation.color_jitter]: for `representation = "image"` alone."""

    enabled: bool = False
    """Change brightness, contrast and (in colour) saturation, each picture by factors of its own."""
    strength: Fraction = 0.2
    """The factors are uniform in [1 - strength, 1 + strength]."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Augmentation:
    """[data.augmentation]: what is done to training examples, anew each time."""

    horizontal_flip: bool = False
    """Mirror half of the pictures, left to right; for `representation = "image"` alone."""
    rotation_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Turn each picture by up to so much, either way; for `representation = "image"` alone."""
    color_jitter: ColorJitter = field(default_factory=ColorJitter)
    gaussian_noise_std: NotNegative = 0.0
    """Standard deviation of white noise added to the tensors, whose values lie in [-1, 1]; 0 = none."""


@dataclass(frozen=True, kw_only=True, config=TABLE)
class Data:
    """[data]: what is learnt from."""

    representation: Name = "db-only"
    """Tensor that the model learns; it must be the dataset's own. "image" is any pictures."""
    source: Literal["dataset", "synthetic", "hub"] = "dataset"
    """"dataset" reads `data.paths.root`; "synthetic" makes the built-in EEG once and keeps it in the cache; "hub"
    downloads `data.paths.root` from the Hugging Face Hub, into its cache."""
    image_size: Count | None = None
    """Pixels of an edge that pictures are resized to, for datasets that `prepare` did not make; absent = their own."""
    sampling_rate: Positive | None = None
    """Hz of the signals, for datasets that `prepare` did not make and that do not say it."""
    paths: Paths = field(default_factory=Paths)
    columns: Columns = field(default_factory=Columns)
    loading: Loading = field(default_factory=Loading)
    balancing: Balancing = field(default_factory=Balancing)
    augmentation: Augmentation = field(default_factory=Augmentation)
