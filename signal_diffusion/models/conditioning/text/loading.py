"""Load text encoders and tokenizers with transformers, use them and release them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from signal_diffusion.models.conditioning.text.configs import length_of, model_class, readable
from signal_diffusion.models.conditioning.text.files import VOCABULARIES, weight_files

__all__ = ["Loaded", "embed_each", "load_model", "load_tokenizer"]


E = TypeVar("E")


@dataclass(frozen=True)
class Loaded:
    """A text encoder in memory."""

    model: Any
    """In eval mode."""
    has_trained_pooler: bool
    """Whether the pooler, if it has one, was trained."""


@torch.no_grad()
def embed_each(
    texts: Sequence[str],
    embed: Callable[[Loaded, Any], E],
    folder: Path,
    tokenizer_folder: Path,
    *,
    max_tokens: int,
    device: str,
) -> list[E]:
    """Apply `embed` to the encoder in `folder` and the tokens of each text, and free the encoder's memory.

    Raises
    ------
    UserError
        If transformers cannot read the encoder or the tokenizer.
    """
    with readable(folder):
        tokenizer = load_tokenizer(tokenizer_folder)
        model, pools = load_model(folder, device)
    if model.config.is_encoder_decoder and hasattr(model, "get_decoder"):
        model = model.get_encoder()
    loaded = Loaded(model.to(device), pools)
    length = length_of(tokenizer, model.config, max_tokens)
    embedded = [embed(loaded, _tokenized(tokenizer, text, length)) for text in texts]
    del model, loaded
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return embedded


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a folder; a `ValueError` if it cannot pad."""
    from transformers import AutoTokenizer

    if not any(path for pattern in VOCABULARIES for path in folder.glob(pattern)):
        raise ValueError("it has no tokenizer")  # transformers would use one with an empty vocabulary
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        raise ValueError("its tokenizer has no padding token")
    return tokenizer


def load_model(folder: Path, device: str) -> tuple[Any, bool]:
    """The encoder in eval mode, and whether its pooler, if it has one, was trained."""
    if not weight_files(folder):
        raise ValueError("it has no weights in safetensors")
    dtype = torch.float32 if device == "cpu" else "auto"
    model, info = model_class(folder).from_pretrained(
        folder, local_files_only=True, dtype=dtype, output_loading_info=True, use_safetensors=True
    )
    missing = [name for name in info["missing_keys"] if "decoder" not in name]
    if strange := [name for name in missing if "pooler" not in name]:
        raise ValueError(f"its weights lack {strange[0]}")  # transformers would initialise it at random
    return model.eval(), not missing


def _tokenized(tokenizer: Any, text: str, length: int) -> Any:
    return tokenizer(
        [text],
        padding="max_length",
        max_length=length,
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
