"""Write the model card of an exported model (https://huggingface.co/docs/hub/model-cards)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signal_diffusion.checkpoints import step_of
from signal_diffusion.config.schema import LARGER_IS_BETTER
from signal_diffusion.data.card import DatasetCard, label_counts_in_markdown, sources_in_markdown
from signal_diffusion.data.dataset import split_name
from signal_diffusion.diffusion.methods import method_of
from signal_diffusion.escaping import for_markdown, for_terminal, markdown_code
from signal_diffusion.experiment.checkpoint import AverageOf, Checkpoint
from signal_diffusion.hub import is_cached, is_hub_id
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Categorical, Numeric
from signal_diffusion.models.lora import is_lora_weight
from signal_diffusion.paths import last_part
from signal_diffusion.sampling.guide import guide_folder
from signal_diffusion.sampling.trained import Trained
from signal_diffusion.training.metrics_file import METRICS_NAME, read_rows
from signal_diffusion.training.state import Progress

__all__ = ["README", "model_card", "with_defaults"]

README = "README.md"
_DEFAULTS = re.compile(r"(?:By default, it samples with|Unless told otherwise it samples by) .*?(?= From the shell: )")
"""The sentence of `_defaults`; the second beginning is that of earlier versions."""


def model_card(trained: Trained, name: str, step: int) -> str:
    """Markdown with the Hub's YAML; `name` is the model's name on the Hub or its folder, `step` the checkpoint's.

    It states no licence, which only the publisher of the model can choose.
    """
    sections = {
        "Use": _use(trained, name),
        "How it was trained": "\n".join(f"- {line}" for line in _training(trained, step)),
        "What it was trained on": _data(trained.card),
        "How it was evaluated": _evaluation(trained, step),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"---\n{_front_matter(trained)}\n---\n\n# {for_markdown(name)}\n\n{_summary(trained)}\n\n{body}\n"


def with_defaults(card: str, trained: Trained) -> str:
    """A model card, which may have been edited, with the current sampling defaults of the experiment."""
    return _DEFAULTS.sub(lambda found: _defaults(trained), card)


def _front_matter(trained: Trained) -> str:
    model = trained.experiment.model
    kind = ["eeg"] if _is_eeg(trained.card) else []
    tags = [*kind, "diffusion", "synthetic-data", model.name, trained.card.representation["name"]]
    # The Hub links to it, so a relative path that looks like a Hub id must not be listed.
    known = _is_on_hub(model.pretrained) and is_cached(model.pretrained)
    base = ["base_model: " + model.pretrained.partition("@")[0]] if known else []
    lines = ["library_name: signal-diffusion", *base]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags)])


def _summary(trained: Trained) -> str:
    card = trained.card
    kind = "EEG" if _is_eeg(card) else "images"
    sentences = [
        f"A diffusion model of {kind}, trained with signal-diffusion.",
        f"It generates `{card.representation['name']}` examples of shape {_sizes(card.shape)}.",
    ]
    if not _is_eeg(card):
        return " ".join(sentences)
    if card.window and card.sampling_rate:
        is_single = card.representation["layout"] == "electrode"
        electrodes = "one electrode" if is_single else f"{len(card.channels)} electrodes"
        seconds = f"{card.window / card.sampling_rate:g} s"
        sentences.append(f"Each is a window of {seconds} of {electrodes}, sampled at {card.sampling_rate:g} Hz.")
    conversions = {
        "exact": "Examples are converted to microvolts exactly.",
        "approximate": "Examples are converted to microvolts with an estimated phase.",
    }
    sentences.append(conversions.get(card.representation["inverse"], "Examples cannot be converted to signals."))
    warning = "The samples are synthetic: they are not recordings of any person. Do not base a diagnosis on them."
    return f"{' '.join(sentences)}\n\n{warning}"


def _is_eeg(card: DatasetCard) -> bool:
    """Whether examples are known to be made from signals; otherwise they are any images."""
    return card.sampling_rate is not None


def _use(trained: Trained, name: str) -> str:
    described = [_described(attribute) for attribute in trained.attributes]
    conditions = f"You can request {'; '.join(described)}." if described else "The model has no conditions."
    forms = ["samples.tensors                                          # in [-1, 1]"]
    if trained.representation.inverse != "none":
        forms.append("samples.signals, samples.ch_names, samples.sfreq         # µV")
    forms.append("samples.to_pictures()                                    # PIL images")
    shown = "\n".join(forms)
    shell = markdown_code(shlex.join(["signal-diffusion", "sample", name, "--num", "8"]))
    return f"""```python
from signal_diffusion.pipeline import SignalDiffusionPipeline

samples = SignalDiffusionPipeline.from_pretrained({_quoted(name)})({_call(trained)})
{shown}
```

