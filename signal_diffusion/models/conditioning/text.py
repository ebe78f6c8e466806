"""Embed captions with frozen text encoders, which are loaded from a folder, used once and released.

A transformers encoder gives its last hidden state and its own pooled embedding. A diffusers pipeline with the three
encoders of Stable Diffusion 3 (https://arxiv.org/abs/2403.03206, appendix B.3) gives the embeddings that model was
trained with: two CLIPs side by side in the channels, then the tokens of a T5.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from signal_diffusion.errors import MissingError, UserError, one_line
from signal_diffusion.hub import download, is_hub_id
from signal_diffusion.untrusted import pickled_weights, read_json

__all__ = ["KEY", "TextEncoder", "text_encoder"]

KEY = "[model.conditioning] text_encoder"
"""The key in an experiment file, for errors."""

T = TypeVar("T")

PIPELINE = "model_index.json"
FORMAT = 1  # version of cached embeddings: increase it whenever the computation changes

# The files besides weights that transformers reads from the folder of an encoder or a tokenizer, peft adapters
# included. Other tools keep their own files there.
_SETTINGS = ["config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json", "added_tokens.json"]
_SETTINGS += ["*.model", "adapter_*"]
_VOCABULARIES = ("tokenizer.json", "vocab*", "*.model")
_SAFETENSORS, _PICKLES = "model*.safetensors*", "pytorch_model*.bin*"
_HALF_PRECISION = "*.fp16*"

# The files to download from a repository on the Hub, which may have other models too; `*` also matches slashes.
_WANTED = [*_SETTINGS, _SAFETENSORS, PIPELINE, "transformer/config.json"]
_WANTED += ["text_encoder/*", "text_encoder_2/*", "text_encoder_3/*"]
_UNWANTED = [_HALF_PRECISION, "*.bin", "*.msgpack", "*.h5"]
_WEIGHTS = ["*.safetensors*"]
_T5 = ["text_encoder_3/*", "tokenizer_3/*"]


@dataclass(frozen=True)
class _Transformer:
    """The settings of a pipeline's transformer, of which one is read."""

    joint_attention_dim: int


