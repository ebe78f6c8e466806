"""The model card of an exported model (https://huggingface.co/docs/hub/model-cards): what is known of it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from signal_diffusion.checkpoints import step_of
from signal_diffusion.data.card import DatasetCard, labels_in_words
from signal_diffusion.data.dataset import split_name
from signal_diffusion.diffusion.methods import method_of
from signal_diffusion.hub import is_cached, is_hub_id
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Categorical, Numeric
from signal_diffusion.models.lora import is_change
from signal_diffusion.sampling.guide import guide_folder
from signal_diffusion.sampling.trained import Trained
from signal_diffusion.training.state import Progress
from signal_diffusion.training.tracking import METRICS_NAME, read_rows

__all__ = ["README", "model_card", "with_defaults"]

README = "README.md"
_DEFAULTS = re.compile(r"Unless told otherwise it samples by .*?(?= From the shell: )")


def model_card(trained: Trained, name: str, step: int) -> str:
    """Markdown with the YAML of the Hub; `name` is the model's, there or of its folder, `step` that of the checkpoint.

    There is no licence in it, which only who publishes the model can know.
    """
    sections = {
        "Use": _use(trained, name),
        "How it was trained": "\n".join(f"- {line}" for line in _training(trained, step)),
        "What it was trained on": _data(trained.card),
        "How it was evaluated": _evaluation(trained, step),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"---\n{_front_matter(trained)}\n---\n\n# {name}\n\n{_summary(trained)}\n\n{body}\n"


def with_defaults(card: str, trained: Trained) -> str:
    """A model card, as it may have been written on, with the defaults of sampling that the experiment has now."""
    return _DEFAULTS.sub(lambda found: _defaults(trained), card)


def _front_matter(trained: Trained) -> str:
    model = trained.experiment.model
    kind = ["eeg"] if _is_eeg(trained.card) else []
    tags = [*kind, "diffusion", "synthetic-data", model.name, trained.card.representation["name"]]
    # The Hub links to it, so a relative path that looks like a name there must not be taken for one.
    known = _is_on_hub(model.pretrained) and is_cached(model.pretrained)
    base = ["base_model: " + model.pretrained.partition("@")[0]] if known else []
    lines = ["library_name: signal-diffusion", *base]
    return "\n".join([*lines, "tags:", *(f"- {tag}" for tag in tags)])


def _summary(trained: Trained) -> str:
    card = trained.card
    of_what = f"`{card.representation['name']}` examples of shape {_sizes(card.shape)}"
    signals = ""
    if card.window and card.sampling_rate:
        which = (
            "one electrode each" if card.representation["layout"] == "electrode" else f"{len(card.channels)} electrodes"
        )
        signals = f", windows of {card.window / card.sampling_rate:g} s at {card.sampling_rate:g} Hz, {which}"
    backs = {"exact": "become microvolts exactly", "approximate": "become microvolts but for a phase that is drawn"}
    back = backs.get(card.representation["inverse"], "do not become signals")
    if not _is_eeg(card):
        return f"A diffusion model of pictures, trained with signal-diffusion. It makes {of_what}."
    made = f"A diffusion model of EEG, trained with signal-diffusion. It makes {of_what}{signals}; they {back}."
    return f"{made}\n\nWhat it makes is synthetic: no recording of anyone, and no basis for a diagnosis."


def _is_eeg(card: DatasetCard) -> bool:
    """Whether examples are known to come from signals; others are pictures of anything."""
    return card.sampling_rate is not None


def _use(trained: Trained, name: str) -> str:
    words = [_asked(attribute) for attribute in trained.attributes]
    asked = "It can be asked for " + "; ".join(words) + "." if words else "It takes no conditions."
    forms = ["samples.tensors                                          # in [-1, 1]"]
    if trained.representation.inverse != "none":
        forms.append("samples.signals, samples.ch_names, samples.sfreq         # µV")
    forms.append("samples.to_pictures()                                    # of PIL")
    shown = "\n".join(forms)
    return f"""```python
from signal_diffusion.pipeline import SignalDiffusionPipeline

samples = SignalDiffusionPipeline.from_pretrained({json.dumps(name, ensure_ascii=False)})({_call(trained)})
{shown}
```

