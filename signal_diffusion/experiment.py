"""An experiment file and what it asks for: the only place where all rooms meet.

`load` reads a file against what the rooms offer; the functions below it build a file's data, model and method. What
the file and the dataset's card contradict each other in is told here, before anything is trained.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from signal_diffusion.config import schema
from signal_diffusion.config.loading import Offer, load_experiment
from signal_diffusion.data.card import CARD_NAME, FORMAT_VERSION, DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.data.loaders import ExampleOrder, Examples, spread
from signal_diffusion.data.registry import REPRESENTATIONS
from signal_diffusion.diffusion.methods import METHODS, PREDICTIONS, Method
from signal_diffusion.diffusion.samplers import SAMPLERS
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning import Attribute, Categorical, Numeric
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.registry import BACKBONES, build

__all__ = [
    "CONFIG_NAME",
    "RunPaths",
    "attributes_of",
    "dataset_root",
    "examples_of",
    "expanded",
    "load",
    "method_of",
    "model_of",
    "naming",
    "order_of",
    "read_card",
    "split_name",
    "steps_of",
]

CONFIG_NAME = "config.toml"
LARGEST_TERMINAL_ALPHA = 0.1


@dataclass(frozen=True)
class RunPaths:
    """The folders of a run."""

    base: Path
    logs: Path
    checkpoints: Path
    samples: Path
    generated: Path

    @classmethod
    def of(cls, base: Path, subdirs: schema.Subdirs) -> RunPaths:
        """The folders that [output.subdirs] names, inside the run directory `base`."""
        return cls(
            base, base / subdirs.logs, base / subdirs.checkpoints, base / subdirs.samples, base / subdirs.generated
        )


def load(path: Path, overrides: Sequence[str] = ()) -> schema.Experiment:
    """Read an experiment file, with `table.key=value` overrides, against all that this version has to offer.

    Raises
    ------
    UserError
        With one line per mistake.
    """
    offer = Offer(
        architectures={name: backbone.architecture for name, backbone in BACKBONES.items()},
        representations=REPRESENTATIONS,
        methods=METHODS,
        predictions=PREDICTIONS,
        samplers=SAMPLERS,
        check=_check_method,
    )
    return load_experiment(path, offer, overrides)


def _check_method(experiment: schema.Experiment) -> Iterator[tuple[str, str]]:
    """What contradicts itself in a method only once it is built."""
    try:
        method = method_of(experiment.model.diffusion)
    except UserError as error:
        yield "model.diffusion.prediction", str(error)
        return
    try:
        method.time_grid(experiment.generation.sampling.steps)
    except UserError as error:
        yield "generation.sampling.steps", str(error)
    if (terminal_alpha := method.schedule.terminal_alpha) > LARGEST_TERMINAL_ALPHA:
        yield (
            "model.diffusion.beta_schedule",
            f"leaves {terminal_alpha:.2f} of the data at the last step, while sampling starts from noise; expected "
            f"at most {LARGEST_TERMINAL_ALPHA}: use more num_timesteps, a larger beta_end, or zero_terminal_snr = true",
        )


def method_of(diffusion: schema.Diffusion) -> Method:
    """The method that [model.diffusion] describes."""
    names = ["time_sampling", "logit_mean", "logit_std"]
    if diffusion.method == "ddpm":
        names = ["num_timesteps", "beta_schedule", "beta_start", "beta_end", "zero_terminal_snr"]
    options: dict[str, Any] = {name: getattr(diffusion, name) for name in names}
    if diffusion.prediction is not None:
        options["prediction"] = diffusion.prediction
    return METHODS[diffusion.method](**options, snr_gamma=diffusion.snr_gamma)


def model_of(model: schema.Model, card: DatasetCard, columns: schema.Columns) -> Denoiser:
    """The backbone with fresh weights, for what the card says examples are."""
    channels, height, width = card.shape
    attributes = attributes_of(model.conditioning, card, columns)
    try:
        return build(model.name, model.architecture, shape=(channels, height, width), attributes=attributes)
    except UserError as error:
        raise UserError(f"[model.architecture] {error}") from None


def attributes_of(
    conditioning: schema.Conditioning, card: DatasetCard, columns: schema.Columns
) -> tuple[Attribute, ...]:
    """What the model is conditioned on, with the names and statistics of the card."""
    if conditioning.type == "none":
        return ()
    names = ("label",) if conditioning.type == "class" else conditioning.attributes
    attributes = tuple(_attribute(name, getattr(columns, name, name), card) for name in names)
    if conditioning.num_classes is not None and conditioning.type == "class":
        found = attributes[0].names if isinstance(attributes[0], Categorical) else ()
        if len(found) != conditioning.num_classes:
            raise UserError(
                f"[model.conditioning] num_classes: {conditioning.num_classes}, but the dataset has {len(found)} "
                f"({', '.join(found)}); leave the key out, or use another dataset"
            )
    return attributes


def _attribute(name: str, column: str, card: DatasetCard) -> Attribute:
    description = card.columns.get(column, {"kind": "missing"})
    if description["kind"] == "categorical":
        return Categorical(name, tuple(description["names"]))
    if description["kind"] == "numeric":
        return Numeric(name, description["mean"], description["std"])
    usable = [key for key, value in card.columns.items() if value["kind"] in ("categorical", "numeric")]
    raise UserError(
        f"[model.conditioning] cannot condition on {name!r}: the dataset has no such attribute in a column "
        f"{column!r}; it has {', '.join(usable) or 'none'}"
    )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the experiment file's name before what is wrong with one of its tables."""
    try:
        yield
    except UserError as error:
        raise UserError(*(f"{path}: {line}" if line.startswith("[") else line for line in error.lines)) from None


