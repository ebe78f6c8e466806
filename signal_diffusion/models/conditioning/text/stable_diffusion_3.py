"""The three text encoders of Stable Diffusion 3 (https://arxiv.org/abs/2403.03206, appendix B.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.text.configs import length_of, readable, text_config
from signal_diffusion.models.conditioning.text.encoder import KEY, TextEncoder
from signal_diffusion.models.conditioning.text.files import encoder_files
from signal_diffusion.models.conditioning.text.loading import Loaded, embed_each, load_tokenizer
from signal_diffusion.untrusted import read_json

__all__ = ["PIPELINE", "StableDiffusion3Encoders"]

PIPELINE = "model_index.json"

E = TypeVar("E")


@dataclass(frozen=True)
class _Transformer:
    """The settings of a pipeline's transformer, of which one is read."""

    joint_attention_dim: int


@dataclass(frozen=True, kw_only=True)
class StableDiffusion3Encoders(TextEncoder):
    """The text encoders of a Stable Diffusion 3 pipeline.

    Tokens are the last but one hidden states of both CLIPs, side by side and padded with zeros to the width of T5,
    followed by T5's tokens, or zeros without a T5. The pooled embedding is both projections, side by side.
    """

    kind = "_StableDiffusion3"
    skip_t5: bool = False
    """Do as if the pipeline had no T5."""

    @property
    def sizes(self) -> tuple[int, int, int]:
        """L of a CLIP and of T5, D of T5, P of both CLIPs."""
        lengths = [length for _, length in self.tokenizers()]
        with readable(self.folder):
            names = self._encoder_names()
            configs = [text_config(self.folder / name) for name in names]
            width = configs[2].hidden_size if names[2:] else self._joint_width()
        length = lengths[0] + (lengths[2] if names[2:] else self.max_tokens)
        return length, width, sum(config.projection_dim for config in configs[:2])

    def files(self) -> list[Path]:
        """The files of encoders and tokenizers, and those that say which there are."""
        tokenizers = [_tokenizer_name(name) for name in self._encoder_names()]
        more = [] if "tokenizer_3" in tokenizers else [self.folder / "transformer" / "config.json"]
        folders = [self.folder / name for name in (*self._encoder_names(), *tokenizers)]
        return [self.folder / PIPELINE, *(path for folder in folders for path in encoder_files(folder)), *more]

    def tokenizers(self) -> list[tuple[Any, int]]:
        """The tokenizers of the encoders that are used."""
        with readable(self.folder):
            names = self._encoder_names()
            found = [load_tokenizer(self.folder / _tokenizer_name(name)) for name in names]
            configs = [text_config(self.folder / name) for name in names]
        return [(each, length_of(each, config, self.max_tokens)) for each, config in zip(found, configs, strict=True)]

    def encode(self, texts: Sequence[str], device: str) -> tuple[Tensor, Tensor]:
        """Embed captions by all encoders, one after the other."""
        names = self._encoder_names()
        both = [self._embedded(name, texts, device, _clip) for name in names[:2]]
        clip = torch.cat([torch.stack([tokens for tokens, _ in rows]) for rows in both], dim=2)  # (N, 77, D of both)
        pooled = torch.cat([torch.stack([each for _, each in rows]) for rows in both], dim=1)
        if names[2:]:
            t5 = torch.stack(self._embedded(names[2], texts, device, _t5))
        else:
            t5 = torch.zeros(len(texts), self.max_tokens, self._joint_width())
        return torch.cat([F.pad(clip, (0, t5.shape[2] - clip.shape[2])), t5], dim=1), pooled

    def _embedded(self, name: str, texts: Sequence[str], device: str, embed: Callable[[Loaded, Any], E]) -> list[E]:
        tokenizer = self.folder / _tokenizer_name(name)
        return embed_each(texts, embed, self.folder / name, tokenizer, max_tokens=self.max_tokens, device=device)

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


def _clip(loaded: Loaded, inputs: Any) -> tuple[Tensor, Tensor]:
    """The last but one hidden state (77, D), and the projection (P,)."""
    output = loaded.model(input_ids=inputs["input_ids"].to(loaded.model.device), output_hidden_states=True)
    return output.hidden_states[-2][0].float().cpu(), output.text_embeds[0].float().cpu()


def _t5(loaded: Loaded, inputs: Any) -> Tensor:
    """The last hidden state (L, D), without an attention mask, padding included, as SD3 was trained."""
    return loaded.model(inputs["input_ids"].to(loaded.model.device))[0][0].float().cpu()


def _tokenizer_name(name: str) -> str:
    """The name of the tokenizer of the text encoder `name`."""
    return name.replace("text_encoder", "tokenizer")


def _json(path: Path, kind: type[E]) -> E:
    try:
        return read_json(path, kind, "copy or download it again")
    except UserError as error:
        raise UserError(f"{KEY}: {error}") from None
