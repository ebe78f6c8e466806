"""Train a diffusion model from an experiment file.

python -m signal_diffusion.training.diffusion EXPERIMENT.toml [--output-dir DIR] [--resume-from-checkpoint latest]
accelerate launch --multi_gpu -m signal_diffusion.training.diffusion EXPERIMENT.toml …
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object

from signal_diffusion.config import schema
from signal_diffusion.config.loading import to_toml, translation_of, written_keys
from signal_diffusion.data.balancing import balanced_weights, marginals
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.dataset import file_digests, split_name
from signal_diffusion.data.loaders import Examples
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import raised_by_all
from signal_diffusion.experiment.compatibility import check_same_run
from signal_diffusion.experiment.conditions import attributes_of, caption_of, captions_in
from signal_diffusion.experiment.dataset import (
    check_expected,
    dataset_root,
    examples_of,
    grouping_of,
    order_of,
    read_card,
    steps_of,
)
from signal_diffusion.experiment.loading import CONFIG_NAME, RunPaths, file_in_errors, load_experiment
from signal_diffusion.experiment.network import Assembly, assemble, method_on, vae_of, with_architecture
from signal_diffusion.experiment.pretrained import FROZEN_NAME, LATENTS_NAME
from signal_diffusion.models.autoencoders.frozen import Autoencoder
from signal_diffusion.models.conditioning.attributes import Attribute, Caption
from signal_diffusion.training.comparison import SpectralComparison
from signal_diffusion.training.latent_cache import cached, describe
from signal_diffusion.training.latents import Encoding, check_statistics, fit_statistics
from signal_diffusion.training.locking import alone_in
from signal_diffusion.training.objective import Denoising
from signal_diffusion.training.previews import Previews
from signal_diffusion.training.resuming import checkpoint_to_resume, resume_from, without_resume
from signal_diffusion.training.running import (
    accelerator_of,
    run,
    run_command_line,
    sent_to,
    warn,
    with_run_directory,
)
from signal_diffusion.training.trainer import Parts, Trainer
from signal_diffusion.training.validation import Validation

__all__ = ["main", "train"]

MODULE = "signal_diffusion.training.diffusion"
MOST_SHOWN = 8


def train(
    config: Path,
    *,
    output_dir: Path | None = None,
    resume: str | None = None,
    overrides: tuple[str, ...] = (),
) -> bool:
    """Train as `config` says; whether the end was reached.

    Raises
    ------
    UserError
        For what the user can put right, before anything is written where that is possible.
    """
    experiment = _load(config, overrides)
    with file_in_errors(config):
        experiment = with_run_directory(experiment, config, output_dir, resume)
        accelerator = accelerator_of(experiment)
        with alone_in(Path(experiment.output.base_dir), accelerator):
            return _train(experiment, accelerator, config, overrides)


def _load(config: Path, overrides: Sequence[str]) -> schema.Experiment:
    with sent_to("signal_diffusion.training.autoencoder", config):
        return load_experiment(config, overrides)


def _train(experiment: schema.Experiment, accelerator: Accelerator, config: Path, overrides: Sequence[str]) -> bool:
    paths = RunPaths.of(Path(experiment.output.base_dir), experiment.output.subdirs)
    checkpoint = checkpoint_to_resume(experiment, paths, accelerator)
    resumption, experiment = experiment.training.resume, without_resume(experiment)
    with accelerator.main_process_first():  # what has to be made or brought here is so by one
        experiment = with_architecture(experiment, written_keys(config, overrides), checkpoint=checkpoint)
        vae = vae_of(experiment.model)
        root = dataset_root(experiment.data, experiment.model.pretrained)
        card = read_card(experiment.data, root)
        check_expected(translation_of(config).expected, card)
        warn(experiment, config, overrides, root, card, accelerator)
        caption = caption_of(experiment, captions_in(experiment, root, card))
        if checkpoint:
            check_same_run(checkpoint, experiment, card)
        parts = assemble(experiment, card, vae, caption, checkpoint=checkpoint)
        del vae  # which the autoencoder alone holds from here on, and may let go of
    attributes = attributes_of(experiment.model.conditioning, card, experiment.data.columns, caption)
    trainer, odd = _trainer(experiment, accelerator, paths, root, card, parts, attributes, checkpoint)
    otherwise = resume_from(trainer, checkpoint, resumption, experiment)
    return run(
        trainer,
        experiment,
        paths,
        checkpoint,
        announcement=[*_announcement(experiment, trainer, parts, attributes), *odd, *otherwise],
        module=MODULE,
        after=lambda: [f"sample      uv run signal-diffusion sample {shlex.quote(str(paths.base))} --num 64"],
    )


def _trainer(
    experiment: schema.Experiment,
    accelerator: Accelerator,
    paths: RunPaths,
    root: Path,
    card: DatasetCard,
    assembled: Assembly,
    attributes: Sequence[Attribute],
    checkpoint: Path | None,
) -> tuple[Trainer, list[str]]:
    """Build everything else that the loop works with; and what is odd about the latents, a line each."""
    data, model_table, training = experiment.data, experiment.model, experiment.training
    autoencoder = assembled.autoencoder.to(accelerator.device) if assembled.autoencoder else None
    real = _splits(experiment, accelerator, root, card, attributes)
    order = order_of(
        experiment,
        len(real["train"]),
        num_processes=accelerator.num_processes,
        process_index=accelerator.process_index,
        weights=_weights(experiment, root, card, accelerator),
    )
    encoding, splits, odd = None, real, []
    if autoencoder:
        encoding, splits = _encoding(experiment, autoencoder, real, accelerator, root, card)
        if not autoencoder.statistics:
            accelerator.print("measuring the latents of the training examples")
            odd = fit_statistics(encoding, splits["train"], accelerator)
        elif checkpoint is None:  # they are of model.pretrained, which saw other examples
            odd = check_statistics(encoding, splits["train"], accelerator)
    method = method_on(model_table, card)
    parts = Parts(
        model=assembled.model,
        objective=Denoising(
            method=method,
            encoding=encoding,
            augmentation=data.augmentation,
            cfg_dropout=model_table.conditioning.cfg_dropout if attributes else 0.0,
            attribute_dropout=model_table.conditioning.attribute_dropout if len(attributes) > 1 else 0.0,
        ),
        examples=splits["train"],
        order=order,
        num_steps=steps_of(training, order.steps_per_epoch),
        validation=_validation(experiment, splits.get("validation"), method, encoding),
        previews=Previews(
            paths.samples,
            real["train"],
            attributes=attributes,
            representation=representation_of(card),
            method=method,
            visualization=training.visualization,
            sampling=experiment.generation.sampling,
            autoencoder=autoencoder,
        )
        if training.visualization.enabled
        else None,
        comparison=_comparison(experiment, real.get("validation"), card, method, autoencoder),
        checkpoint_dir=paths.checkpoints,
        attachments=_attachments(experiment, card, assembled),
        trace_dir=paths.logs if experiment.debug.profile else None,
        log_gradients=experiment.debug.log_gradients,
    )
    trainer = Trainer(parts, accelerator, training=training, loading=data.loading, seed=experiment.compute.seed)
    return trainer, odd


def _attachments(experiment: schema.Experiment, card: DatasetCard, assembled: Assembly) -> dict[str, str]:
    """What a checkpoint says of its weights, by file name."""
    texts = {CONFIG_NAME: to_toml(experiment), CARD_NAME: card.to_json()}
    if assembled.frozen:
        texts[FROZEN_NAME] = json.dumps(assembled.frozen, indent=2) + "\n"
    if assembled.autoencoder and assembled.autoencoder.statistics:
        texts[LATENTS_NAME] = assembled.autoencoder.statistics.to_json()
    return texts


def _splits(
    experiment: schema.Experiment,
    accelerator: Accelerator,
    root: Path,
    card: DatasetCard,
    attributes: Sequence[Attribute],
) -> dict[str, Examples]:
    """The data of "train", and of "validation" where there is any to do."""
    data, loading = experiment.data, experiment.data.loading
    limits = {"train": (data.paths.train, loading.max_train_examples)}
    if experiment.training.validation.enabled:
        limits["validation"] = (data.paths.val, loading.max_val_examples)
    with accelerator.main_process_first():  # the first to open a split converts it for all
        return {
            name: examples_of(data, root, card, split, attributes, limit) for name, (split, limit) in limits.items()
        }


def _encoding(
    experiment: schema.Experiment,
    autoencoder: Autoencoder,
    real: dict[str, Examples],
    accelerator: Accelerator,
    root: Path,
    card: DatasetCard,
) -> tuple[Encoding, dict[str, Examples]]:
    """The way into the latent space, and the splits that go through it: data, or what the cache has of them."""
    table, data = experiment.model.autoencoder, experiment.data
    encoding = Encoding(autoencoder=autoencoder, cached=table.cache_latents, sample_posterior=table.sample_posterior)
    if not table.cache_latents:
        return encoding, real
    column = getattr(data.columns, representation_of(card).column)
    splits = {}
    for name, examples in real.items():
        split = split_name(card, data.paths.train if name == "train" else data.paths.val, root)
        files = _digests(root, split, accelerator)
        key = describe(autoencoder, card, files=files, split=split, column=column, num_examples=len(examples))
        splits[name] = cached(
            examples,
            autoencoder,
            key,
            accelerator,
            memory_limit_mb=data.loading.memory_limit_mb,
            say=accelerator.print,
            cache_dir=data.loading.cache_dir,
        )
    autoencoder.release()
    return encoding, splits


def _digests(root: Path, split: str, accelerator: Accelerator) -> dict[str, str]:
    """The hashes of a split's files, which one process makes for all."""
    with raised_by_all():
        own = [file_digests(root, split)] if accelerator.is_main_process else []
    [files] = gather_object(own)
    return files


