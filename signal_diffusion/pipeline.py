"""From a run's folder to a model that is ready to sample from, and from there to synthetic EEG."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from signal_diffusion import assembly
from signal_diffusion import experiment as experiments
from signal_diffusion.conditions import attributes_of, caption_of
from signal_diffusion.config import schema
from signal_diffusion.data import export
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.diffusion.generation import generate
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError
from signal_diffusion.figures import Row, draw_latents, draw_samples
from signal_diffusion.models.autoencoder import Autoencoder
from signal_diffusion.models.conditioning import Attribute, Caption, Categorical, Conditioning
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.randomness import Purpose, generator_for
from signal_diffusion.training.checkpoints import find_checkpoint, load_weights, verify

__all__ = ["Trained", "conditions", "default_output", "load_trained", "sample"]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A checkpoint, ready to sample from."""

    checkpoint: Path
    experiment: schema.Experiment
    card: DatasetCard
    representation: Representation
    attributes: tuple[Attribute, ...]
    method: Method
    model: Denoiser
    autoencoder: Autoencoder | None
    """Of the space that the model works in."""

    @property
    def sampling(self) -> schema.Sampling:
        """How the experiment would have samples made."""
        return self.experiment.generation.sampling


def load_trained(path: Path, overrides: Sequence[str] = (), captions: Sequence[str] = ()) -> Trained:
    """The model of a checkpoint's folder, or of the newest whole checkpoint of a run's folder, in eval mode.

    Nothing but the checkpoint is read, which has the experiment and the dataset's card beside the weights, and what it
    was trained with and does not hold: the autoencoder, and the pretrained weights that LoRA changes.
    `overrides` are those of an experiment file, such as "generation.sampling.steps=25". `captions` are those that a
    model of captions will be asked for beside the empty one: its text encoder is read, here and nowhere later.

    Raises
    ------
    UserError
        Where there is no checkpoint, it is damaged or of another architecture, or what it needs has gone or changed.
    """
    checkpoint = _checkpoint(path)
    verify(checkpoint)
    experiment = experiments.load(checkpoint / experiments.CONFIG_NAME, overrides)
    card = DatasetCard.load(checkpoint)
    with experiments.naming(checkpoint / experiments.CONFIG_NAME):
        vae = assembly.vae_of(experiment.model)
        caption = caption_of(experiment, [text for text in dict.fromkeys(captions) if text])
        parts = assembly.assemble(experiment, card, vae, caption, checkpoint=checkpoint)
    load_weights(parts.model, checkpoint, use_ema=experiment.generation.sampling.use_ema)
    return Trained(
        checkpoint=checkpoint,
        experiment=experiment,
        card=card,
        representation=representation_of(card),
        attributes=attributes_of(experiment.model.conditioning, card, experiment.data.columns, caption),
        method=experiments.method_of(experiment.model.diffusion),
        model=parts.model.eval(),
        autoencoder=parts.autoencoder,
    )


def _checkpoint(path: Path) -> Path:
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; expected a run's or a checkpoint's")
    config = path / experiments.CONFIG_NAME
    if path.name.startswith("checkpoint-") or not config.is_file():
        return path
    parent = experiments.RunPaths.of(path, experiments.load(config).output.subdirs).checkpoints
    return find_checkpoint(parent, "latest", warn=print)


def conditions(attributes: Sequence[Attribute], asked: Mapping[str, str], num: int) -> Conditioning:
    """Conditions of `num` samples: what was asked for, the null for other attributes.

    A model of one categorical attribute that is not asked for anything makes its classes in turn.

    Raises
    ------
    UserError
        For an attribute that the model does not have, or a value that the attribute does not have.
    """
    known = {attribute.name: attribute for attribute in attributes}
    if unknown := asked.keys() - known.keys():
        has = f"it has {', '.join(known)}" if known else "it is unconditional"
        option = f"--{min(unknown)}" if unknown <= {"label", "caption"} else "--attributes"
        raise UserError(f"{option}: the model has no attribute {', '.join(sorted(unknown))}; {has}")
    if not asked and len(attributes) == 1 and isinstance(attributes[0], Categorical):
        [attribute] = attributes
        return Conditioning({attribute.name: torch.arange(num) % len(attributes[0].names)})
    return Conditioning({name: _values(attribute, asked.get(name), num) for name, attribute in known.items()})


def _values(attribute: Attribute, asked: str | None, num: int) -> Tensor:
    if isinstance(attribute, Categorical):
        if asked is not None and asked not in attribute.names:
            expected = ", ".join(attribute.names)
            raise UserError(f"--attributes {attribute.name}={asked}: expected one of {expected}")
        return torch.full((num,), -1 if asked is None else attribute.names.index(asked))
    if isinstance(attribute, Caption):
        if asked and asked not in attribute.texts:
            raise UserError(f"caption {asked!r}: not embedded; name it among the `captions` of load_trained")
        return torch.full((num,), attribute.texts.index(asked) if asked else -1)
    if asked is None:
        return torch.full((num,), math.nan)
    try:
        value = float(asked)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"--attributes {attribute.name}={asked}: expected a number")
    return torch.full((num,), value)


