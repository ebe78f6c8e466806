"""The attributes that a model is conditioned on, from the experiment's tables and the columns of the dataset's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Attribute, Caption, Categorical, Numeric
from signal_diffusion.models.conditioning.caption_cache import embed_captions
from signal_diffusion.models.conditioning.text.encoder import TextEncoder
from signal_diffusion.models.conditioning.text.finding import text_encoder
from signal_diffusion.paths import cache_folder, expand_path

__all__ = ["attributes_of", "caption_by", "caption_of", "codes_of", "distinct_captions", "encoder_of"]

USUAL = ("gender", "health", "age", "electrode", "dataset")


def attributes_of(
    conditioning: schema.Conditioning, card: DatasetCard, columns: schema.Columns, caption: Caption | None = None
) -> tuple[Attribute, ...]:
    """The model's attributes, with names and statistics from the card; for captions, `caption` from `caption_of`."""
    if conditioning.type == "none":
        return ()
    if conditioning.type == "caption":
        assert caption is not None
        return (caption,)
    names = ("label",) if conditioning.type == "class" else conditioning.attributes or _usual(card, columns)
    attributes = tuple(_attribute(name, getattr(columns, name, name), card) for name in names)
    if conditioning.num_classes is not None and conditioning.type == "class":
        found = attributes[0].names if isinstance(attributes[0], Categorical) else ()
        if len(found) != conditioning.num_classes:
            raise UserError(
                f"[model.conditioning] num_classes: {conditioning.num_classes}, but the dataset has {len(found)} "
                f"({', '.join(found)}); leave the key out, or use another dataset"
            )
    return attributes


def caption_of(experiment: schema.Experiment, texts: Sequence[str], *, embed: bool = True) -> Caption | None:
    """The empty caption and `texts` with their embeddings, cached; None for a model without captions.

    Without `embed`, embeddings are uninitialised tensors of the right sizes, and only the encoder's configuration is
    read.
    """
    encoder = encoder_of(experiment, weights=embed)
    if encoder is None:
        return None
    if embed:
        return caption_by(encoder, texts, experiment)
    return _sized_caption(encoder, texts)


def encoder_of(experiment: schema.Experiment, *, weights: bool = True) -> TextEncoder | None:
    """The text encoder of a caption model, weights downloaded if `weights` is true; None without captions."""
    conditioning = experiment.model.conditioning
    if conditioning.type != "caption":
        return None
    key = "[model.conditioning] text_encoder" if conditioning.text_encoder else "[model] pretrained"
    source = expand_path(conditioning.text_encoder or experiment.model.pretrained, key)
    return text_encoder(
        source.as_posix(), conditioning.max_caption_tokens, weights=weights, skip_t5=conditioning.skip_t5
    )


def caption_by(encoder: TextEncoder, texts: Sequence[str], experiment: schema.Experiment) -> Caption:
    """The empty caption and `texts` with their embeddings by an encoder; those in the cache are not computed again."""
    on_cuda = experiment.compute.device in ("auto", "cuda") and torch.cuda.is_available()
    cache = cache_folder(experiment.data.loading.cache_dir, "captions")
    return _embedded_caption(encoder, texts, cache, "cuda" if on_cuda else "cpu")


def codes_of(
    attribute: Attribute, split: Any, card: DatasetCard, column: str
) -> Sequence[str] | Mapping[Any, int] | None:
    """How `Examples` encodes an attribute's column: by names, by a mapping of values to codes, or None for numbers."""
    if not isinstance(attribute, Caption):
        return attribute.names if isinstance(attribute, Categorical) else None
    codes = {text: index for index, text in enumerate(attribute.texts)} | {"": -1}
    return {value: codes[text] for value, text in _texts(split, card, column).items() if text in codes}


def distinct_captions(splits: Sequence[Any], card: DatasetCard, column: str) -> tuple[str, ...]:
    """The distinct captions in a column of opened splits, in alphabetical order, without the empty one.

    Raises
    ------
    UserError
        If the column contains no text, or only empty captions.
    """
    if card.columns.get(column, {}).get("kind") not in ("text", "categorical"):
        usable = [key for key, value in card.columns.items() if value["kind"] in ("text", "categorical")]
        raise UserError(
            f"[data.columns] caption: the dataset has no text column {column!r}; its text columns are "
            f"{', '.join(usable) or 'none'}"
        )
    found = {text for split in splits for text in _texts(split, card, column).values()} - {""}
    if not found:
        raise UserError(f"[data.columns] caption: column {column!r} has only empty captions; use another column")
    return tuple(sorted(found))


def _usual(card: DatasetCard, columns: schema.Columns) -> tuple[str, ...]:
    """The usual attributes that the dataset has and that vary among its examples."""
    described = {name: card.columns.get(getattr(columns, name, name), {}) for name in USUAL}
    found = tuple(
        name for name, column in described.items() if len(column.get("names", ())) > 1 or column.get("std", 0) > 0
    )
    if not found:
        raise UserError(
            f"[model.conditioning] attributes: none of {', '.join(USUAL)} varies among the dataset's examples; "
            f"set others ({_usable(card)}), or another model.conditioning.type"
        )
    return found


def _attribute(name: str, column: str, card: DatasetCard) -> Attribute:
    description = card.columns.get(column, {"kind": "missing"})
    if description["kind"] == "categorical":
        return Categorical(name, tuple(description["names"]))
    if description["kind"] == "numeric":
        return Numeric(name, description["mean"], description["std"])
    raise UserError(
        f"[model.conditioning] cannot condition on {name!r}: the dataset has no categorical or numeric column "
        f"{column!r}; it has {_usable(card)}"
    )


def _usable(card: DatasetCard) -> str:
    kinds = ("categorical", "numeric")
    return ", ".join(key for key, value in card.columns.items() if value["kind"] in kinds) or "none"


def _embedded_caption(encoder: TextEncoder, texts: Sequence[str], cache: Path, device: str) -> Caption:
    """The caption attribute: the empty caption and `texts`, embedded by the encoder or read from the cache."""
    texts = ("", *texts)
    tokens, pooled = embed_captions(encoder, texts, cache, device)
    return Caption("caption", texts, tokens, pooled, encoder.fingerprint)


def _sized_caption(encoder: TextEncoder, texts: Sequence[str]) -> Caption:
    """The same with uninitialised embeddings of the right sizes; does not read the encoder's weights."""
    texts = ("", *texts)
    length, width, pooled_width = encoder.sizes
    return Caption("caption", texts, torch.empty(len(texts), length, width), torch.empty(len(texts), pooled_width))


def _texts(split: Any, card: DatasetCard, column: str) -> dict[Any, str]:
    """The distinct values of a column as text: categories by name, missing values as ""."""
    names = card.columns[column].get("names", ())
    values = split.with_format(None).unique(column)
    return {value: names[value] if isinstance(value, int) else (value or "").strip() for value in values}
