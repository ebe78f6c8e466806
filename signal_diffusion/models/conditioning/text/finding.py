"""Find a text encoder in a folder or on the Hub, and download what it needs."""

from __future__ import annotations

from pathlib import Path

from signal_diffusion.errors import MissingError, UserError
from signal_diffusion.hub import download, is_hub_id
from signal_diffusion.models.conditioning.text.encoder import KEY, TextEncoder
from signal_diffusion.models.conditioning.text.files import HALF_PRECISION, SAFETENSORS, SETTINGS
from signal_diffusion.models.conditioning.text.single import SingleEncoder
from signal_diffusion.models.conditioning.text.stable_diffusion_3 import PIPELINE, StableDiffusion3Encoders

__all__ = ["text_encoder"]

# The files to download from a repository on the Hub, which may have other models too; `*` also matches slashes.
WANTED = [*SETTINGS, SAFETENSORS, PIPELINE, "transformer/config.json"]
WANTED += ["text_encoder/*", "text_encoder_2/*", "text_encoder_3/*"]
UNWANTED = [HALF_PRECISION, "*.bin", "*.msgpack", "*.h5"]
_WEIGHTS = ["*.safetensors*"]
_T5 = ["text_encoder_3/*", "tokenizer_3/*"]


def text_encoder(source: str, max_tokens: int, *, weights: bool = True, skip_t5: bool = False) -> TextEncoder:
    """The text encoder in a folder, or on the Hub ("owner/name" or "owner/name@revision"); it is downloaded first.

    With `weights=False` the weights are not downloaded; the encoder then has its `sizes`, but cannot encode. With
    `skip_t5` the T5 of a Stable Diffusion 3 pipeline is neither downloaded nor used.

    Raises
    ------
    UserError
        If there is no text encoder, or there is a single one and `skip_t5`.
    """
    folder = _folder(source, unwanted=[*UNWANTED, *([] if weights else _WEIGHTS), *(_T5 if skip_t5 else [])])
    if (folder / PIPELINE).is_file():
        return StableDiffusion3Encoders(folder=folder, max_tokens=max_tokens, skip_t5=skip_t5)
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{KEY}: {source} has neither config.json nor {PIPELINE}; expected a transformers text encoder with its "
            "tokenizer, or a diffusers pipeline with its text encoders"
        )
    if skip_t5:
        raise UserError(
            f"[model.conditioning] skip_t5: {source} is a single text encoder; only pipelines of Stable Diffusion 3 "
            "have a T5; remove the key, or use such a pipeline"
        )
    return SingleEncoder(folder=folder, max_tokens=max_tokens)


def _folder(source: str, *, unwanted: list[str]) -> Path:
    if Path(source).is_dir():
        return Path(source)
    if not is_hub_id(source):
        raise MissingError(f"{KEY}: {source}: no such folder")
    return download(source, key=KEY, allow=WANTED, ignore=unwanted)
