"""Train a diffusion model from an experiment file.

python -m signal_diffusion.training.diffusion EXPERIMENT.toml [--output-dir DIR] [--resume-from-checkpoint latest]
accelerate launch --multi_gpu -m signal_diffusion.training.diffusion EXPERIMENT.toml …
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from accelerate import Accelerator

from signal_diffusion import assembly
from signal_diffusion import experiment as experiments
from signal_diffusion.conditions import attributes_of, caption_of, captions_in
from signal_diffusion.config import schema
from signal_diffusion.config.loading import to_toml, written_keys
from signal_diffusion.continuity import check_same_run
from signal_diffusion.data.balancing import balanced_weights, marginals
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.loaders import Examples
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import reported_to_user
from signal_diffusion.experiment import CONFIG_NAME, RunPaths
from signal_diffusion.models.autoencoder import Autoencoder
from signal_diffusion.models.conditioning import Attribute, Caption
from signal_diffusion.training.denoising import Denoising
from signal_diffusion.training.launching import start_missing_processes
from signal_diffusion.training.previews import Previews
from signal_diffusion.training.running import accelerator_of, checkpoint_to_resume, run, with_run_directory
from signal_diffusion.training.trainer import Parts, Trainer
from signal_diffusion.training.validation import Validation

__all__ = ["command", "main", "train"]

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
    experiment = experiments.load(config, overrides)
    with experiments.naming(config):
        experiment = with_run_directory(experiment, config, output_dir, resume)
        return _train(experiment, written_keys(config, overrides))


def _train(experiment: schema.Experiment, written: Collection[str]) -> bool:
    accelerator = accelerator_of(experiment)
    paths = RunPaths.of(Path(experiment.output.base_dir), experiment.output.subdirs)
    checkpoint = checkpoint_to_resume(experiment, paths, accelerator)
    with accelerator.main_process_first():  # what has to be made or brought here is so by one
        experiment = assembly.with_architecture(experiment, written, checkpoint=checkpoint)
        vae = assembly.vae_of(experiment.model)
        root = experiments.dataset_root(experiment.data, experiment.model.pretrained)
        card = experiments.read_card(experiment.data, root)
        caption = caption_of(experiment, captions_in(experiment, root, card))
        if checkpoint:
            check_same_run(checkpoint, experiment, card)
        parts = assembly.assemble(experiment, card, vae, caption, checkpoint=checkpoint)
    attributes = attributes_of(experiment.model.conditioning, card, experiment.data.columns, caption)
    trainer = _trainer(experiment, accelerator, paths, root, card, parts, attributes)
    if checkpoint:
        trainer.resume(checkpoint)
    return run(
        trainer,
        experiment,
        paths,
        checkpoint,
        announcement=_announcement(experiment, trainer, parts, attributes),
        module="signal_diffusion.training.diffusion",
        after=[f"sample      uv run signal-diffusion sample {paths.base} --num 64"],
    )


def _trainer(
    experiment: schema.Experiment,
    accelerator: Accelerator,
    paths: RunPaths,
    root: Path,
    card: DatasetCard,
    assembled: assembly.Assembly,
    attributes: Sequence[Attribute],
) -> Trainer:
    """Build everything else that the loop works with."""
    data, model_table, training = experiment.data, experiment.model, experiment.training
    autoencoder = assembled.autoencoder.to(accelerator.device) if assembled.autoencoder else None
    attachments = {CONFIG_NAME: to_toml(experiment), CARD_NAME: card.to_json()}
    if assembled.frozen:
        attachments[assembly.FROZEN_NAME] = json.dumps(assembled.frozen, indent=2) + "\n"
    with accelerator.main_process_first():  # the first to open a split converts it for all
        examples = experiments.examples_of(
            data, root, card, data.paths.train, attributes, data.loading.max_train_examples
        )
        held_out = None
        if training.validation.enabled:
            limit = data.loading.max_val_examples
            held_out = experiments.examples_of(data, root, card, data.paths.val, attributes, limit)
    method = experiments.method_of(model_table.diffusion)
    order = experiments.order_of(
        experiment,
        len(examples),
        num_processes=accelerator.num_processes,
        process_index=accelerator.process_index,
        weights=_weights(experiment, root, card, accelerator),
    )
    parts = Parts(
        model=assembled.model,
        objective=Denoising(
            method=method,
            autoencoder=autoencoder,
            augmentation=data.augmentation,
            cfg_dropout=model_table.conditioning.cfg_dropout if attributes else 0.0,
            attribute_dropout=model_table.conditioning.attribute_dropout if len(attributes) > 1 else 0.0,
        ),
        examples=examples,
        order=order,
        num_steps=experiments.steps_of(training, order.steps_per_epoch),
        validation=_validation(experiment, held_out, method, autoencoder),
        previews=Previews(
            paths.samples,
            examples,
            attributes=attributes,
            representation=representation_of(card),
            method=method,
            visualization=training.visualization,
            sampling=experiment.generation.sampling,
            autoencoder=autoencoder,
        )
        if training.visualization.enabled
        else None,
        checkpoint_dir=paths.checkpoints,
        attachments=attachments,
    )
    return Trainer(parts, accelerator, training=training, loading=data.loading, seed=experiment.compute.seed)


def _weights(
    experiment: schema.Experiment, root: Path, card: DatasetCard, accelerator: Accelerator
) -> np.ndarray | None:
    """Weights of the training examples where [data.balancing] asks for them; says what they change."""
    columns = experiments.grouping_of(experiment.data, root, card)
    if not columns:
        return None
    weights = balanced_weights(list(columns.values()), experiment.data.balancing.max_weight)
    for name, values in marginals(columns, dict.fromkeys(columns, weights)).items():
        few = list(values.items())[:MOST_SHOWN]
        shares = ", ".join(f"{value} {each['share']:.2f} → {each['balanced']:.2f}" for value, each in few)
        accelerator.print(f"balanced by {name}: {shares}{', …' if len(values) > len(few) else ''}")
    return weights


def _validation(
    experiment: schema.Experiment, held_out: Examples | None, method: Method, autoencoder: Autoencoder | None
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
        autoencoder=autoencoder,
    )


def _announcement(
    experiment: schema.Experiment, trainer: Trainer, parts: assembly.Assembly, attributes: Sequence[Attribute]
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
        f"{', '.join(f'{name} by {kernel}' for name, kernel in parts.model.kernels.items())}"
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


def command(
    config: Annotated[Path, typer.Argument(help="Experiment file (TOML).")],
    output_dir: Annotated[Path | None, typer.Option(help="Run directory; wins over output.base_dir.")] = None,
    resume_from_checkpoint: Annotated[
        str | None, typer.Option(help='A checkpoint-N folder, or "latest" of the run directory.')
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a key; repeatable.")
    ] = None,
) -> None:
    """Train a diffusion model from an experiment file."""
    experiments.load(config, overrides or ())  # one process tells of mistakes, not each
    start_missing_processes("signal_diffusion.training.diffusion")
    train(config, output_dir=output_dir, resume=resume_from_checkpoint, overrides=tuple(overrides or ()))


def main() -> None:
    """Run the command line."""
    with reported_to_user():
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command()(command)
        app()


if __name__ == "__main__":
    main()
