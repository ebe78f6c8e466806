"""A text encoder of transformers: its last hidden state, and its own pooled embedding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from signal_diffusion.models.conditioning.text.configs import length_of, pooled_size, readable, text_config
from signal_diffusion.models.conditioning.text.encoder import TextEncoder
from signal_diffusion.models.conditioning.text.files import encoder_files
from signal_diffusion.models.conditioning.text.loading import Loaded, embed_each, load_tokenizer

__all__ = ["SingleEncoder"]


class SingleEncoder(TextEncoder):
    """A transformers encoder with its tokenizer: CLIP, T5, BERT and the like.

    The pooled embedding is the model's text projection, else its pooler's output, else the mean over the caption's
    tokens.
    """

    kind = "_Single"

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(L, D, P) of the tokenizer, the hidden states and the pooled embedding."""
        [(_, length)] = self.tokenizers()
        with readable(self.folder):
            config = text_config(self.folder)
        return length, config.hidden_size, pooled_size(config)

    def files(self) -> list[Path]:
        """The files of encoder and tokenizer, which share a folder."""
        return encoder_files(self.folder)

    def tokenizers(self) -> list[tuple[Any, int]]:
        """The only tokenizer."""
        with readable(self.folder):
            tokenizer = load_tokenizer(self.folder)
            return [(tokenizer, length_of(tokenizer, text_config(self.folder), self.max_tokens))]

    def encode(self, texts: Sequence[str], device: str) -> tuple[Tensor, Tensor]:
        """Embed captions by the last hidden state, and the pooled embedding."""
        rows = embed_each(texts, _embed, self.folder, self.folder, max_tokens=self.max_tokens, device=device)
        return torch.stack([tokens for tokens, _ in rows]), torch.stack([pooled for _, pooled in rows])


def _embed(loaded: Loaded, inputs: Any) -> tuple[Tensor, Tensor]:
    model, mask = loaded.model, inputs["attention_mask"]
    if not mask.any():  # the empty caption is all padding if the tokenizer adds no special tokens
        mask[:, 0] = 1
    output = model(input_ids=inputs["input_ids"].to(model.device), attention_mask=mask.to(model.device))
    tokens = output.last_hidden_state[0].float().cpu()
    pooled = getattr(output, "text_embeds", None)
    if pooled is None and loaded.has_trained_pooler:
        pooled = getattr(output, "pooler_output", None)
    return tokens, tokens[mask[0].bool()].mean(0) if pooled is None else pooled[0].float().cpu()
