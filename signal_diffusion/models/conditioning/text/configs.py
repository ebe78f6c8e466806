"""What the configuration of a text encoder says about it, read by transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from signal_diffusion.errors import UserError, one_line
from signal_diffusion.models.conditioning.text.encoder import KEY

__all__ = ["length_of", "model_class", "pooled_size", "readable", "text_config"]


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Report an error of transformers in one line, and silence its log and progress bars."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged folder makes transformers raise errors without a common base class
        raise UserError(f"{KEY}: {folder}: not a text encoder that transformers can read ({one_line(error)})") from None
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def text_config(folder: Path) -> Any:
    """The configuration of the text part, also if the model reads images too."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()


def model_class(folder: Path) -> Any:
    """The class of transformers that reads the text part of a model."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config.model_type == "clip" or _projects(config):
        return transformers.CLIPTextModelWithProjection
    texts = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
    return transformers.AutoModelForTextEncoding if texts else transformers.AutoModel


def _projects(config: Any) -> bool:
    return "CLIPTextModelWithProjection" in (config.architectures or ())


def pooled_size(config: Any) -> int:
    """Channels of the pooled embedding."""
    part_of_clip = config.model_type == "clip_text_model" and config.architectures is None
    return config.projection_dim if part_of_clip or _projects(config) else config.hidden_size


def length_of(tokenizer: Any, config: Any, max_tokens: int) -> int:
    """Length in tokens that captions are padded or cut to."""
    return min(max_tokens, tokenizer.model_max_length, getattr(config, "max_position_embeddings", max_tokens))
