"""Rules about [data]."""

from __future__ import annotations

from collections.abc import Iterator

from signal_diffusion.config.rules.findings import AnyExperiment, Finding
from signal_diffusion.config.schema import Experiment, Paths
from signal_diffusion.hub import is_hub_id

__all__ = ["augmentation", "balancing", "source"]


def source(experiment: AnyExperiment) -> Iterator[Finding]:
    """The dataset is named once, is of signals where that matters, and its splits differ."""
    data = experiment.data
    if data.source == "synthetic" and data.paths.root:
        yield (
            "data.paths.root",
            f"{data.paths.root!r} is not read with data.source = 'synthetic'; remove one of the two",
        )
    if data.source == "synthetic" and data.representation == "image":
        yield "data.representation", "'image' is for images, but the synthetic dataset is EEG; choose another"
    if data.source == "dataset" and not data.paths.root and data.paths.train == Paths().train:
        yield "data.paths.root", "expected the folder of a dataset, or data.source = 'synthetic'"
    if data.source == "hub" and not is_hub_id(data.paths.root):
        yield "data.paths.root", f"expected a Hub id, 'owner/name' or 'owner/name@revision', found {data.paths.root!r}"
    if data.streaming and data.balancing.columns:
        yield (
            "data.streaming",
            "reads neighbours together, but data.balancing picks single examples; remove one of them",
        )
    train, val = ("validation" if name == "val" else name for name in (data.paths.train, data.paths.val))
    if train == val:
        yield (
            "data.paths.val",
            f"the split {data.paths.val!r} is also the training split; choose another, such as 'validation'",
        )


def balancing(experiment: Experiment) -> Iterator[Finding]:
    """Balancing needs distinct columns and a random order."""
    columns = experiment.data.balancing.columns
    if len(set(columns)) < len(columns):
        yield "data.balancing.columns", f"expected each name once, found {', '.join(columns)}"
    if columns and not experiment.data.loading.shuffle_train:
        yield "data.balancing.columns", "balancing samples at random, which needs data.loading.shuffle_train = true"


def augmentation(experiment: AnyExperiment) -> Iterator[Finding]:
    """The axes of an EEG tensor are time, frequency and electrodes, and its values encode microvolts."""
    augmentation, representation = experiment.data.augmentation, experiment.data.representation
    harms = {
        "horizontal_flip": (augmentation.horizontal_flip, "reverses time"),
        "rotation_degrees": (augmentation.rotation_degrees, "mixes time with frequency or electrodes"),
        "color_jitter.enabled": (augmentation.color_jitter.enabled, "changes microvolts"),
    }
    if augmentation.mirror and representation != "timeseries":
        yield (
            "data.augmentation.mirror",
            f"swaps the rows of time series (data.representation = {representation!r}); use it only with 'timeseries'",
        )
    for key, (on, harm) in harms.items():
        if on and representation != "image":
            yield (
                f"data.augmentation.{key}",
                f"{harm} in EEG (data.representation = {representation!r}); use it only with 'image'",
            )