def default_output(trained: Trained, asked: Mapping[str, str]) -> Path:
    """A folder in the run's generated/, named after what decides the samples."""
    sampling, subdirs = trained.sampling, trained.experiment.output.subdirs
    checkpoints = experiments.RunPaths.of(Path(), subdirs).checkpoints
    base = trained.checkpoint.parent
    for _ in checkpoints.parts:
        base = base.parent
    words = [trained.checkpoint.name, sampling.sampler, f"{sampling.steps}-steps", f"seed-{sampling.seed}"]
    if sampling.guidance_scale != 1:
        words.append(f"guidance-{sampling.guidance_scale:g}")
    words += [f"{name}-{_as_file_name(value)}" for name, value in sorted(asked.items()) if value]
    return base / subdirs.generated / "_".join(words)


def _as_file_name(value: str) -> str:
    """The value, or its beginning and a hash where it is long or has signs that mean something in a path."""
    short = re.sub(r"[^\w.+-]+", "-", value)[:40]
    return short if short == value else f"{short}-{hashlib.sha256(value.encode()).hexdigest()[:8]}"


def sample(
    trained: Trained,
    cond: Conditioning,
    num: int,
    output: Path,
    *,
    formats: Sequence[str] = ("npz",),
    batch_size: int = 64,
    on_batch: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Generate `num` samples, and write them into the new folder `output`: the files there, the samples' first.

    `samples.npz` has `tensors` (N, C, H, W) in [-1, 1], `signals` (N, …) in µV, `sampling_rate` in Hz, `ch_names` and
    an array per attribute, with "" or NaN for the null; no signals where the representation does not hold them. The
    other `formats` are those of `export.write`. `samples.json` says how the samples were made, and `samples.png` shows
    some; `latents.png` what those of a latent space were decoded from. The folder appears whole or not at all.

    Raises
    ------
    UserError
        Where the folder is there already, or a format needs signals that there are none of.
    """
    if output.exists():
        raise UserError(f"{output} is there already; choose another --output, or remove it")
    export.check_formats(formats, trained.card)
    device, autoencoder = _device(trained.experiment.compute), trained.autoencoder
    tensors = generate(
        trained.model.to(device),
        trained.method,
        cond,
        range(num),
        shape=autoencoder.latent_shape if autoencoder else trained.card.shape,
        sampling=trained.sampling,
        device=device,
        batch_size=batch_size,
        on_batch=on_batch,
    )
    latents = tensors if autoencoder else None
    if autoencoder:
        tensors = autoencoder.to(device).decode(tensors)
    signals = _signals(trained, tensors)
    named = {attribute.name: _named(attribute, cond.attributes[attribute.name]) for attribute in trained.attributes}
    settings = asdict(trained.sampling) | {"checkpoint": str(trained.checkpoint), "num_samples": num}
    if "edf" in formats and signals is not None:
        settings["edf_step_microvolts"] = export.edf_step(signals)
    partial = output.with_name(f".unfinished-{output.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    files = [
        export.write(partial / "samples", signals, trained.card, named, name, tensors=tensors).name for name in formats
    ]
    (partial / "samples.json").write_text(json.dumps(settings, indent=2) + "\n")
    draw_samples(partial / "samples.png", _rows(named, tensors), trained.representation, title=trained.checkpoint.name)
    if latents is not None:
        draw_latents(partial / "latents.png", latents, title=trained.checkpoint.name)
    partial.rename(output)
    pictures = ["samples.png"] + ["latents.png"] * (latents is not None)
    return [output / name for name in (*files, "samples.json", *pictures)]


def _signals(trained: Trained, tensors: Tensor) -> Tensor | None:
    """Turn tensors (N, C, H, W) into µV (N, …); None where they hold no signals."""
    if trained.representation.inverse == "none":
        return None
    # One by one, so that what a representation draws (a phase) depends on (seed, i) alone too.
    seed = trained.sampling.seed
    return torch.stack(
        [
            trained.representation.to_signal(tensor, generator_for(Purpose.SIGNAL, seed, i))
            for i, tensor in enumerate(tensors)
        ]
    )


def _device(compute: schema.Compute) -> str:
    """The accelerator that is there, unless the experiment asks for the CPU: it may be of another machine."""
    if compute.device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _rows(named: Mapping[str, np.ndarray], tensors: Tensor) -> list[Row]:
    """A row per class where the class is all there is to ask for, else one."""
    if len(named) != 1 or next(iter(named.values())).dtype.kind != "U":
        return [Row(title="samples", samples=tensors)]
    [(name, values)] = named.items()
    return [Row(title=f"{name}: {value}", samples=tensors[values == value]) for value in np.unique(values)]


def _named(attribute: Attribute, values: Tensor) -> np.ndarray:
    if isinstance(attribute, Categorical):
        return np.array(["" if index < 0 else attribute.names[index] for index in values.tolist()])
    if isinstance(attribute, Caption):
        return np.array(["" if index < 0 else attribute.texts[index] for index in values.tolist()])
    return values.numpy()
