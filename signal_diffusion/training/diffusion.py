"""Train a diffusion model from an experiment file.

python -m signal_diffusion.training.diffusion EXPERIMENT.toml [--output-dir DIR] [--resume-from-checkpoint latest]
accelerate launch --config_file config/accelerate/one-node.yaml -m signal_diffusion.training.diffusion EXPERIMENT.toml …
"""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate import Accelerator

from signal_diffusion.config import schema
from signal_diffusion.config.sources import check_trains, expectations, written_keys
from signal_diffusion.config.writing import to_toml
from signal_diffusion.data.augmentation import augmenting_of
from signal_diffusion.data.balancing import balanced_weights, marginals
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.loaders import Examples
from signal_diffusion.data.montages import check_whole
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.escaping import for_terminal
from signal_diffusion.experiment.checkpoint import FROZEN_NAME, LATENTS_NAME
from signal_diffusion.experiment.compatibility import check_same_run
from signal_diffusion.experiment.conditions import attributes_of, caption_of
from signal_diffusion.experiment.dataset import Dataset, captions_in, grouping_of
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import CONFIG_NAME, load_experiment
from signal_diffusion.experiment.network import Assembly, assemble, method_on, places_if_absent, projection_of
from signal_diffusion.experiment.resolving import Resolved, resolve
from signal_diffusion.models.conditioning.attributes import Attribute, Caption
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.training import running
from signal_diffusion.training.components import Components
from signal_diffusion.training.jobs import Job, Kind, Start
from signal_diffusion.training.latent_cache import cached, latent_split
from signal_diffusion.training.latents import Encoding, check_statistics, fit_statistics
from signal_diffusion.training.masking import masking_of
from signal_diffusion.training.objective import Denoising
from signal_diffusion.training.perceptual import perceptual_of
from signal_diffusion.training.previews import Previews
from signal_diffusion.training.running import command, suggest_command
from signal_diffusion.training.spectral_distance import GeneratedSamples
from signal_diffusion.training.validation import validation_of

if TYPE_CHECKING:
    from signal_diffusion.training.comparison import Comparison

__all__ = ["main", "objective_of", "train"]

MAX_SHOWN = 8
"""Values of a column that are printed with their shares."""


def _load(config: Path, overrides: Sequence[str]) -> schema.Experiment:
    check_trains(config)
    with suggest_command("signal_diffusion.training.autoencoder", config):
        return load_experiment(config, overrides)


def _build(start: Start[schema.Experiment]) -> Job:
    accelerator, checkpoint = start.accelerator, start.checkpoint
    with accelerator.main_process_first():  # one process downloads, converts or generates for all
        resolved = resolve(
            start.experiment,
            written_keys(start.config, start.overrides),
            expectations(start.config),
            checkpoint=checkpoint,
        )
        experiment = resolved.experiment
        dataset = start.checked(resolved.dataset, held_out=experiment.training.validation.enabled)
        resolved = dataclasses.replace(resolved, dataset=dataset)
        start.warn(experiment, dataset, resolved.pretrained)
        # without the pretrained weights, which `assemble` checks if it needs them
        start.check_memory(lambda: inspect(dataclasses.replace(resolved, pretrained=None)).memory)
        caption = caption_of(experiment, captions_in(experiment, dataset))
        if checkpoint:
            check_same_run(checkpoint, experiment, dataset.card, files_advice=start.files_advice)
        assembly = assemble(
            experiment,
            dataset.card,
            resolved.autoencoder,
            caption,
            pretrained=resolved.pretrained,
            checkpoint=checkpoint,
        )
    attributes = attributes_of(experiment.model.conditioning, dataset.card, experiment.data.columns, caption)
    components, warnings = _components(start, resolved, assembly, attributes)
    base = shlex.quote(str(start.paths.base))
    return Job(
        experiment=experiment,
        card=dataset.card,
        components=components,
        model=f"{assembly.model.num_tokens} tokens, kernels: {_kernels(assembly.model)}",
        messages=[*_sizes(assembly, attributes), *warnings],
        closing=lambda trainer: f"sample      uv run signal-diffusion sample {base} --num 64",
    )


