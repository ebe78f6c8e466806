"""The dataset of an experiment: its folder, its card, its splits, and the order of its examples."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.expectations import Expectation
from signal_diffusion.data.card import CARD_NAME, FORMAT_VERSION, DatasetCard
from signal_diffusion.data.dataset import open_split, split_files, split_name
from signal_diffusion.data.loaders import ExampleOrder, Examples, evenly_spaced
from signal_diffusion.data.montages import absent_electrodes
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.data.streaming import RemoteSplit, StreamedTensors
from signal_diffusion.data.synthetic import VERSION as SYNTHETIC_VERSION
from signal_diffusion.errors import MissingError, UserError
from signal_diffusion.experiment.conditions import codes_of, distinct_captions
from signal_diffusion.hub import download, files_of_dataset
from signal_diffusion.models.conditioning.attributes import Attribute
from signal_diffusion.paths import cache_folder, expand_path, is_readable

if TYPE_CHECKING:
    import datasets

__all__ = [
    "Dataset",
    "captions_in",
    "check_expected",
    "dataset_of",
    "grouping_of",
    "num_train_examples",
    "order_of",
    "steps_of",
]


PICTURES = " (in a flat TOML, [data] output_type: without it, the file is of pictures)"


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """The dataset of an experiment: its folder on this machine and its card, each resolved once."""

    data: schema.Data
    """The [data] tables, which say where it is and how to read it."""
    root: Path
    card: DatasetCard

    @property
    def is_assumed(self) -> bool:
        """Whether it stands in for a dataset that is missing, and has no files."""
        return not self.card.splits

    @property
    def representation(self) -> Representation:
        """The representation of its examples."""
        return representation_of(self.card)

    @property
    def tensor_column(self) -> str:
        """The column of its examples' tensors."""
        return getattr(self.data.columns, self.representation.column)

    def split(self, name: str) -> str:
        """The card's name of the split that `data.paths` calls `name`; a `UserError` if there is no such split."""
        try:
            return split_name(self.card, name, self.root)
        except UserError as error:
            advice = "to train without validation, set training.validation.enabled = false"
            raise UserError(f"[data.paths] {error} ({advice})") from None

    def files(self, name: str) -> list[Path]:
        """The Parquet files of a split, none if it is streamed; a `UserError` if they are missing."""
        if self.is_streamed(name):
            return []
        return split_files(self.root, self.split(name), self.card)

    def open(self, name: str) -> datasets.Dataset:
        """A split, memory-mapped; without its tensors if it is streamed."""
        if self.is_streamed(name):
            return self._remote().columns(self.card, self.data.loading.cache_dir)
        return open_split(self.root, self.split(name), self.card, cache_dir=self.data.loading.cache_dir)

    def is_streamed(self, name: str) -> bool:
        """Whether a split is read from the Hub while a run trains: the training split, with `data.streaming`."""
        on_hub = self.data.streaming and self.data.source == "hub"
        return on_hub and self.split(name) == self.split(self.data.paths.train)

    def _remote(self) -> RemoteSplit:
        # the folder of a snapshot has the name of its commit
        filesystem, root = files_of_dataset(self.data.paths.root, self.root.name)
        return RemoteSplit.of_card(filesystem, root, self.split(self.data.paths.train), self.card, self.tensor_column)

    def examples(
        self,
        name: str,
        attributes: Sequence[Attribute] = (),
        limit: int | None = None,
        *,
        memory_limit_mb: int | None = None,
    ) -> Examples:
        """A split, to be read in batches with the model's attributes; at most `limit` examples, spread evenly.

        `memory_limit_mb` is as in `Examples`.
        """
        opened = self.open(name)
        columns = {}
        for attribute in attributes:
            column = getattr(self.data.columns, attribute.name, attribute.name)
            columns[attribute.name] = (column, codes_of(attribute, opened, self.card, column))
        streamed = StreamedTensors(self._remote(), opened) if self.is_streamed(name) else None
        if self.tensor_column not in opened.column_names and streamed is None:
            raise UserError(
                f"[data.columns] {self.representation.column}: the dataset has no column {self.tensor_column!r}; use "
                f"one of {', '.join(opened.column_names)}"
            )
        return Examples(
            opened,
            shape=self.card.shape,
            tensor=self.tensor_column,
            attributes=columns,
            memory_limit_mb=memory_limit_mb,
            subset=evenly_spaced(len(opened), limit),
            may_lack=[self.card.channels.index(name) for name in absent_electrodes(self.card)],
            streamed=streamed,
        )