{asked} {_defaults(trained)} From the shell: `signal-diffusion sample {shlex.quote(name)} --num 8`."""


def _defaults(trained: Trained) -> str:
    """How it samples, in the sentence that `_DEFAULTS` finds."""
    sampling, guide = trained.sampling, ""
    if trained.guide is not None:
        earlier = step_of(guide_folder(sampling, trained.checkpoint))
        guide = f" away from what it was at step {earlier:,} (autoguidance), which is in `guide/`"
    return (
        f"Unless told otherwise it samples by `{sampling.sampler}` in {sampling.steps} steps, with a guidance scale of "
        f"{sampling.guidance_scale:g}{guide}."
    )


def _call(trained: Trained) -> str:
    """An example of what it can be asked for."""
    first = trained.attributes[0] if trained.attributes else None
    if first is None:
        return "num=8"
    if isinstance(first, Caption):
        return '"…", num=8'
    value = f"{first.mean:.3g}" if isinstance(first, Numeric) else json.dumps(first.names[0], ensure_ascii=False)
    return f"num=8, label={value}" if first.name == "label" else f'num=8, attributes={{"{first.name}": {value}}}'


def _training(trained: Trained, step: int) -> Iterator[str]:
    experiment = trained.experiment
    model, training = experiment.model, experiment.training
    size = sum(value.numel() for key, value in trained.model.named_parameters() if not is_change(key))
    method = method_of(model.diffusion)
    yield f"Network: `{model.name}`, {size:,} parameters; {_space(trained)}"
    yield f"Method: `{model.diffusion.method}`, which predicts `{method.prediction}`"
    loading, accumulation = experiment.data.loading, training.gradient_accumulation_steps
    yield (
        f"{step:,} steps of {loading.batch_size} × {accumulation} examples per process by {training.optimizer.type} at "
        f"a rate of {training.optimizer.learning_rate:g}, precision {training.mixed_precision}"
    )
    if loading.max_train_examples:
        yield f"Of the training split, {loading.max_train_examples:,} examples were used at most"
    if model.pretrained:
        change = f"low-rank changes (LoRA of rank {model.lora.rank}) of its weights, which are added to them here"
        yield f"Started from pretrained weights: {_source(model.pretrained)}, whose licence applies" + (
            f"; trained were {change}" if model.lora.enabled else ""
        )
    if trained.autoencoder:
        yield f"`vae/` is a copy of {_source(model.autoencoder.path or model.pretrained)}, whose licence applies"
    if trained.encoder:
        place = model.conditioning.text_encoder or model.pretrained
        yield f"`text_encoder/` is a copy of {_source(place)}, whose licence applies"
    yield _weights(trained)
    yield (
        "`config.toml` is the experiment, but for what was of that machine: [compute] device, [training.resume], "
        "[output], the places of datasets and models, of which last names are left, and [model] pretrained and "
        "[model.lora], which are in the weights"
    )


def _weights(trained: Trained) -> str:
    if trained.averaged:
        return f"The weights are averages over training (EMA, decay {trained.experiment.training.ema.decay:g}), in fp32"
    return "The weights are those of the last step, in fp32"


def _space(trained: Trained) -> str:
    if trained.autoencoder is None:
        return "it works on the examples themselves"
    return f"it works on {_sizes(trained.autoencoder.latent_shape)} latents of the {trained.autoencoder.kind} in `vae/`"


def _data(card: DatasetCard) -> str:
    rows = "\n".join(
        f"| {name} | {len(split['subjects'])} | {split['examples']:,} | {labels_in_words(split) or '–'} |"
        for name, split in card.splits.items()
    )
    sources = "\n".join(
        f"- {source['name']}: {source['description'] or 'no description'}; licence: {source['license'] or 'not stated'}"
        for source in card.sources
    )
    rest = "electrodes, filters, scaling, and who is in which split" if _is_eeg(card) else "columns and their values"
    return f"""| split | subjects | examples | examples per label |
|---|---|---|---|
{rows}

{sources}

`signal_dataset.json` says the rest: {rest}."""


def _evaluation(trained: Trained, step: int) -> str:
    """What the run knows of the loss on the validation split, and that it knows no more."""
    what = "EEG" if _is_eeg(trained.card) else "pictures"
    closing = f"No evaluation report is attached: how close samples are to real {what} has not been measured here."
    table = trained.experiment.training.validation
    if not table.enabled:
        return f"It was not validated. {closing}"
    lines = []
    whose = "people who were not trained on" if _splits_people(trained) else "the validation split"
    if row := _last_validation(trained.run / METRICS_NAME, step):
        losses = f"{row['validation/loss']:.4f} with the last"
        if "validation/ema_loss" in row:
            losses = f"{row['validation/ema_loss']:.4f} with the averaged weights and {losses}"
        lines.append(
            f"Loss at step {row['step']} on up to {table.num_examples} examples of {whose}, at "
            f"fixed times and noise: {losses}."
        )
    progress = Progress.of(trained.checkpoint)
    if progress.best_value is not None:
        lines.append(f"Lowest `{table.metric}` so far: {progress.best_value:.4f}, at step {progress.best_step}.")
    return " ".join([*(lines or ["No validation is recorded."]), closing])


def _last_validation(metrics: Path, step: int) -> dict[str, Any] | None:
    rows = [row for row in read_rows(metrics) if "validation/loss" in row and row["step"] <= step]
    return rows[-1] if rows else None


def _splits_people(trained: Trained) -> bool:
    """Whether the card knows the people of both splits, and that none is in both; foreign splits are taken as are."""
    card, paths = trained.card, trained.experiment.data.paths
    train, validation = (
        set(card.splits[split_name(card, split, Path())]["subjects"]) for split in (paths.train, paths.val)
    )
    return bool(train and validation) and not train & validation


def _asked(attribute: Attribute) -> str:
    if isinstance(attribute, Caption):
        return "a description in words"
    if isinstance(attribute, Categorical):
        return f"{attribute.name} ({', '.join(attribute.names)})"
    return f"{attribute.name} (a number; {attribute.mean:.3g} ± {attribute.std:.3g} in training)"


def _source(place: str) -> str:
    """A model of the Hub by its name there, and another by that of its folder."""
    return place if _is_on_hub(place) else f"a local model, {Path(place).name}"


def _is_on_hub(place: str) -> bool:
    return is_hub_id(place) and not Path(place).exists()


def _sizes(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
