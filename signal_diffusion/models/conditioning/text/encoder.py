"""What every text encoder does: embed captions, and say what the embeddings depend on."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

__all__ = ["KEY", "TextEncoder"]

KEY = "[model.conditioning] text_encoder"
"""The key in an experiment file, for errors."""
FORMAT = 1  # version of cached embeddings: increase it whenever the computation changes


@dataclass(frozen=True, kw_only=True)
class TextEncoder(ABC):
    """Embeds captions; its weights are in memory only while it does."""

    kind: ClassVar[str]
    """Name in fingerprints: another one would invalidate caches and checkpoints."""
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
        digest = hashlib.sha256(f"{FORMAT} {self.kind} {self.max_tokens}".encode())
        for path in self.files():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"\n{path.relative_to(self.folder).as_posix()} {content}".encode())
        return digest.hexdigest()