def expanded(text: str, key: str) -> Path:
    """A path of the experiment file with `~` and `$VARIABLES` put in; `key` is for the error where one is not set."""
    path = os.path.expandvars(text)
    if "$" in path:
        raise UserError(f"{key}: {path!r} names a variable that is not set")
    return Path(path).expanduser()


def dataset_root(data: schema.Data) -> Path:
    """The dataset's folder; the built-in synthetic one is made on first use, and kept in the cache."""
    if data.source == "synthetic":
        return _synthetic_root(data.representation)
    return expanded(data.paths.root, "[data.paths] root")


def _synthetic_root(representation: str) -> Path:
    from signal_diffusion.data import synthetic
    from signal_diffusion.data.prepare import prepare_synthetic  # what makes data need not slow every start

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kind = f"synthetic-{synthetic.VERSION}-{FORMAT_VERSION}"
    root = cache / "signal-diffusion" / version("signal-diffusion") / kind / representation
    if not (root / CARD_NAME).exists():  # whole once it is there: it is renamed into place
        prepare_synthetic(root, representation)
    return root


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


def examples_of(
    data: schema.Data,
    root: Path,
    card: DatasetCard,
    split: str,
    attributes: Sequence[Attribute],
    limit: int | None,
) -> Examples:
    """A split, opened for reading by batch with the attributes that the model uses."""
    columns = {
        attribute.name: (
            getattr(data.columns, attribute.name, attribute.name),
            attribute.names if isinstance(attribute, Categorical) else None,
        )
        for attribute in attributes
    }
    dataset = open_split(root, split_name(card, split, root))
    tensor = getattr(data.columns, card.representation["column"])
    if tensor not in dataset.column_names:
        raise UserError(
            f"[data.columns] {card.representation['column']}: the dataset has no column {tensor!r}; it has "
            f"{', '.join(dataset.column_names)}"
        )
    return Examples(
        dataset,
        shape=card.shape,
        tensor=tensor,
        attributes=columns,
        memory_limit_mb=data.loading.memory_limit_mb,
        subset=spread(len(dataset), limit),
    )


def split_name(card: DatasetCard, split: str, root: Path) -> str:
    """The dataset's name of a split; "val" finds "validation" too."""
    name = "validation" if split == "val" and "val" not in card.splits else split
    if name not in card.splits:
        raise UserError(
            f"[data.paths] the dataset {root} has no split {split!r}; it has {', '.join(card.splits)} "
            "(training.validation.enabled = false does without one)"
        )
    return name


def order_of(
    experiment: schema.Experiment, num_examples: int, *, num_processes: int = 1, process_index: int = 0
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
