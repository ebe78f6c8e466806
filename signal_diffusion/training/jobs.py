"""Types shared by the training commands: where a run starts, what it trains, and which kind of network that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from accelerate import Accelerator

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AutoencoderExperiment
from signal_diffusion.config.sources import located_lines
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import ExampleOrder, Examples
from signal_diffusion.errors import listed, print_warning
from signal_diffusion.experiment.changed_data import checked, different_files
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.compatibility import RESUME_ON_CHANGED
from signal_diffusion.experiment.dataset import Dataset, order_of
from signal_diffusion.experiment.inspection import findings_on
from signal_diffusion.experiment.loading import RunPaths
from signal_diffusion.experiment.memory import Memory, check_memory
from signal_diffusion.experiment.pretrained import Pretrained
from signal_diffusion.models.conditioning.attributes import Attribute
from signal_diffusion.training.components import Components
from signal_diffusion.training.device import Sharding
from signal_diffusion.training.trainer import Trainer

__all__ = ["AnyExperiment", "Job", "Kind", "Start"]

AnyExperiment = TypeVar("AnyExperiment", schema.Experiment, AutoencoderExperiment)


@dataclass(frozen=True, kw_only=True)
class Start(Generic[AnyExperiment]):
    """What a training command starts from."""

    experiment: AnyExperiment
    """As read from `config` with `overrides`, and with its run directory filled in."""
    config: Path
    overrides: tuple[str, ...]
    paths: RunPaths
    accelerator: Accelerator
    checkpoint: Checkpoint | None
    """The checkpoint to resume from; None for a new run."""
    accept_changed_data: bool = False
    """Train on files that are not those of the dataset's card, or of the checkpoint."""
    force: bool = False
    """Train even if the estimated memory exceeds that of the machine."""
    sharding: Sharding | None = None
    """How the model is split over processes; None = each has all of it."""
    is_trial: bool = False
    """Build the run only to measure it, without warnings about it."""

    def checked(self, dataset: Dataset, *, held_out: bool) -> Dataset:
        """The dataset, after comparing the files that training reads with its card and with the checkpoint's.

        Prints what is accepted to standard error, on the first process. Raises a `UserError` for other changes.
        """
        paths, before = dataset.data.paths, self.checkpoint.card if self.checkpoint else None
        names = [paths.train, paths.val] if held_out else [paths.train]
        found = checked(dataset, names, before, accept_changes=self.accept_changed_data)
        changed = different_files(before or dataset.card, found.card)
        if changed and self.accept_changed_data and self.accelerator.is_main_process and not self.is_trial:
            what = "the checkpoint was trained on" if before else "the dataset's card describes"
            print_warning(f"{dataset.root}: not the files that {what}: {listed(changed)}")
        return found

    @property
    def experiment_before(self) -> schema.Experiment | AutoencoderExperiment | None:
        """The experiment that the checkpoint was trained with; None for a new run."""
        return self.checkpoint.experiment_like(self.experiment) if self.checkpoint else None

    @property
    def files_advice(self) -> str | None:
        """The advice for a checkpoint that was trained on other files; None if they are accepted."""
        return None if self.accept_changed_data else RESUME_ON_CHANGED

    def warn(self, experiment: AnyExperiment, dataset: Dataset, pretrained: Pretrained | None = None) -> None:
        """Print warnings about the experiment on this dataset to standard error, on the first process.

        Raises
        ------
        UserError
            On every process, if the dataset is too small for one step.
        """
        if self.is_trial:
            return
        new = None if self.checkpoint else pretrained
        found = findings_on(experiment, dataset, new, num_processes=self.accelerator.num_processes)
        if self.accelerator.is_main_process:
            for line in located_lines(self.config, self.overrides, found):
                print_warning(line)

    def check_memory(self, estimate: Callable[[], Memory]) -> None:
        """Raise a `UserError` if training takes more memory than this machine has, unless `force`."""
        if not self.force:
            checkpoints_gradients = self.experiment.training.gradient_checkpointing
            needed = estimate()
            if self.sharding:
                needed = needed.sharded(self.accelerator.num_processes)
            check_memory(needed, self.accelerator.device, checkpoints_gradients=checkpoints_gradients)

    def splits(
        self, dataset: Dataset, attributes: Sequence[Attribute] = (), *, held_out: bool
    ) -> tuple[Examples, Examples | None]:
        """The training examples, and the validation examples if `held_out`, else None."""
        paths, loading = dataset.data.paths, dataset.data.loading
        with self.accelerator.main_process_first():  # the first to open a split converts it for all
            train = dataset.examples(paths.train, attributes, loading.max_train_examples)
            validation = dataset.examples(paths.val, attributes, loading.max_val_examples) if held_out else None
        return train, validation

    def order(self, examples: Examples, weights: np.ndarray | None = None) -> ExampleOrder:
        """The order of the training examples for this process."""
        accelerator = self.accelerator
        return order_of(
            self.experiment,
            len(examples),
            num_processes=accelerator.num_processes,
            process_index=accelerator.process_index,
            weights=weights,
            block=examples.block,
            is_apart=examples.is_streamed,
        )

    def trainer(self, job: Job) -> Trainer:
        """A trainer of the job that was built from this."""
        experiment = job.experiment
        return Trainer(
            job.components,
            self.accelerator,
            self.paths,
            training=experiment.training,
            loading=experiment.data.loading,
            debug=experiment.debug,
            seed=experiment.compute.seed,
            sharding=self.sharding,
        )


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is trained, and the lines to print about it."""

    experiment: schema.Experiment | AutoencoderExperiment
    """As written to the run directory."""
    card: DatasetCard
    """The card of its dataset."""
    components: Components
    model: str
    """The network in a few words, for the first line."""
    messages: Sequence[str] = ()
    """Lines to print after the first."""
    closing: Callable[[Trainer], str]
    """The last line of a finished run."""


@dataclass(frozen=True, kw_only=True)
class Kind(Generic[AnyExperiment]):
    """A kind of network that can be trained."""

    module: str
    """The module of its command."""
    load: Callable[[Path, Sequence[str]], AnyExperiment]
    """Reads an experiment file with overrides."""
    build: Callable[[Start[AnyExperiment]], Job]
    """Builds what the training loop needs; raises before anything is written."""
