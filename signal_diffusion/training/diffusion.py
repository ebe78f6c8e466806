"""Train a diffusion model from an experiment file.

python -m signal_diffusion.training.diffusion EXPERIMENT.toml [--output-dir DIR] [--resume-from-checkpoint latest]
accelerate launch --multi_gpu -m signal_diffusion.training.diffusion EXPERIMENT.toml …
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs

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
from signal_diffusion.errors import UserError, reported_to_user
from signal_diffusion.experiment import CONFIG_NAME, RunPaths
from signal_diffusion.models.autoencoder import Autoencoder
from signal_diffusion.models.conditioning import Attribute, Caption
from signal_diffusion.places import expanded
from signal_diffusion.training import checkpoints
from signal_diffusion.training.launching import start_missing_processes
from signal_diffusion.training.previews import Previews
from signal_diffusion.training.tracking import METRICS_NAME, Tracker
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
        experiment = _with_run_directory(experiment, config, output_dir, resume)
        return _train(experiment, written_keys(config, overrides))


def _train(experiment: schema.Experiment, written: Collection[str]) -> bool:
    accelerator = _accelerator(experiment)
    paths = RunPaths.of(Path(experiment.output.base_dir), experiment.output.subdirs)
    checkpoint = _checkpoint_to_resume(experiment, paths, accelerator)
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
    if accelerator.is_main_process:
        _start_run_directory(paths, experiment)
    accelerator.wait_for_everyone()
    tracker = Tracker(
        paths.base,
        paths.logs if experiment.logging.tensorboard else None,
        active=accelerator.is_main_process,
        first_step=trainer.progress.step,
        last_step=trainer.parts.num_steps,
        resumed=checkpoint is not None,
    )
    try:
        _announce(tracker, experiment, trainer, attributes, checkpoint)
        finished = trainer.run(tracker)
        tracker.conclude(_conclusion(paths, trainer, finished=finished))
    finally:
        tracker.close()
        accelerator.end_training()
    return finished


def _with_run_directory(
    experiment: schema.Experiment, config: Path, output_dir: Path | None, resume: str | None
) -> schema.Experiment:
    """The command line's words, which win over the file's, written into the experiment."""
    configured = experiment.output.base_dir or f"runs/{config.stem}"
    if resume == "":
        raise UserError("--resume-from-checkpoint: expected a checkpoint's folder, or latest")
    base = str(output_dir or expanded(configured, "[output] base_dir"))
    experiment = dataclasses.replace(experiment, output=dataclasses.replace(experiment.output, base_dir=base))
    if resume is None:
        return experiment
    training = dataclasses.replace(experiment.training, resume=schema.Resume(enabled=True, checkpoint=resume))
    return dataclasses.replace(experiment, training=training)


def _accelerator(experiment: schema.Experiment) -> Accelerator:
    device, performance = experiment.compute.device, experiment.training.performance
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("[compute] device: 'cuda', but torch finds no CUDA device; use 'auto' or 'cpu'")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UserError("[compute] device: 'mps', but torch finds no MPS device; use 'auto' or 'cpu'")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = performance.use_tf32
    torch.backends.cudnn.benchmark = performance.cudnn_benchmark
    torch.autograd.set_detect_anomaly(experiment.debug.detect_anomaly)
    if experiment.training.mixed_precision == "fp16" and not torch.cuda.is_available():
        raise UserError("[training] mixed_precision: 'fp16' needs a CUDA device; use 'bf16' or 'no'")
    return Accelerator(
        mixed_precision=experiment.training.mixed_precision,
        cpu=device == "cpu" or not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        kwargs_handlers=[DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)],
    )


def _checkpoint_to_resume(experiment: schema.Experiment, paths: RunPaths, accelerator: Accelerator) -> Path | None:
    """The checkpoint to go on from; a run that is there already is neither continued nor overwritten unasked."""
    resume = experiment.training.resume
    if accelerator.is_main_process:
        checkpoints.remove_unfinished(paths.checkpoints)
    checkpoint = None
    if resume.enabled:
        checkpoint = checkpoints.find_checkpoint(paths.checkpoints, resume.checkpoint, warn=accelerator.print)
        if checkpoint.resolve().parent == paths.checkpoints.resolve():
            return checkpoint
    if existing := checkpoints.list_checkpoints(paths.checkpoints):
        raise UserError(
            f"{paths.base} holds a run already ({existing[-1].name}); go on with --resume-from-checkpoint latest, or "
            "choose another --output-dir"
        )
    return checkpoint


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
    seed = experiment.compute.seed
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
        autoencoder=autoencoder,
        method=method,
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
    return Trainer(
        parts,
        accelerator,
        training=training,
        loading=data.loading,
        augmentation=data.augmentation,
        cfg_dropout=model_table.conditioning.cfg_dropout if attributes else 0.0,
        attribute_dropout=model_table.conditioning.attribute_dropout if len(attributes) > 1 else 0.0,
        seed=seed,
    )


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


def _start_run_directory(paths: RunPaths, experiment: schema.Experiment) -> None:
    try:
        paths.base.mkdir(parents=True, exist_ok=True)
        partial = paths.base / f"{CONFIG_NAME}.partial"
        partial.write_text(to_toml(experiment), encoding="utf-8")
        partial.replace(paths.base / CONFIG_NAME)
    except OSError as error:
        raise UserError(f"{paths.base}: cannot write the run directory: {error.strerror}") from None


def _announce(
    tracker: Tracker,
    experiment: schema.Experiment,
    trainer: Trainer,
    attributes: Sequence[Attribute],
    checkpoint: Path | None,
) -> None:
    parts, accelerator = trainer.parts, trainer.accelerator
    parameters = list(parts.model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    share = f" ({trained:,} of them trained)" if trained < total else ""
    tracker.message(
        f"{experiment.model.name}, {total:,} parameters{share}, {parts.model.num_tokens} tokens; "
        f"{len(parts.examples):,} examples, {'in memory' if parts.examples.in_memory else 'memory-mapped'}, "
        f"{parts.order.steps_per_epoch} steps per epoch, {parts.num_steps} steps; {accelerator.num_processes} × "
        f"{accelerator.device.type}, {accelerator.mixed_precision}; kernels: "
        f"{', '.join(f'{name} by {kernel}' for name, kernel in parts.model.kernels.items())}"
    )
    for caption in [attribute for attribute in attributes if isinstance(attribute, Caption)]:
        count, length, width = caption.tokens.shape
        tracker.message(
            f"{count - 1} captions of {length} × {width} and {caption.pooled.shape[1]} numbers, "
            f"{(caption.tokens.nbytes + caption.pooled.nbytes) / 2**20:,.1f} MiB"
        )
    if parts.autoencoder:
        tracker.message(parts.autoencoder.description)
    if checkpoint:
        tracker.message(f"resumed from {checkpoint} at step {trainer.progress.step}")
    else:
        flat = flattened(dataclasses.asdict(experiment))
        tracker.hyperparameters(flat, to_toml(experiment))


def flattened(tables: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted keys; keys without a value are left out."""
    flat: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, dict):
            flat |= flattened(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat


def _conclusion(paths: RunPaths, trainer: Trainer, *, finished: bool) -> list[str]:
    """Where everything is, and which command comes next."""
    progress = trainer.progress
    lines = [f"{'finished' if finished else 'paused'} at step {progress.step} of {trainer.parts.num_steps}"]
    if progress.best_step is not None:
        best = paths.checkpoints / f"checkpoint-{progress.best_step}"
        lines.append(f"best        {best} ({trainer.training.validation.metric} {progress.best_value:.4f})")
    lines.append(f"checkpoint  {paths.checkpoints / f'checkpoint-{progress.step}'}")
    if trainer.parts.previews:
        lines.append(f"pictures    {paths.samples}")
    lines.append(f"metrics     {paths.base / METRICS_NAME}  (tensorboard --logdir {paths.base.parent})")
    if finished:
        return [*lines, f"sample      uv run signal-diffusion sample {paths.base} --num 64"]
    again = f"{paths.base / CONFIG_NAME} --output-dir {paths.base} --resume-from-checkpoint latest"
    return [*lines, f"go on       uv run python -m signal_diffusion.training.diffusion {again}"]


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