{conditions} {_defaults(trained)} From the shell: {shell}."""


def _defaults(trained: Trained) -> str:
    """The sampling defaults, in the sentence that `_DEFAULTS` matches."""
    sampling, guide = trained.sampling, ""
    if trained.guide is not None:
        earlier = step_of(guide_folder(sampling, trained.checkpoint))
        guide = f", guided away from its own earlier weights at step {earlier:,} (autoguidance, in `guide/`)"
    return (
        f"By default, it samples with `{sampling.sampler}` in {sampling.steps} steps and a guidance scale of "
        f"{sampling.guidance_scale:g}{guide}."
    )


def _call(trained: Trained) -> str:
    """The arguments of an example call."""
    first = trained.attributes[0] if trained.attributes else None
    if first is None:
        return "num=8"
    if isinstance(first, Caption):
        return '"…", num=8'
    value = f"{first.mean:.3g}" if isinstance(first, Numeric) else _quoted(first.names[0])
    return f"num=8, label={value}" if first.name == "label" else f"num=8, attributes={{{_quoted(first.name)}: {value}}}"


def _training(trained: Trained, step: int) -> Iterator[str]:
    experiment = trained.experiment
    model, training = experiment.model, experiment.training
    size = sum(value.numel() for key, value in trained.model.named_parameters() if not is_lora_weight(key))
    method = method_of(model.diffusion)
    yield f"Network: `{model.name}`, {size:,} parameters; {_space(trained)}"
    yield f"Method: `{model.diffusion.method}`, predicting `{method.prediction}`"
    loading, accumulation = experiment.data.loading, training.gradient_accumulation_steps
    yield (
        f"Training: {step:,} steps of {loading.batch_size} × {accumulation} examples per process (batch size × "
        f"gradient accumulation), with {training.optimizer.type}, a learning rate of "
        f"{training.optimizer.learning_rate:g} and mixed precision `{training.mixed_precision}`"
    )
    if loading.max_train_examples:
        yield f"At most {loading.max_train_examples:,} examples of the training split were used"
    if model.pretrained:
        updates = (
            f"; only LoRA updates of rank {model.lora.rank} were trained, and they are merged into the weights here"
        )
        yield f"Started from pretrained weights: {_source(model.pretrained)}, whose licence applies" + (
            updates if model.lora.enabled else ""
        )
    if trained.autoencoder:
        yield f"`vae/` is a copy of {_source(model.autoencoder.path or model.pretrained)}, whose licence applies"
    if trained.encoder:
        source = model.conditioning.text_encoder or model.pretrained
        yield f"`text_encoder/` is a copy of {_source(source)}, whose licence applies"
    yield _weights(trained)
    yield (
        "`config.toml` is the configuration of the training run, with these changes: settings of the training machine "
        "([compute] device, [training.resume], [output]) have their default values, paths of datasets and models are "
        "reduced to their last names, and [model] pretrained and [model.lora] are left out, because the weights here "
        "already include them"
    )


def _weights(trained: Trained) -> str:
    if average := _average(trained):
        return (
            f"The weights are a power-function average over training with σ_rel {average.sigma_rel:g} (post-hoc EMA), "
            f"made of {average.snapshots} snapshots"
        )
    if trained.averaged:
        decay = trained.experiment.training.ema.decay
        return f"The weights are averaged over training (EMA with decay {decay:g})"
    return "The weights are those of the last step"


def _average(trained: Trained) -> AverageOf | None:
    """How the weights were averaged after training; None for those of training."""
    return Checkpoint(trained.checkpoint).average if trained.averaged else None


def _space(trained: Trained) -> str:
    if trained.autoencoder is None:
        return "it works directly on the examples"
    return f"it works on {_sizes(trained.autoencoder.latent_shape)} latents of the {trained.autoencoder.kind} in `vae/`"


def _data(card: DatasetCard) -> str:
    rows = "\n".join(
        f"| {name} | {len(split['subjects'])} | {split['examples']:,} | {label_counts_in_markdown(split)} |"
        for name, split in card.splits.items()
    )
    details = "electrodes, filters, scaling and the subjects of each split" if _is_eeg(card) else "columns and values"
    return f"""| split | subjects | examples | examples per label |