def _weights(
    experiment: schema.Experiment, root: Path, card: DatasetCard, accelerator: Accelerator
) -> np.ndarray | None:
    """Weights of the training examples where [data.balancing] asks for them; says what they change."""
    columns = grouping_of(experiment.data, root, card)
    if not columns:
        return None
    weights = balanced_weights(list(columns.values()), experiment.data.balancing.max_weight)
    for name, values in marginals(columns, dict.fromkeys(columns, weights)).items():
        few = list(values.items())[:MOST_SHOWN]
        shares = ", ".join(f"{value} {each['share']:.2f} → {each['balanced']:.2f}" for value, each in few)
        accelerator.print(f"balanced by {name}: {shares}{', …' if len(values) > len(few) else ''}")
    return weights


def _validation(
    experiment: schema.Experiment, held_out: Examples | None, method: Method, encoding: Encoding | None
) -> Validation | None:
    table = experiment.training.validation
    if held_out is None:
        return None
    return Validation(
        held_out,
        method,
        num_examples=table.num_examples,
        batch_size=table.batch_size or experiment.data.loading.batch_size,
        seed=experiment.compute.seed,
        encoding=encoding,
    )


def _comparison(
    experiment: schema.Experiment,
    held_out: Examples | None,
    card: DatasetCard,
    method: Method,
    autoencoder: Autoencoder | None,
) -> SpectralComparison | None:
    table = experiment.training.validation
    if held_out is None or not table.num_generated:
        return None
    return SpectralComparison(
        held_out,
        representation=representation_of(card),
        method=method,
        sampling=experiment.generation.sampling,
        guidance_scale=experiment.training.visualization.guidance_scale,
        num_samples=table.num_generated,
        num_examples=table.num_examples,
        seed=experiment.compute.seed,
        autoencoder=autoencoder,
    )


