"""The dataset of an experiment: its folder, its card, its splits, and the order of its examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.legacy.outcomes import Expectation
from signal_diffusion.data.card import CARD_NAME, FORMAT_VERSION, DatasetCard
from signal_diffusion.data.dataset import open_split, split_files, split_name
from signal_diffusion.data.loaders import ExampleOrder, Examples, spread
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.synthetic import VERSION as SYNTHETIC_VERSION
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.conditions import codes_of
from signal_diffusion.hub import downloaded
from signal_diffusion.models.conditioning.attributes import Attribute
from signal_diffusion.paths import cache_folder, expanded

__all__ = [
    "check_expected",
    "dataset_root",
    "examples_of",
    "grouping_of",
    "num_train_examples",
    "order_of",
    "read_card",
    "steps_of",
]


def dataset_root(data: schema.Data, pretrained: str = "") -> Path:
    """The dataset's folder, brought here first where it is on the Hub.

    The built-in synthetic dataset is made on first use and kept in the cache, and so is what a dataset that `prepare`
    did not make becomes. Grey pictures of the latter become coloured for a `pretrained` model (a checkpoint's folder)
    that knows colours.
    """
    if data.source == "synthetic":
        return _synthetic_root(data)
    root = None
    if data.source == "hub":
        root = downloaded(data.paths.root, key="[data.paths] root", repo_type="dataset")
    elif data.paths.root:
        root = expanded(data.paths.root, "[data.paths] root")
    if root is None or (root.is_dir() and not (root / CARD_NAME).exists()):
        return _converted_root(data, root, pretrained)
    for key in ("image_size", "sampling_rate"):
        if getattr(data, key) is not None:
            raise UserError(f"[data] {key}: has no effect on {root}, whose {CARD_NAME} says it; leave the key out")
    return root


def _synthetic_root(data: schema.Data) -> Path:
    representation, cache = data.representation, cache_folder(data.loading.cache_dir)
    root = cache / f"synthetic-{SYNTHETIC_VERSION}-{FORMAT_VERSION}" / representation
    root.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root.with_name(f".{representation}.wait")):  # a run that starts meanwhile uses it too
        if not (root / CARD_NAME).exists():  # whole once it is there: it is renamed into place
            from signal_diffusion.data.preparing.prepare import prepare_synthetic  # imports SciPy and MNE's readers

            prepare_synthetic(root, representation)
    return root


def _converted_root(data: schema.Data, root: Path | None, pretrained: str) -> Path:
    from signal_diffusion.data.foreign import convert as foreign

    paths = data.paths
    if root is not None:
        places, aliases = foreign.found_splits(root), {}
        name = paths.root if data.source == "hub" else root.resolve().name
    else:
        written = {"train": paths.train} | ({"validation": paths.val} if paths.val != schema.Paths().val else {})
        keys = {"train": "[data.paths] train", "validation": "[data.paths] val"}
        folders = {split: expanded(text, keys[split]) for split, text in written.items()}
        places = {split: foreign.place_of(folder, keys[split]) for split, folder in folders.items()}
        aliases, name = {text: split for split, text in written.items()}, folders["train"].name
    start = expanded(pretrained, "[model] pretrained") if pretrained else Path()
    channels = DatasetCard.load(start).shape[0] if pretrained and (start / CARD_NAME).exists() else 1
    wanted = foreign.Wanted(
        representation=data.representation,
        columns=asdict(data.columns),
        image_size=data.image_size,
        sampling_rate=data.sampling_rate,
        min_channels=3 if channels == 3 else 1,
    )
    cache = cache_folder(data.loading.cache_dir) / "converted"
    return foreign.convert(places, wanted, cache, name=name, aliases=aliases)


def read_card(data: schema.Data, root: Path) -> DatasetCard:
    """The dataset's card, held against [data].

    Raises
    ------
    UserError
        Where there is no dataset (with the commands that make one), or it is of another representation.
    """
    if not root.exists():
        raise UserError(
            f"[data.paths] root: {root} does not exist; make it from recordings with `signal-diffusion prepare "
            f"RECORDINGS --output {root} --representation {data.representation}`, or from built-in EEG with "
            f"`signal-diffusion prepare --synthetic --output {root} --representation {data.representation}`"
        )
    card = DatasetCard.load(root)
    found = card.representation["name"]
    if found != data.representation:
        raise UserError(
            f"[data] representation: {data.representation!r}, but {root} holds {found!r}; expected the same; set one "
            "of data.representation and data.paths.root"
        )
    return card


def check_expected(expected: Iterable[Expectation], card: DatasetCard) -> None:
    """Hold what a file of an older layout says of the examples' size against the dataset's card.

    Raises
    ------
    UserError
        With a line per difference: today all of that follows from the dataset.
    """
    channels, height, width = card.shape
    series = card.representation["name"] == "timeseries"
    found: dict[str, tuple[Any, ...]] = {
        "size": (width, [height, width]) if series or height == width else ([height, width],),
        "channels": (channels,),
        "electrodes": (height if series else len(card.channels),),
        "samples": (width if series else card.window,),
    }
    wrong = [
        f"[{table}] {key}: {each.value}, but the dataset has {found[each.quantity][-1]}; today it follows from there: "
        "leave the key out, or take another data.paths.root"
        for each in expected
        for table, _, key in [each.key.rpartition(".")]
        if each.value not in found[each.quantity]
    ]
    if wrong:
        raise UserError(*wrong)


def examples_of(
    data: schema.Data,
    root: Path,
    card: DatasetCard,
    split: str,
    attributes: Sequence[Attribute],
    limit: int | None,
) -> Examples:
    """A split, opened for reading by batch with the attributes that the model uses."""
    dataset = open_split(root, split_name(card, split, root))
    columns = {}
    for attribute in attributes:
        column = getattr(data.columns, attribute.name, attribute.name)
        columns[attribute.name] = (column, codes_of(attribute, dataset, card, column))
    kind = representation_of(card).column
    tensor = getattr(data.columns, kind)
    if tensor not in dataset.column_names:
        raise UserError(
            f"[data.columns] {kind}: the dataset has no column {tensor!r}; it has {', '.join(dataset.column_names)}"
        )
    return Examples(
        dataset,
        shape=card.shape,
        tensor=tensor,
        attributes=columns,
        memory_limit_mb=data.loading.memory_limit_mb,
        subset=spread(len(dataset), limit),
    )


def num_train_examples(experiment: schema.Experiment | AutoencoderExperiment, root: Path, card: DatasetCard) -> int:
    """How many examples training sees, by the card alone; the splits that it reads have to be there."""
    data = experiment.data
    split = split_name(card, data.paths.train, root)
    split_files(root, split)
    if experiment.training.validation.enabled:
        split_files(root, split_name(card, data.paths.val, root))
    there = card.splits[split]["examples"]
    return min(there, data.loading.max_train_examples or there)


def grouping_of(data: schema.Data, root: Path, card: DatasetCard) -> dict[str, list[Any]]:
    """The columns that [data.balancing] names, for the examples that are trained on; empty where it is off."""
    if not data.balancing.columns:
        return {}
    dataset = open_split(root, split_name(card, data.paths.train, root)).with_format(None)
    rows = spread(len(dataset), data.loading.max_train_examples)
    values = {}
    for name in data.balancing.columns:
        column = getattr(data.columns, name, name)
        if card.columns.get(column, {}).get("kind") not in ("categorical", "text"):
            usable = [key for key, value in card.columns.items() if value["kind"] in ("categorical", "text")]
            raise UserError(
                f"[data.balancing] columns: no groups in a column {column!r}; the dataset has {', '.join(usable)}"
            )
        found = dataset[column][:]
        names = card.columns[column].get("names", ())
        named = [names[value] if isinstance(value, int) else value for value in found]
        values[name] = [named[row] for row in rows]
    return values


def order_of(
    experiment: schema.Experiment | AutoencoderExperiment,
    num_examples: int,
    *,
    num_processes: int = 1,
    process_index: int = 0,
    weights: np.ndarray | None = None,
) -> ExampleOrder:
    """The order of the training examples for one process."""
    loading, training = experiment.data.loading, experiment.training
    order = ExampleOrder(
        num_examples=num_examples,
        batch_size=loading.batch_size,
        accumulation=training.gradient_accumulation_steps,
        num_processes=num_processes,
        process_index=process_index,
        seed=experiment.compute.seed,
        shuffle=loading.shuffle_train,
        drop_last=loading.drop_last,
        weights=weights,
    )
    if order.steps_per_epoch == 0:
        raise UserError(
            f"[data.loading] batch_size: one step takes {order.examples_per_step} examples (batch × processes × "
            f"accumulation), but the training split has {num_examples}; use a smaller batch_size, or drop_last = false"
        )
    return order


def steps_of(training: schema.Training, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run: `max_steps`, or else `epochs`."""
    return training.max_steps or training.epochs * steps_per_epoch