|---|---|---|---|
{rows}

{sources_in_markdown(card)}

See `signal_dataset.json` for details: {details}."""


def _evaluation(trained: Trained, step: int) -> str:
    """The validation losses that the run recorded, and a sentence that nothing else was evaluated."""
    what = "EEG" if _is_eeg(trained.card) else "images"
    closing = f"No evaluation report is attached: the similarity of samples to real {what} has not been measured."
    table = trained.experiment.training.validation
    if not table.enabled:
        return f"The model was not validated. {closing}"
    lines = []
    source = "subjects who are not in the training split" if _has_new_subjects(trained) else "the validation split"
    count = f"up to {table.num_examples}" if table.num_examples else "all"
    if row := _last_validation(trained.run / METRICS_NAME, step):
        losses, average = f"{row['validation/loss']:.4f} with the last weights", _average(trained)
        if average and average.validation_loss is not None:
            losses = f"{average.validation_loss:.4f} with the averaged weights and {losses}"
        elif "validation/ema_loss" in row and not average:
            losses = f"{row['validation/ema_loss']:.4f} with the averaged weights and {losses}"
        lines.append(
            f"Validation loss at step {row['step']}: {losses}, on {count} examples of {source}, "
            "with fixed times and noise."
        )
    progress = Progress.of(trained.checkpoint)
    if progress.best_value is not None:
        best = "Highest" if table.metric in LARGER_IS_BETTER else "Lowest"
        lines.append(f"{best} `{table.metric}` so far: {progress.best_value:.4f}, at step {progress.best_step}.")
    return " ".join([*(lines or ["No validation is recorded."]), closing])


def _last_validation(metrics: Path, step: int) -> dict[str, Any] | None:
    rows = [row for row in read_rows(metrics) if "validation/loss" in row and row["step"] <= step]
    return rows[-1] if rows else None


def _has_new_subjects(trained: Trained) -> bool:
    """Whether the card lists the subjects of both splits, and none is in both; unknown for foreign datasets."""
    card, paths = trained.card, trained.experiment.data.paths
    train, validation = (
        set(card.splits[split_name(card, split, Path())]["subjects"]) for split in (paths.train, paths.val)
    )
    return bool(train and validation) and not train & validation


def _described(attribute: Attribute) -> str:
    if isinstance(attribute, Caption):
        return "a caption (any text)"
    if isinstance(attribute, Categorical):
        return for_markdown(f"{attribute.name} ({', '.join(attribute.names)})")
    return f"{for_markdown(attribute.name)} (a number; {attribute.mean:.3g} ± {attribute.std:.3g} in the training data)"


def _source(path: str) -> str:
    """A model's Hub id, or the name of its local folder."""
    return path if _is_on_hub(path) else f"a local model, {for_markdown(last_part(path))}"


def _is_on_hub(path: str) -> bool:
    return is_hub_id(path) and not Path(path).exists()


def _quoted(text: str) -> str:
    """A text as a literal of Python."""
    return for_terminal(json.dumps(text, ensure_ascii=False))


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