@dataclass(frozen=True, kw_only=True)
class TextEncoder(ABC):
    """Embeds captions; its weights are in memory only while it does."""

    folder: Path
    """In the layout of transformers or diffusers."""
    max_tokens: int
    """Length in tokens that captions are padded or cut to; a model with a lower limit uses its own."""

    @property
    @abstractmethod
    def sizes(self) -> tuple[int, int, int]:
        """(L, D, P): L tokens of D channels, P channels of the pooled embedding; known without the weights."""

    @abstractmethod
    def encode(self, texts: Sequence[str], device: str) -> tuple[Tensor, Tensor]:
        """Embed captions: tokens (N, L, D) and pooled (N, P), on the CPU, in float32.

        Captions are encoded one by one, so that an embedding does not depend on the others. On the CPU, weights are
        used in float32; on other devices, in the precision that they are stored in.
        """

    @abstractmethod
    def files(self) -> list[Path]:
        """The files that embeddings depend on, in a fixed order."""

    @abstractmethod
    def tokenizers(self) -> list[tuple[Any, int]]:
        """The tokenizer of each encoder, and the length in tokens that it pads or cuts captions to."""

    def truncated(self, texts: Sequence[str]) -> tuple[list[str], int]:
        """The captions that no encoder reads to their end, and the largest number of tokens that one reads."""
        pairs = self.tokenizers()
        # verbose=False: transformers would warn that they are too long
        longer = (all(len(own(text, verbose=False)["input_ids"]) > length for own, length in pairs) for text in texts)
        return [text for text, over in zip(texts, longer, strict=True) if over], max(length for _, length in pairs)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that an embedding depends on, except the caption."""
        # class names are part of it: renaming one would invalidate caches and checkpoints
        digest = hashlib.sha256(f"{FORMAT} {type(self).__name__} {self.max_tokens}".encode())
        for path in self.files():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"\n{path.relative_to(self.folder).as_posix()} {content}".encode())
        return digest.hexdigest()


def text_encoder(source: str, max_tokens: int, *, weights: bool = True, skip_t5: bool = False) -> TextEncoder:
    """The text encoder in a folder, or on the Hub ("owner/name" or "owner/name@revision"); it is downloaded first.

    With `weights=False` the weights are not downloaded; the encoder then has its `sizes`, but cannot encode. With
    `skip_t5` the T5 of a Stable Diffusion 3 pipeline is neither downloaded nor used.

    Raises
    ------
    UserError
        If there is no text encoder, or there is a single one and `skip_t5`.
    """
    folder = _folder(source, unwanted=[*_UNWANTED, *([] if weights else _WEIGHTS), *(_T5 if skip_t5 else [])])
    if (folder / PIPELINE).is_file():
        return _StableDiffusion3(folder=folder, max_tokens=max_tokens, skip_t5=skip_t5)
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
    return _Single(folder=folder, max_tokens=max_tokens)


class _Single(TextEncoder):
    """A transformers encoder with its tokenizer: CLIP, T5, BERT and the like.

    The pooled embedding is the model's text projection, else its pooler's output, else the mean over the caption's
    tokens.
    """

    @property
    def sizes(self) -> tuple[int, int, int]:
        [(_, length)] = self.tokenizers()
        with _readable(self.folder):
            config = _config(self.folder)
        return length, config.hidden_size, _pooled_size(config)

    def files(self) -> list[Path]:
        return _files(self.folder)

    def tokenizers(self) -> list[tuple[Any, int]]:
        with _readable(self.folder):
            tokenizer = _tokenizer(self.folder)
            return [(tokenizer, _length(tokenizer, _config(self.folder), self.max_tokens))]

    @torch.no_grad()
    def encode(self, texts: Sequence[str], device: str) -> tuple[Tensor, Tensor]:
        with _readable(self.folder):
            tokenizer = _tokenizer(self.folder)
            model, pools = _model(self.folder, device)
        if model.config.is_encoder_decoder and hasattr(model, "get_decoder"):
            model = model.get_encoder()
        model, length = model.to(device), _length(tokenizer, model.config, self.max_tokens)
        rows = [self._encode_one(text, tokenizer, model, length, pools=pools) for text in texts]
        del model
        _free_memory()
        return torch.stack([tokens for tokens, _ in rows]), torch.stack([pooled for _, pooled in rows])

    def _encode_one(self, text: str, tokenizer: Any, model: Any, length: int, *, pools: bool) -> tuple[Tensor, Tensor]:
        inputs = _tokenized(tokenizer, text, length)
        mask = inputs["attention_mask"]
        if not mask.any():  # the empty caption is all padding if the tokenizer adds no special tokens
            mask[:, 0] = 1
        output = model(input_ids=inputs["input_ids"].to(model.device), attention_mask=mask.to(model.device))
        tokens = output.last_hidden_state[0].float().cpu()
        pooled = getattr(output, "text_embeds", None)
        if pooled is None and pools:
            pooled = getattr(output, "pooler_output", None)
        return tokens, tokens[mask[0].bool()].mean(0) if pooled is None else pooled[0].float().cpu()


@dataclass(frozen=True, kw_only=True)
class _StableDiffusion3(TextEncoder):
    """The text encoders of a Stable Diffusion 3 pipeline.

    Tokens are the last but one hidden states of both CLIPs, side by side and padded with zeros to the width of T5,
    followed by T5's tokens, or zeros without a T5. The pooled embedding is both projections, side by side.
    """

    skip_t5: bool = False
    """Do as if the pipeline had no T5."""

    @property
    def sizes(self) -> tuple[int, int, int]:
        lengths = [length for _, length in self.tokenizers()]
        with _readable(self.folder):
            names = self._encoder_names()
            configs = [_config(self.folder / name) for name in names]
            width = configs[2].hidden_size if names[2:] else self._joint_width()
        length = lengths[0] + (lengths[2] if names[2:] else self.max_tokens)
        return length, width, sum(config.projection_dim for config in configs[:2])

    def files(self) -> list[Path]:
        tokenizers = [_tokenizer_name(name) for name in self._encoder_names()]
        more = [] if "tokenizer_3" in tokenizers else [self.folder / "transformer" / "config.json"]
        folders = [self.folder / name for name in (*self._encoder_names(), *tokenizers)]
        return [self.folder / PIPELINE, *(path for folder in folders for path in _files(folder)), *more]

    def tokenizers(self) -> list[tuple[Any, int]]:
        with _readable(self.folder):
            names = self._encoder_names()
            found = [_tokenizer(self.folder / _tokenizer_name(name)) for name in names]
            configs = [_config(self.folder / name) for name in names]
        return [(each, _length(each, config, self.max_tokens)) for each, config in zip(found, configs, strict=True)]

    def encode(self, texts: Sequence[str], device: str) -> tuple[Tensor, Tensor]:
        names = self._encoder_names()
        first, second = (self._clip(name, texts, device) for name in names[:2])
        clip = torch.cat([first[0], second[0]], dim=2)  # (N, 77, D of both)
        if names[2:]:
            t5 = self._t5(names[2], texts, device)
        else:
            t5 = torch.zeros(len(texts), self.max_tokens, self._joint_width())
        tokens = torch.cat([F.pad(clip, (0, t5.shape[2] - clip.shape[2])), t5], dim=1)
        return tokens, torch.cat([first[1], second[1]], dim=1)

    @torch.no_grad()
    def _clip(self, name: str, texts: Sequence[str], device: str) -> tuple[Tensor, Tensor]:
        with _readable(self.folder / name):
            tokenizer = _tokenizer(self.folder / _tokenizer_name(name))
            model, _ = _model(self.folder / name, device)
        model, length = model.to(device), _length(tokenizer, model.config, self.max_tokens)
        tokens, pooled = [], []
        for text in texts:
            inputs = _tokenized(tokenizer, text, length)
            output = model(input_ids=inputs["input_ids"].to(device), output_hidden_states=True)
            tokens.append(output.hidden_states[-2][0].float().cpu())
            pooled.append(output.text_embeds[0].float().cpu())
        del model
        _free_memory()
        return torch.stack(tokens), torch.stack(pooled)

    @torch.no_grad()
    def _t5(self, name: str, texts: Sequence[str], device: str) -> Tensor:
        with _readable(self.folder / name):
            tokenizer = _tokenizer(self.folder / _tokenizer_name(name))
            model, _ = _model(self.folder / name, device)
        model, length = model.to(device), _length(tokenizer, model.config, self.max_tokens)
        # without an attention mask, padding included, as SD3 was trained
        rows = [model(input_ids=_tokenized(tokenizer, text, length)["input_ids"].to(device))[0][0] for text in texts]
        tokens = torch.stack([row.float().cpu() for row in rows])
        del model
        _free_memory()
        return tokens

    def _encoder_names(self) -> list[str]:
        """Names of the text encoders that are used, which are also their folders."""
        index = _json(self.folder / PIPELINE, dict[str, Any])
        expected = {"text_encoder": "CLIPTextModelWithProjection", "text_encoder_2": "CLIPTextModelWithProjection"}
        expected |= {"text_encoder_3": "T5EncoderModel"}
        parts = {name: index.get(name) for name in expected}  # name → [library, class]
        found = {name: part[1] if isinstance(part, list) and len(part) == 2 else None for name, part in parts.items()}
        if {**found, "text_encoder_3": found["text_encoder_3"] or "T5EncoderModel"} != expected:
            raise UserError(
                f"{KEY}: {self.folder} has other text encoders than Stable Diffusion 3 "
                f"({', '.join(str(name) for name in found.values())}); set it to the folder of a single text encoder"
            )
        return [name for name, kind in found.items() if kind and not (self.skip_t5 and name == "text_encoder_3")]

    def _joint_width(self) -> int:
        return _json(self.folder / "transformer" / "config.json", _Transformer).joint_attention_dim


# Reading --------------------------------------------------------------------------------------------------------------


def _folder(source: str, *, unwanted: list[str]) -> Path:
    if Path(source).is_dir():
        return Path(source)
    if not is_hub_id(source):
        raise MissingError(f"{KEY}: {source}: no such folder")
    return download(source, key=KEY, allow=_WANTED, ignore=unwanted)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
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


def _json(path: Path, kind: type[T]) -> T:
    try:
        return read_json(path, kind, "copy or download it again")
    except UserError as error:
        raise UserError(f"{KEY}: {error}") from None


def _config(folder: Path) -> Any:
    """The configuration of the text part, also if the model reads images too."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    if not any(path for pattern in _VOCABULARIES for path in folder.glob(pattern)):
        raise ValueError("it has no tokenizer")  # transformers would use one with an empty vocabulary
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        raise ValueError("its tokenizer has no padding token")
    return tokenizer