def _announcement(
    experiment: schema.Experiment, trainer: Trainer, parts: Assembly, attributes: Sequence[Attribute]
) -> list[str]:
    """What is trained on what, in a line each."""
    order, examples, accelerator = trainer.parts.order, trainer.parts.examples, trainer.accelerator
    parameters = list(parts.model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    share = f" ({trained:,} of them trained)" if trained < total else ""
    lines = [
        f"{experiment.model.name}, {total:,} parameters{share}, {parts.model.num_tokens} tokens; "
        f"{len(examples):,} examples, {'in memory' if examples.in_memory else 'memory-mapped'}, "
        f"{order.steps_per_epoch} steps per epoch, {trainer.parts.num_steps} steps; {accelerator.num_processes} × "
        f"{accelerator.device.type}, {accelerator.mixed_precision}; kernels: "
        f"{', '.join(f'{name} by {kernel}' for name, kernel in parts.model.kernels.items()) or 'PyTorch'}"
    ]
    for caption in [attribute for attribute in attributes if isinstance(attribute, Caption)]:
        count, length, width = caption.tokens.shape
        lines.append(
            f"{count - 1} captions of {length} × {width} and {caption.pooled.shape[1]} numbers, "
            f"{(caption.tokens.nbytes + caption.pooled.nbytes) / 2**20:,.1f} MiB"
        )
    if parts.autoencoder:
        lines.append(parts.autoencoder.description)
    return lines


def main() -> None:
    """Run the command line."""
    run_command_line("Train a diffusion model from an experiment file.", _load, train, MODULE)


if __name__ == "__main__":
    main()