def dataset_of(data: schema.Data, *, min_channels: int = 1, whole: bool = False) -> Dataset:
    """The dataset that [data] names, downloaded first if it is on the Hub.

    The built-in synthetic dataset is generated in the cache when it is first used. A dataset that `prepare` did not
    make is converted into the cache; with `min_channels` 3, its grey images become RGB, as some pretrained weights
    expect. With `whole`, a training split that runs read from the Hub is downloaded, too.

    Raises
    ------
    UserError
        If there is no dataset (the error shows the commands that make one), or it has another representation.
    """
    data = replace(data, streaming=data.streaming and not whole)
    root = _root(data, min_channels)
    return Dataset(data=data, root=root, card=_card(data, root))


def _root(data: schema.Data, min_channels: int) -> Path:
    if data.source == "synthetic":
        return _synthetic_root(data)
    root = None
    if data.source == "hub":
        ignore = [f"{data.paths.train}/*"] if data.streaming else None  # read while training
        root = download(data.paths.root, key="[data.paths] root", repo_type="dataset", ignore=ignore)
        if data.streaming and not (root / CARD_NAME).exists():
            raise UserError(
                f"[data] streaming: {data.paths.root} has no {CARD_NAME}, so `signal-diffusion prepare` did not make "
                "it and it has to be downloaded and converted; set data.streaming = false"
            )
    elif data.paths.root:
        root = expand_path(data.paths.root, "[data.paths] root")
    if root is None or (root.is_dir() and not (root / CARD_NAME).exists()):
        return _converted_root(data, root, min_channels)
    for key in ("image_size", "sampling_rate"):
        if getattr(data, key) is not None:
            _card(data, root)  # another representation is the better error
            raise UserError(f"[data] {key}: has no effect on {root}: its {CARD_NAME} states it; leave the key out")
    return root


def _synthetic_root(data: schema.Data) -> Path:
    representation, name = data.representation, f"synthetic-{SYNTHETIC_VERSION}-{FORMAT_VERSION}"
    cache = cache_folder(
        data.loading.cache_dir, name, holds=lambda folder: is_readable(folder / representation / CARD_NAME)
    )
    root = cache / representation
    if is_readable(root / CARD_NAME):  # complete if it exists: it is renamed into place
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(root.with_name(f".{representation}.wait")):  # another run may start now
        if not (root / CARD_NAME).exists():
            from signal_diffusion.data.preparing.prepare import prepare_synthetic  # slow: imports SciPy and MNE

            prepare_synthetic(root, representation)
    return root


def _converted_root(data: schema.Data, root: Path | None, min_channels: int) -> Path:
    from signal_diffusion.data.foreign.convert import convert
    from signal_diffusion.data.foreign.options import ConversionOptions
    from signal_diffusion.data.foreign.split_locations import find_splits, split_location

    paths = data.paths
    if root is not None:
        locations, aliases = find_splits(root), {}
        name = paths.root if data.source == "hub" else root.resolve().name
    else:
        written = {"train": paths.train} | ({"validation": paths.val} if paths.val != schema.Paths().val else {})
        keys = {"train": "[data.paths] train", "validation": "[data.paths] val"}
        folders = {split: expand_path(text, keys[split]) for split, text in written.items()}
        locations = {split: split_location(folder, keys[split]) for split, folder in folders.items()}
        aliases, name = {text: split for split, text in written.items()}, folders["train"].name
    wanted = ConversionOptions(
        representation=data.representation,
        columns=asdict(data.columns),
        image_size=data.image_size,
        sampling_rate=data.sampling_rate,
        min_channels=min_channels,
    )
    return convert(locations, wanted, data.loading.cache_dir, name=name, aliases=aliases)