def _model(folder: Path, device: str) -> tuple[Any, bool]:
    """The encoder in eval mode, and whether its pooler, if it has one, was trained."""
    if not _weights(folder):
        raise ValueError("it has no weights in safetensors")
    dtype = torch.float32 if device == "cpu" else "auto"
    model, info = _model_class(folder).from_pretrained(
        folder, local_files_only=True, dtype=dtype, output_loading_info=True, use_safetensors=True
    )
    missing = [name for name in info["missing_keys"] if "decoder" not in name]
    if strange := [name for name in missing if "pooler" not in name]:
        raise ValueError(f"its weights lack {strange[0]}")  # transformers would initialise it at random
    return model.eval(), not missing


def _model_class(folder: Path) -> Any:
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if config.model_type == "clip" or _projects(config):
        return transformers.CLIPTextModelWithProjection
    texts = type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING
    return transformers.AutoModelForTextEncoding if texts else transformers.AutoModel


def _projects(config: Any) -> bool:
    return "CLIPTextModelWithProjection" in (config.architectures or ())


def _pooled_size(config: Any) -> int:
    part_of_clip = config.model_type == "clip_text_model" and config.architectures is None
    return config.projection_dim if part_of_clip or _projects(config) else config.hidden_size


def _length(tokenizer: Any, config: Any, max_tokens: int) -> int:
    return min(max_tokens, tokenizer.model_max_length, getattr(config, "max_position_embeddings", max_tokens))


def _tokenized(tokenizer: Any, text: str, length: int) -> Any:
    return tokenizer(
        [text],
        padding="max_length",
        max_length=length,
        truncation=True,
        return_attention_mask=True,
        return_tensors="pt",
    )


def _tokenizer_name(name: str) -> str:
    """The name of the tokenizer of the text encoder `name`."""
    return name.replace("text_encoder", "tokenizer")


def _files(folder: Path) -> list[Path]:
    """The files that transformers reads in a folder: settings, and weights in safetensors."""
    return sorted({*_weights(folder), *(path for pattern in _SETTINGS for path in _matching(folder, pattern))})


def _weights(folder: Path) -> list[Path]:
    """The files with weights; a `UserError` if there are only pickles, which may be code."""
    weights = _matching(folder, _SAFETENSORS)
    if not weights and (pickles := sorted(_matching(folder, _PICKLES))):
        with _readable(folder):
            name = _model_class(folder).__name__
        raise UserError(f"{KEY}: {pickled_weights(pickles[0], 'transformers', name)}")
    return weights


def _matching(folder: Path, pattern: str) -> list[Path]:
    return [path for path in folder.glob(pattern) if path.is_file() and not path.match(_HALF_PRECISION)]


def _free_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
