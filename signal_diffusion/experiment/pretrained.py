"""Pretrained weights of [model] pretrained, and frozen weights that a checkpoint needs but does not contain.

A checkpoint contains the trained weights. The frozen ones (the autoencoder, the text encoder and, with LoRA, the
pretrained weights) are named by the experiment and verified by their hash.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from signal_diffusion import checkpoints
from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.recordings.channels import canonical
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion.normalisation import UNCHANGED
from signal_diffusion.errors import MissingError, UserError, listed
from signal_diffusion.experiment.checkpoint import Checkpoint
from signal_diffusion.experiment.compatibility import check_same_network, other_conditions
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.autoencoders.latent_statistics import LatentStatistics
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.pretrained import CONFIG, PIPELINE, DiffusersDenoiser, find_model_folder
from signal_diffusion.models.registry import BACKBONES
from signal_diffusion.paths import expand_path

__all__ = ["KEYS", "Pretrained", "check_same_frozen", "pretrained_of"]

KEYS = {
    "autoencoder": "[model.autoencoder] path",
    "pretrained": "[model] pretrained",
    "text_encoder": "[model.conditioning] text_encoder",
}
"""Names of frozen weights in `Checkpoint.frozen`, and the key that says where they are, as errors show it."""
NOT_A_CHECKPOINT = "not a checkpoint; use the checkpoint-<step> folder of an earlier run"


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """The weights that [model] pretrained names, resolved once."""

    source: Path
    """A folder or, if there is no such folder, the Hub id of weights in diffusers' layout."""
    table: schema.Model
    checkpoint: Checkpoint | None
    """None if they are in diffusers' layout."""

    def architecture(self, written: Collection[str], resumed: Checkpoint | None) -> object:
        """The architecture of the pretrained network; downloads only its settings.

        Parameters
        ----------
        written
            Dotted keys set in the file or by an override, which must not contradict the weights.
        resumed
            The checkpoint that the run resumes from, which already knows the architecture.

        Raises
        ------
        MissingError
            If the weights do not exist.
        UserError
            If they are of another kind of network, or contradict `written` keys.
        """
        model = self.table
        if self.checkpoint:
            if resumed is None and not self.source.exists():
                raise MissingError(f"[model] pretrained: {self.source}: {NOT_A_CHECKPOINT}")
            return model.architecture
        with _named_in_errors(self._advice_without_hub()):
            if resumed:
                found: Any = resumed.experiment.model.architecture
            else:
                read = BACKBONES[model.name].architecture_of
                assert read is not None
                found = read(self._folder(weights=False))
        wrong = [
            f"[model.architecture] {field.name}: {getattr(model.architecture, field.name)}, but the pretrained model "
            f"has {getattr(found, field.name)}; leave the key out"
            for field in dataclasses.fields(model.architecture)
            if f"model.architecture.{field.name}" in written
            and getattr(found, field.name, None) != getattr(model.architecture, field.name)
        ]
        if wrong:
            raise UserError(*wrong)
        return found

    def check(self, model: Denoiser, experiment: schema.Experiment) -> None:
        """Check that the weights are complete and fit the network, without loading them.

        Raises
        ------
        UserError
            If they do not.
        """
        with _named_in_errors():
            if self.checkpoint is None:
                assert isinstance(model, DiffusersDenoiser)
                model.check_channels(self._folder(weights=False))
                return
            if not self.checkpoint.exists:
                raise UserError(f"{self.source}: {NOT_A_CHECKPOINT}")
            checkpoints.verify(self.source)
            check_same_network(self.checkpoint, experiment)

    def load(self, model: Denoiser, experiment: schema.Experiment, card: DatasetCard) -> None:
        """Load the weights into a fresh network; from a checkpoint of this package, the averaged ones.

        The embeddings of conditions keep their fresh weights if the checkpoint was trained with other conditions.
        """
        with _named_in_errors():
            if self.checkpoint is None:
                assert isinstance(model, DiffusersDenoiser)
                model.load_pretrained(self._folder())
            else:
                with _own_conditioning(model) if self.other_conditions(experiment, card) else nullcontext():
                    checkpoints.load_weights(model, self.source, use_ema=True)

    def other_conditions(self, experiment: schema.Experiment, card: DatasetCard) -> str:
        """The conditions that the checkpoint was trained with, if they differ from the experiment's; "" otherwise.

        If they differ, the embeddings of conditions start from fresh weights, as with weights in diffusers' layout.
        """
        if self.checkpoint is None or not self.checkpoint.exists:
            return ""
        with _named_in_errors():
            return other_conditions(self.checkpoint, experiment, card)

    def other_electrodes(self, experiment: schema.Experiment, card: DatasetCard) -> str:
        """The first electrode of time series that differs from that of the checkpoint in the same row; "" if none."""
        if (
            card.representation["name"] != "timeseries"
            or experiment.model.conditioning.electrodes == "position"
            or self.checkpoint is None
            or not self.checkpoint.exists
        ):
            return ""
        with _named_in_errors():
            rows = enumerate(zip(self.checkpoint.card.channels, card.channels, strict=False), start=1)
        return next((f"row {row} was {a}, now {b}" for row, (a, b) in rows if canonical(a) != canonical(b)), "")

    def other_normalisation(self, card: DatasetCard) -> bool:
        """Whether the checkpoint saw examples as they are, and this run normalises them, or the reverse."""
        if self.checkpoint is None or not self.checkpoint.exists:
            return False
        with _named_in_errors():
            found = [representation_of(each).normalisation == UNCHANGED for each in (self.checkpoint.card, card)]
        return found[0] != found[1]

    def latent_statistics(self, autoencoder: Autoencoder) -> LatentStatistics | None:
        """Statistics of the checkpoint's latents, if they are those of the same autoencoder."""
        if self.checkpoint is None or self.checkpoint.frozen.get("autoencoder") != autoencoder.fingerprint:
            return None
        with _named_in_errors():
            return self.checkpoint.latent_statistics("use a checkpoint of this version")

    def _folder(self, *, weights: bool = True) -> Path:
        """The folder of the network's weights, or of its settings only, downloaded if it is on the Hub."""
        return find_model_folder(self.source.as_posix(), BACKBONES[self.table.name].part, weights=weights)

    def _advice_without_hub(self) -> str:
        """End of an error's line: what to do if the Hub, which has the weights, cannot be reached."""
        if not self.table.autoencoder.enabled or self.source.is_dir():
            return ""
        return (
            '; without the Hub, set model.pretrained to a local folder, or model.pretrained = "" and '
            "model.autoencoder.path to a VAE's folder"
        )


