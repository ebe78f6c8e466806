"""What training starts from where [model] pretrained says so: a checkpoint of ours, or weights in diffusers' layout."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from signal_diffusion import experiment as experiments
from signal_diffusion.config import schema
from signal_diffusion.errors import UserError, listed
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.pretrained import CONFIG, PIPELINE, DiffusersDenoiser, located
from signal_diffusion.models.registry import BACKBONES
from signal_diffusion.training import checkpoints

__all__ = ["load_pretrained", "with_architecture"]


def with_architecture(
    experiment: schema.Experiment, written: Collection[str] = (), *, checkpoint: Path | None = None
) -> schema.Experiment:
    """The experiment with the architecture of its pretrained weights, where those are in diffusers' layout.

    So a checkpoint's experiment has it, and needs the weights' folder no more. Of what is on the Hub, only settings are
    brought here yet.

    Parameters
    ----------
    experiment
        As read from a file.
    written
        Dotted keys that the file or an override gives, which must not contradict the weights.
    checkpoint
        What the run goes on from, which knows the architecture already.

    Raises
    ------
    UserError
        Where there are no such weights, they are of another network, or the file contradicts them.
    """
    model = experiment.model
    if not _in_diffusers_layout(model):
        return experiment
    with _told():
        if checkpoint is not None:
            architecture = experiments.load(checkpoint / experiments.CONFIG_NAME).model.architecture
        else:
            read = BACKBONES[model.name].architecture_of
            assert read is not None
            architecture = read(_folder(model, weights=False))
    wrong = [
        f"[model.architecture] {field.name}: {getattr(model.architecture, field.name)}, but the pretrained model has "
        f"{getattr(architecture, field.name)}; leave the key out"
        for field in dataclasses.fields(model.architecture)
        if f"model.architecture.{field.name}" in written
        and getattr(architecture, field.name, None) != getattr(model.architecture, field.name)
    ]
    if wrong:
        raise UserError(*wrong)
    return dataclasses.replace(experiment, model=dataclasses.replace(model, architecture=architecture))


def load_pretrained(model: Denoiser, table: schema.Model) -> None:
    """Put the weights that [model] pretrained names into a fresh model; of a checkpoint, the averaged ones.

    Raises
    ------
    UserError
        Where they are not whole, or of another network.
    """
    if not _in_diffusers_layout(table):
        folder = experiments.expanded(table.pretrained, "[model] pretrained")
        checkpoints.verify(folder)
        checkpoints.load_weights(model, folder, use_ema=True)
        return
    assert isinstance(model, DiffusersDenoiser)
    with _told():
        model.check_channels(_folder(table, weights=False))
        model.load_pretrained(_folder(table))


def _in_diffusers_layout(model: schema.Model) -> bool:
    if not model.pretrained:
        return False
    root = experiments.expanded(model.pretrained, "[model] pretrained")
    if (root / checkpoints.MANIFEST).is_file():
        return False
    if BACKBONES[model.name].architecture_of is not None:
        return True
    if (root / PIPELINE).is_file() or (root / CONFIG).is_file():
        able = [name for name, backbone in BACKBONES.items() if backbone.architecture_of is not None]
        raise UserError(
            f"[model] pretrained: {root} is in diffusers' layout, which {listed(able)} can start from; for "
            f"{model.name!r} expected the checkpoint folder of an earlier run"
        )
    return False


def _folder(model: schema.Model, *, weights: bool = True) -> Path:
    """The folder of the network's weights, or of its settings alone, local or brought here from the Hub."""
    root = str(experiments.expanded(model.pretrained, "[model] pretrained"))
    return located(root, BACKBONES[model.name].part, weights=weights)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(*(f"[model] pretrained: {line}" for line in error.lines)) from None
