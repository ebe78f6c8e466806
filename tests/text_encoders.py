"""Tiny text encoders with random weights, saved to folders as users have them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
CLIP_VOCABULARY = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
WORDS = ["<pad>", "</s>", "<unk>", "an", "a", "eeg", "of", "healthy", "woman", "man", "relaxed", "alert"]


def clip_tokenizer(max_length: int = 77) -> CLIPTokenizer:
    """Each letter is a token."""
    return CLIPTokenizer({token: index for index, token in enumerate(CLIP_VOCABULARY)}, [], model_max_length=max_length)


def word_tokenizer(*, end: bool = True) -> PreTrainedTokenizerFast:
    """Each word is a token; with `end`, an end token follows."""
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if end:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def clip_config(width: int = 16, projection: int = 12) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(CLIP_VOCABULARY),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        projection_dim=projection,
        max_position_embeddings=77,
        bos_token_id=len(CLIP_VOCABULARY) - 2,
        eos_token_id=len(CLIP_VOCABULARY) - 1,
        pad_token_id=len(CLIP_VOCABULARY) - 1,
    )


def t5_config(width: int = 48) -> T5Config:
    return T5Config(
        vocab_size=len(WORDS), d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2, decoder_start_token_id=0
    )


def saved(folder: Path, *parts: Any) -> Path:
    """Save a model and a tokenizer to a folder, without output."""
    with contextlib.redirect_stderr(io.StringIO()):
        for part in parts:
            part.save_pretrained(folder)
    return folder


def clip(folder: Path, seed: int = 0) -> Path:
    """A CLIP with a projection, 16 channels wide, 12 pooled."""
    torch.manual_seed(seed)
    return saved(folder, CLIPTextModelWithProjection(clip_config()), clip_tokenizer())


def stable_diffusion_3(folder: Path, *, t5: bool = True) -> Any:
    """A diffusers pipeline with tiny encoders and without a VAE, also saved to `folder`."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline

    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=48,
        caption_projection_dim=16,
        pooled_projection_dim=12 + 10,
        out_channels=4,
        pos_embed_max_size=8,
    )
    pipeline = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=None,
        text_encoder=CLIPTextModelWithProjection(clip_config(16, 12)).eval(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=CLIPTextModelWithProjection(clip_config(24, 10)).eval(),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=T5EncoderModel(t5_config()).eval() if t5 else None,
        tokenizer_3=word_tokenizer() if t5 else None,
    )
    saved(folder, pipeline)
    return pipeline
