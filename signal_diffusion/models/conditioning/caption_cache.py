"""Embeddings of captions on the disk, so that a caption is encoded once: a file each, by its encoder's fingerprint."""

from __future__ import annotations

import hashlib
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.text import KEY, TextEncoder

__all__ = ["embedded"]

DIGEST = 32  # bytes of a SHA-256


def embedded(encoder: TextEncoder, texts: Sequence[str], cache: Path, device: str) -> tuple[Tensor, Tensor]:
    """`encoder.encode(texts, device)` up to the rounding to float16, with the folder `cache` asked first.

    A file per caption lies there, whole or not at all; a damaged one is made again. Captions that are encoded and too
    long for that are told on standard error, in a line.
    """
    folder = cache / encoder.fingerprint
    found = {text: _read(_place(folder, text)) for text in texts}
    if missing := [text for text, values in found.items() if values is None]:
        folder.mkdir(parents=True, exist_ok=True)
        _tell_cut(encoder, missing)
        for text, *embedding in zip(missing, *encoder.encode(missing, device), strict=True):
            if not all(value.isfinite().all() for value in embedding):
                raise UserError(f"{KEY}: {encoder.folder} makes values of {text!r} that are not finite; use another")
            _write(_place(folder, text), *embedding)
        found |= {text: _read(_place(folder, text)) for text in missing}
    tokens, pooled = zip(*(values for text in texts if (values := found[text]) is not None), strict=True)
    return torch.stack(tokens), torch.stack(pooled)


def _tell_cut(encoder: TextEncoder, texts: Sequence[str]) -> None:
    cut, length = encoder.cut(texts)
    if cut:
        print(
            f"warning: [model.conditioning] max_caption_tokens: {len(cut)} of {len(texts)} captions are longer than "
            f"the {length} tokens that are read of them, and alike to the model where they differ after those; raise "
            "it as far as the text encoder goes, or use shorter captions",
            file=sys.stderr,
        )


def _place(folder: Path, text: str) -> Path:
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()}.embedding"


def _read(path: Path) -> tuple[Tensor, Tensor] | None:
    """A cached embedding: tokens (L, D) and pooled (P,); None where it is not there or damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        return None
    tensors = safetensors.torch.load(content[DIGEST:])
    return tensors["tokens"].float(), tensors["pooled"].float()


def _write(path: Path, tokens: Tensor, pooled: Tensor) -> None:
    half = tokens.half()  # what a bf16 network sees is coarser still
    kept = half if half.isfinite().all() else tokens
    content = safetensors.torch.save({"tokens": kept.contiguous(), "pooled": pooled.contiguous()})
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.write_bytes(hashlib.sha256(content).digest() + content)
    partial.replace(path)