def pretrained_of(model: schema.Model) -> Pretrained | None:
    """The weights that [model] pretrained names, None if it is ""; a `UserError` if the backbone cannot load them."""
    if not model.pretrained:
        return None
    source = expand_path(model.pretrained, "[model] pretrained")
    checkpoint, backbone = Checkpoint(source), BACKBONES[model.name]
    if not checkpoint.exists and backbone.architecture_of is not None:
        return Pretrained(source=source, table=model, checkpoint=None)
    if not checkpoint.exists and ((source / PIPELINE).is_file() or (source / CONFIG).is_file()):
        able = [name for name, each in BACKBONES.items() if each.architecture_of is not None]
        raise UserError(
            f"[model] pretrained: {source} is in diffusers' layout, which {listed(able)} can start from; for "
            f"{model.name!r} use the checkpoint folder of an earlier run"
        )
    return Pretrained(source=source, table=model, checkpoint=checkpoint)


def check_same_frozen(checkpoint: Checkpoint, frozen: Mapping[str, str]) -> None:
    """Raise a `UserError` unless the `frozen` hashes are those that a checkpoint was trained with.

    LoRA updates on other weights, or latents of another autoencoder, would give noise that looks like a result.
    """
    for name, key in KEYS.items():
        then, now = checkpoint.frozen.get(name, "none"), frozen.get(name, "none")
        if then != now:
            raise UserError(
                f"{key}: other weights than {checkpoint} was trained with (SHA-256 {now[:12]} now, {then[:12]} then); "
                "restore those, or start a new run"
            )


@contextmanager
def _named_in_errors(advice: str = "") -> Iterator[None]:
    """Prefix errors that name no key with [model] pretrained, and append `advice` to all of them."""
    try:
        yield
    except UserError as error:
        lines = (line if line.startswith("[") else f"[model] pretrained: {line}" for line in error.lines)
        raise type(error)(*(f"{line}{advice}" for line in lines)) from None


@contextmanager
def _own_conditioning(model: Denoiser) -> Iterator[None]:
    """Keep a network's own `conditioning` weights while a state without or with other ones is loaded."""

    def keep(module: torch.nn.Module, state: dict[str, Any], *_: object) -> None:
        for name in [name for name in state if name.startswith("conditioning.")]:
            del state[name]
        state.update({name: own for name, own in module.state_dict().items() if name.startswith("conditioning.")})

    hook = model.register_load_state_dict_pre_hook(keep)
    try:
        yield
    finally:
        hook.remove()