def _components(
    start: Start[schema.Experiment], resolved: Resolved, assembly: Assembly, attributes: Sequence[Attribute]
) -> tuple[Components, list[str]]:
    """Build what the training loop needs, and return it with warnings about latents and metrics."""
    experiment, dataset, accelerator = resolved.experiment, resolved.dataset, start.accelerator
    training = experiment.training
    autoencoder = assembly.autoencoder.to(accelerator.device) if assembly.autoencoder else None
    train, held_out = start.splits(dataset, attributes, held_out=training.validation.enabled)
    order = start.order(train, _weights(dataset, accelerator))
    inputs, held_out_inputs, encoding, warnings = train, held_out, None, []
    if autoencoder:
        encoding = Encoding(
            autoencoder=autoencoder,
            cached=experiment.model.autoencoder.cache_latents,
            sample_posterior=experiment.model.autoencoder.sample_posterior,
        )
        if encoding.cached:
            paths, say = dataset.data.paths, accelerator.print
            split = latent_split(train, paths.train, dataset, autoencoder, accelerator)
            inputs = cached(split, accelerator, say=say)
            if held_out:
                split = latent_split(held_out, paths.val, dataset, autoencoder, accelerator)
                held_out_inputs = cached(split, accelerator, say=say)
            autoencoder.release()
        if not autoencoder.statistics:
            accelerator.print("measuring the latents of the training examples")
            warnings = fit_statistics(encoding, inputs, accelerator)
        elif start.checkpoint is None:  # from model.pretrained, which was trained on other examples
            warnings = check_statistics(encoding, inputs, accelerator)
    objective = objective_of(experiment, dataset, attributes, encoding, accelerator.device)
    generator = SampleGenerator(
        method=objective.method,
        sampling=experiment.generation.sampling,
        shape=dataset.card.shape,
        autoencoder=autoencoder,
        device=accelerator.device,
        takes_known=assembly.model.takes_known,
        project=projection_of(experiment.model, dataset.card, dataset.representation, objective.method),
    )
    comparison = _comparison(start, experiment, dataset, (train, held_out), generator)
    components = Components(
        model=assembly.model,
        objective=objective,
        examples=inputs,
        order=order,
        validation=validation_of(
            experiment, held_out_inputs, objective.method, encoding, objective.masking, objective.places
        )
        if held_out_inputs is not None
        else None,
        previews=Previews(
            start.paths.samples,
            train,
            generator,
            dataset.card,
            attributes=attributes,
            table=training.visualization,
        )
        if training.visualization.enabled
        else None,
        comparison=comparison,
        has_many_shapes=objective.places is not None,
        attachments=_attachments(experiment, dataset.card, assembly),
    )
    return components, [*warnings, *(comparison.notes if comparison else [])]


def objective_of(
    experiment: schema.Experiment,
    dataset: Dataset,
    attributes: Sequence[Attribute],
    encoding: Encoding | None,
    device: torch.device,
) -> Denoising:
    """The training objective of an experiment on a dataset."""
    conditioning = experiment.model.conditioning
    return Denoising(
        method=method_on(experiment.model, dataset.card),
        encoding=encoding,
        augmentation=augmenting_of(experiment.data.augmentation, dataset.card, dataset.representation),
        cfg_dropout=conditioning.cfg_dropout if attributes else 0.0,
        attribute_dropout=conditioning.attribute_dropout if len(attributes) > 1 else 0.0,
        masking=masking_of(experiment.training.masking, dataset.card),
        perceptual=perceptual_of(experiment.training, dataset.representation, device),
        places=places_if_absent(dataset.card),
    )


def _attachments(experiment: schema.Experiment, card: DatasetCard, assembly: Assembly) -> dict[str, str]:
    """Text files of each checkpoint that describe its weights."""
    texts = {CONFIG_NAME: to_toml(experiment), CARD_NAME: card.to_json()}
    if assembly.frozen:
        texts[FROZEN_NAME] = json.dumps(assembly.frozen, indent=2) + "\n"
    if assembly.autoencoder and assembly.autoencoder.statistics:
        texts[LATENTS_NAME] = assembly.autoencoder.statistics.to_json()
    return texts


def _weights(dataset: Dataset, accelerator: Accelerator) -> np.ndarray | None:
    """Weights of the training examples for [data.balancing], or None; prints the shares before and after."""
    columns = grouping_of(dataset)
    if not columns:
        return None
    weights = balanced_weights(list(columns.values()), dataset.data.balancing.max_weight)
    for name, values in marginals(columns, dict.fromkeys(columns, weights)).items():
        first = list(values.items())[:MAX_SHOWN]
        shares = ", ".join(f"{value} {each['share']:.2f} → {each['balanced']:.2f}" for value, each in first)
        accelerator.print(for_terminal(f"balanced by {name}: {shares}{', …' if len(values) > len(first) else ''}"))
    return weights


def _comparison(
    start: Start[schema.Experiment],
    experiment: schema.Experiment,
    dataset: Dataset,
    splits: tuple[Examples, Examples | None],
    generator: SampleGenerator,
) -> Comparison | None:
    table, (train, held_out) = experiment.training.validation, splits
    if held_out is None or not table.num_generated:
        return None
    check_whole(dataset.card, "[training.validation] num_generated", "use 0, or ")
    from signal_diffusion.training.comparison import Comparison  # slow: imports SciPy and scikit-learn

    scale, seed = experiment.training.visualization.guidance_scale, experiment.compute.seed
    samples = GeneratedSamples(
        held_out, generator, dataset.representation, table=table, guidance_scale=scale, seed=seed
    )
    return Comparison(samples, train, start.accelerator, card=dataset.card, metric=table.metric)


def _kernels(model: Denoiser) -> str:
    return ", ".join(f"{name} by {kernel}" for name, kernel in model.kernels.items()) or "PyTorch"


def _sizes(assembly: Assembly, attributes: Sequence[Attribute]) -> list[str]:
    """The sizes of the caption embeddings and the latents, a line each."""
    lines = []
    for caption in [attribute for attribute in attributes if isinstance(attribute, Caption)]:
        count, length, width = caption.tokens.shape
        lines.append(
            f"{count - 1} captions, each embedded as {length} × {width} tokens and {caption.pooled.shape[1]} pooled "
            f"values, {(caption.tokens.nbytes + caption.pooled.nbytes) / 2**20:,.1f} MiB"
        )
    if assembly.autoencoder:
        lines.append(assembly.autoencoder.description)
    return lines


KIND = Kind(module="signal_diffusion.training.diffusion", load=_load, build=_build)

train = partial(running.train, KIND)
"""`running.train` for this kind of network."""


def main() -> None:
    """Run the command line."""
    command("Train a diffusion model from an experiment file.", KIND)


if __name__ == "__main__":
    main()
