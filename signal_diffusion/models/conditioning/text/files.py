"""The files of a text encoder or a tokenizer that transformers reads."""

from __future__ import annotations

from pathlib import Path

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.text.configs import model_class, readable
from signal_diffusion.models.conditioning.text.encoder import KEY
from signal_diffusion.untrusted import pickled_weights

__all__ = ["HALF_PRECISION", "SAFETENSORS", "SETTINGS", "VOCABULARIES", "encoder_files", "weight_files"]

# The files besides weights that transformers reads from the folder of an encoder or a tokenizer, peft adapters
# included. Other tools keep their own files there.
SETTINGS = ["config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json"]
SETTINGS += ["*.model", "adapter_*"]
VOCABULARIES = ("tokenizer.json", "vocab*", "*.model")
SAFETENSORS, _PICKLES = "model*.safetensors*", "pytorch_model*.bin*"
HALF_PRECISION = "*.fp16*"


def encoder_files(folder: Path) -> list[Path]:
    """The files that transformers reads in a folder: settings, and weights in safetensors."""
    return sorted({*weight_files(folder), *(path for pattern in SETTINGS for path in _matching(folder, pattern))})


def weight_files(folder: Path) -> list[Path]:
    """The files with weights; a `UserError` if there are only pickles, which may be code."""
    weights = _matching(folder, SAFETENSORS)
    if not weights and (pickles := sorted(_matching(folder, _PICKLES))):
        with readable(folder):
            name = model_class(folder).__name__
        raise UserError(f"{KEY}: {pickled_weights(pickles[0], 'transformers', name)}")
    return weights


def _matching(folder: Path, pattern: str) -> list[Path]:
    return [path for path in folder.glob(pattern) if path.is_file() and not path.match(HALF_PRECISION)]
