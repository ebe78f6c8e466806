"""Load the VAE of a frozen autoencoder with diffusers."""

from __future__ import annotations

from typing import Any

import torch

from signal_diffusion.errors import UserError
from signal_diffusion.models.pretrained import CONFIG, find_model_folder, refuse_pickles
from signal_diffusion.untrusted import read_json

__all__ = ["KEY", "load_vae"]


KINDS = ("AutoencoderKL", "AutoencoderTiny")
KEY = "[model.autoencoder] path:"
"""The key in an experiment file, for errors."""


def load_vae(source: str) -> Any:
    """Load the VAE from a local folder or the Hub ("owner/name" or "owner/name@revision"), or from a pipeline there.

    Raises
    ------
    UserError
        If there is none, it cannot be downloaded, or its weights are not complete.
    """
    import diffusers  # takes seconds to import, and most runs do not need it
    from diffusers.utils import logging

    advice = "copy or download it again"
    try:
        folder = find_model_folder(source, "vae")
        config = read_json(folder / CONFIG, dict[str, Any], advice)
        if (kind := config.get("_class_name")) not in KINDS:
            raise UserError(f"{folder} contains a {kind}; expected {' or '.join(KINDS)}")
        refuse_pickles(folder, kind)
    except UserError as error:
        raise type(error)(f"{KEY} {error}") from None
    if unsupported := [name for name in ("latents_mean", "latents_std") if config.get(name) is not None]:
        raise UserError(
            f"{KEY} {folder / CONFIG} has {' and '.join(unsupported)}, but scaling latents per channel is not "
            "supported; use an autoencoder with only scaling_factor and shift_factor"
        )
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # diffusers would warn about each key of config.json that the class does not take
    try:
        # not `load_tensors`: the weights of Stable Diffusion 1 have older names, which diffusers converts
        vae, loading = getattr(diffusers, kind).from_pretrained(
            folder, torch_dtype=torch.float32, local_files_only=True, output_loading_info=True, use_safetensors=True
        )
    except Exception as error:  # a damaged folder makes diffusers raise errors without a common base class
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{KEY} cannot read the weights in {folder}: {reason}; {advice}") from None
    finally:
        logging.set_verbosity(verbosity)
    if lacking := loading["missing_keys"]:
        raise UserError(f"{KEY} the weights in {folder} lack {sorted(lacking)[0]!r}; copy or download them again")
    return vae
