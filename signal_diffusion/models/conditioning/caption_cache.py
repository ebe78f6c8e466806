"""A cache of caption embeddings on disk: one file per caption, in a folder per fingerprint of the text encoder."""

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
from signal_diffusion.models.conditioning.text.encoder import KEY, TextEncoder

__all__ = ["embed_captions"]

DIGEST = 32  # bytes of a SHA-256


def embed_captions(encoder: TextEncoder, texts: Sequence[str], cache: Path, device: str) -> tuple[Tensor, Tensor]:
    """`encoder.encode(texts, device)`, rounded to float16 and cached in the folder `cache`.

    Files are written atomically, and a damaged one is replaced. If captions that have to be encoded are too long, a
    line on standard error warns about it.
    """
    folder = cache / encoder.fingerprint
    found = {text: _read(_path(folder, text)) for text in texts}
    if missing := [text for text, values in found.items() if values is None]:
        folder.mkdir(parents=True, exist_ok=True)
        _warn_about_truncation(encoder, missing)
        for text, *embedding in zip(missing, *encoder.encode(missing, device), strict=True):
            if not all(value.isfinite().all() for value in embedding):
                raise UserError(
                    f"{KEY}: {encoder.folder} gives values that are not finite for the caption {text!r}; use another "
                    "text encoder"
                )
            _write(_path(folder, text), *embedding)
        found |= {text: _read(_path(folder, text)) for text in missing}
    tokens, pooled = zip(*(values for text in texts if (values := found[text]) is not None), strict=True)
    return torch.stack(tokens), torch.stack(pooled)


def _warn_about_truncation(encoder: TextEncoder, texts: Sequence[str]) -> None:
    truncated, length = encoder.truncated(texts)
    if truncated:
        print(
            f"warning: [model.conditioning] max_caption_tokens: {len(truncated)} of {len(texts)} captions are cut to "
            f"{length} tokens, and the model cannot tell captions apart that differ only after these; raise it up to "
            "the text encoder's limit, or use shorter captions",
            file=sys.stderr,
        )


def _path(folder: Path, text: str) -> Path:
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()}.embedding"


def _read(path: Path) -> tuple[Tensor, Tensor] | None:
    """A cached embedding: tokens (L, D) and pooled (P,); None if it is missing or damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
        return None
    tensors = safetensors.torch.load(content[DIGEST:])
    return tensors["tokens"].float(), tensors["pooled"].float()


def _write(path: Path, tokens: Tensor, pooled: Tensor) -> None:
    half = tokens.half()  # a bf16 network rounds them more coarsely anyway
    kept = half if half.isfinite().all() else tokens
    content = safetensors.torch.save({"tokens": kept.contiguous(), "pooled": pooled.contiguous()})
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    partial.write_bytes(hashlib.sha256(content).digest() + content)
    partial.replace(path)