def _card(data: schema.Data, root: Path) -> DatasetCard:
    if not root.exists():
        options = shlex.join(["--output", str(root), "--representation", data.representation])
        raise MissingError(
            f"[data.paths] root: {root} does not exist; make it from recordings with `signal-diffusion prepare "
            f"RECORDINGS {options}`, or from synthetic EEG with `signal-diffusion prepare --synthetic {options}`"
        )
    card = DatasetCard.load(root)
    found = card.representation["name"]
    if found != data.representation:
        raise UserError(
            f"[data] representation: {data.representation!r}, but {root} contains {found!r}; change "
            f"data.representation or data.paths.root{PICTURES if data.representation == 'image' else ''}"
        )
    return card


def check_expected(expected: Iterable[Expectation], card: DatasetCard) -> None:
    """Check the sizes that an experiment file of an older layout states against the dataset's card.

    Raises
    ------
    UserError
        With one line per difference; in the current layout, these sizes follow from the dataset.
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
        f"[{table}] {key}: {each.value}, but the dataset has {found[each.quantity][-1]}, which is now used; leave the "
        "key out, or use another data.paths.root"
        for each in expected
        for table, _, key in [each.key.rpartition(".")]
        if each.value not in found[each.quantity]
    ]
    if wrong:
        raise UserError(*wrong)


def captions_in(experiment: schema.Experiment, dataset: Dataset) -> tuple[str, ...]:
    """The distinct captions of the splits that training reads, in alphabetical order; () for a model without captions.

    Raises
    ------
    UserError
        If the column holds no text, or only empty captions.
    """
    paths = dataset.data.paths
    if experiment.model.conditioning.type != "caption":
        return ()
    names = [paths.train] + ([paths.val] if experiment.training.validation.enabled else [])
    return distinct_captions([dataset.open(name) for name in names], dataset.card, dataset.data.columns.caption)


def num_train_examples(experiment: schema.Experiment | AutoencoderExperiment, dataset: Dataset) -> int:
    """Number of examples that training reads, by the card; a `UserError` if a split that training reads is missing."""
    paths, limit = dataset.data.paths, dataset.data.loading.max_train_examples
    dataset.files(paths.train)
    if experiment.training.validation.enabled:
        dataset.files(paths.val)
    count = dataset.card.splits[dataset.split(paths.train)]["examples"]
    return min(count, limit or count)


def grouping_of(dataset: Dataset) -> dict[str, list[Any]]:
    """The values of the columns that [data.balancing] names, for each training example; empty if it names none."""
    data, card = dataset.data, dataset.card
    if not data.balancing.columns:
        return {}
    opened = dataset.open(data.paths.train).with_format(None)
    rows = evenly_spaced(len(opened), data.loading.max_train_examples)
    values = {}
    for name in data.balancing.columns:
        column = getattr(data.columns, name, name)
        if card.columns.get(column, {}).get("kind") not in ("categorical", "text"):
            usable = [key for key, value in card.columns.items() if value["kind"] in ("categorical", "text")]
            raise UserError(
                f"[data.balancing] columns: the dataset has no categorical or text column {column!r}; use one of "
                f"{', '.join(usable)}"
            )
        found = opened[column][:]
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
    block: int | None = None,
    is_apart: bool = False,
) -> ExampleOrder:
    """The order of the training examples for one process; `block` and `is_apart` are those of `ExampleOrder`."""
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
        block=block,
        is_apart=is_apart,
    )
    if order.steps_per_epoch == 0:
        raise UserError(
            f"[data.loading] batch_size: one step takes {order.examples_per_step} examples (batch × processes × "
            f"accumulation), but training reads {num_examples}; use a smaller batch_size, or drop_last = false"
        )
    return order


def steps_of(training: schema.Training, steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run: `max_steps` if set, otherwise `epochs`."""
    return training.max_steps or training.epochs * steps_per_epoch
