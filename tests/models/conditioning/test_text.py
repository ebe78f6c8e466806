"""Text encoders: their embeddings are right and cached, and errors are reported in one line."""

from __future__ import annotations

import gc
import json
import shlex
import shutil
import weakref
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.utils import filter_repo_objects
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning import caption_cache
from signal_diffusion.models.conditioning.caption_cache import embed_captions
from signal_diffusion.models.conditioning.text import finding, loading
from signal_diffusion.models.conditioning.text.finding import text_encoder
from signal_diffusion.models.conditioning.text.single import SingleEncoder
from tests import text_encoders as tiny

TEXTS = ["", "an eeg of a healthy woman", "an eeg of a man"]
BERT = BertConfig(
    vocab_size=len(tiny.WORDS),
    hidden_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=40,
)
BART = BartConfig(
    vocab_size=len(tiny.WORDS),
    d_model=16,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=16,
    decoder_ffn_dim=16,
    max_position_embeddings=64,
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# Stable Diffusion 3 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t5", [True, False], ids=["with T5", "without T5"])
def test_stable_diffusion_3_embeddings_equal_those_of_diffusers(tmp_path: Path, t5: bool):
    pipeline = tiny.stable_diffusion_3(tmp_path, t5=t5)
    tokens, pooled = text_encoder(str(tmp_path), 256).encode(TEXTS, "cpu")
    expected, _, expected_pooled, _ = pipeline.encode_prompt(
        TEXTS, TEXTS, TEXTS, device="cpu", max_sequence_length=256, do_classifier_free_guidance=False
    )
    assert tokens.shape == (3, 77 + 256, 48) and pooled.shape == (3, 22)
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=3e-5)
    torch.testing.assert_close(pooled, expected_pooled, rtol=1e-4, atol=3e-5)
    assert (tokens[1, :77] - tokens[2, :77]).abs().max() > 0.01  # otherwise the comparison would prove nothing


def test_the_empty_caption_equals_the_negative_prompt_of_diffusers(tmp_path: Path):
    pipeline = tiny.stable_diffusion_3(tmp_path)
    tokens, pooled = text_encoder(str(tmp_path), 77).encode([""], "cpu")
    _, negative, _, negative_pooled = pipeline.encode_prompt(
        TEXTS[1], TEXTS[1], TEXTS[1], device="cpu", max_sequence_length=77
    )
    torch.testing.assert_close(tokens, negative, rtol=1e-4, atol=3e-5)
    torch.testing.assert_close(pooled, negative_pooled, rtol=1e-4, atol=3e-5)


def test_without_its_t5_a_pipeline_gives_the_embeddings_of_one_that_has_none(tmp_path: Path):
    for name in ("whole", "without"):
        tiny.stable_diffusion_3(tmp_path / name, t5=name == "whole")
    for part in ("text_encoder", "text_encoder_2"):
        shutil.copytree(tmp_path / "without" / part, tmp_path / "whole" / part, dirs_exist_ok=True)
    expected = text_encoder(str(tmp_path / "without"), 32)
    whole, skipping = (text_encoder(str(tmp_path / "whole"), 32, skip_t5=skip) for skip in (False, True))

    assert all(map(torch.equal, skipping.encode(TEXTS, "cpu"), expected.encode(TEXTS, "cpu")))
    assert skipping.fingerprint != whole.fingerprint
    shutil.rmtree(tmp_path / "whole" / "text_encoder_3")
    shutil.rmtree(tmp_path / "whole" / "tokenizer_3")
    assert skipping.sizes == expected.sizes and len(skipping.tokenizers()) == 2


def test_a_single_encoder_has_no_t5_to_skip(tmp_path: Path):
    with pytest.raises(UserError, match=r"\[model.conditioning\] skip_t5: .* is a single text encoder"):
        text_encoder(str(tiny.clip(tmp_path)), 16, skip_t5=True)


def test_a_pipeline_with_other_encoders_is_refused(tmp_path: Path):
    (tmp_path / "model_index.json").write_text(json.dumps({"text_encoder": ["transformers", "CLIPTextModel"]}))
    with pytest.raises(UserError, match=r"other text encoders than Stable Diffusion 3 \(CLIPTextModel, None, None\)"):
        text_encoder(str(tmp_path), 77).encode(TEXTS, "cpu")


# Encoders of transformers ---------------------------------------------------------------------------------------------


def test_clip_gives_its_last_hidden_state_and_its_projection(tmp_path: Path):
    tiny.clip(tmp_path)
    tokens, pooled = text_encoder(str(tmp_path), 77).encode(TEXTS, "cpu")
    model, tokenizer = tiny.CLIPTextModelWithProjection.from_pretrained(tmp_path), tiny.clip_tokenizer()
    inputs = tokenizer(TEXTS, padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        expected = model(inputs.input_ids, attention_mask=inputs.attention_mask)
    torch.testing.assert_close(tokens, expected.last_hidden_state, rtol=1e-4, atol=3e-5)
    torch.testing.assert_close(pooled, expected.text_embeds, rtol=1e-4, atol=3e-5)


def test_t5_is_pooled_over_the_caption_and_not_its_padding(tmp_path: Path):
    model, tokenizer = T5EncoderModel(tiny.t5_config()).eval(), tiny.word_tokenizer()
    tiny.saved(tmp_path, model, tokenizer)
    _, short = text_encoder(str(tmp_path), 8).encode(TEXTS, "cpu")
    _, long = text_encoder(str(tmp_path), 32).encode(TEXTS, "cpu")
    with torch.no_grad():
        expected = model(torch.tensor([tokenizer(TEXTS[1]).input_ids])).last_hidden_state[0].mean(0)
    torch.testing.assert_close(short[1], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(short, long, rtol=1e-4, atol=1e-5)


def test_only_the_encoder_of_an_encoder_decoder_is_used(tmp_path: Path):
    whole = T5ForConditionalGeneration(tiny.t5_config())
    tiny.saved(tmp_path / "whole", whole, tiny.word_tokenizer())
    half = T5EncoderModel(tiny.t5_config())
    half.load_state_dict({k: v for k, v in whole.state_dict().items() if k in half.state_dict()})
    tiny.saved(tmp_path / "half", half, tiny.word_tokenizer())
    tokens, expected = (text_encoder(str(tmp_path / name), 8).encode(TEXTS, "cpu")[0] for name in ("whole", "half"))
    assert torch.equal(tokens, expected) and expected.std() > 0.1
    bart = BartModel(BART).eval()
    tiny.saved(tmp_path / "bart", bart, tiny.word_tokenizer())
    tokens, _ = text_encoder(str(tmp_path / "bart"), 8).encode(TEXTS[:1], "cpu")
    inputs = tiny.word_tokenizer()(TEXTS[:1], padding="max_length", max_length=8, return_tensors="pt")
    with torch.no_grad():
        expected = bart.get_encoder()(inputs.input_ids, attention_mask=inputs.attention_mask).last_hidden_state
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=3e-5)


def test_a_pooler_is_used_only_if_it_was_trained(tmp_path: Path):
    tiny.saved(tmp_path / "trained", BertModel(BERT), tiny.word_tokenizer())
    tiny.saved(tmp_path / "lacking", BertForMaskedLM(BERT), tiny.word_tokenizer())
    model = BertModel.from_pretrained(tmp_path / "trained").eval()
    ids = torch.tensor([tiny.word_tokenizer()(TEXTS[1]).input_ids])
    _, pooled = text_encoder(str(tmp_path / "trained"), 40).encode(TEXTS, "cpu")
    torch.testing.assert_close(pooled[1], model(ids).pooler_output[0].detach(), rtol=1e-4, atol=1e-5)
    tokens, mean = text_encoder(str(tmp_path / "lacking"), 40).encode(TEXTS, "cpu")
    torch.testing.assert_close(mean[1], tokens[1, : ids.shape[1]].mean(0))


def test_an_empty_caption_without_tokens_has_finite_embeddings(tmp_path: Path):
    tiny.saved(tmp_path, BertModel(BERT, add_pooling_layer=False), tiny.word_tokenizer(end=False))
    tokens, pooled = text_encoder(str(tmp_path), 8).encode(TEXTS, "cpu")
    assert tokens.isfinite().all() and pooled.isfinite().all()
    assert (pooled[0] - pooled[1]).abs().max() > 0.01


@pytest.mark.parametrize("save", [tiny.clip, tiny.stable_diffusion_3], ids=["clip", "sd3"])
def test_the_weights_are_freed_at_once_after_encoding(tmp_path: Path, save, monkeypatch):
    """Without the garbage collector, which would only run later; a T5 may fill half of a GPU."""
    save(tmp_path)
    weights = []

    def loaded(folder: Path, device: str):
        model, pools = load(folder, device)
        weights.extend(map(weakref.ref, model.parameters()))
        return model, pools

    load = loading.load_model
    monkeypatch.setattr(loading, "load_model", loaded)
    gc.disable()
    try:
        text_encoder(str(tmp_path), 16).encode(TEXTS, "cpu")
        assert weights and all(weight() is None for weight in weights)
    finally:
        gc.enable()


def test_half_precision_weights_are_used_in_float32(tmp_path: Path):
    tiny.saved(tmp_path, CLIPTextModel(tiny.clip_config()).half(), tiny.clip_tokenizer())
    tokens, _ = text_encoder(str(tmp_path), 16).encode(TEXTS, "cpu")
    assert tokens.dtype == torch.float32 and not torch.equal(tokens, tokens.half().float())


def clip_with_images() -> CLIPModel:
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(text_config=tiny.clip_config().to_dict(), vision_config=vision, projection_dim=12)
    return CLIPModel(config)


@pytest.mark.parametrize(
    ("make", "max_tokens", "sizes"),
    [
        (lambda to: tiny.clip(to), 512, (77, 16, 12)),
        (lambda to: tiny.saved(to, CLIPTextModel(tiny.clip_config()), tiny.clip_tokenizer()), 20, (20, 16, 16)),
        (lambda to: tiny.saved(to, clip_with_images(), tiny.clip_tokenizer()), 77, (77, 16, 12)),
        (lambda to: tiny.saved(to, T5EncoderModel(tiny.t5_config()), tiny.word_tokenizer()), 512, (512, 48, 48)),
        (lambda to: tiny.saved(to, BertModel(BERT), tiny.word_tokenizer()), 512, (40, 16, 16)),
        (lambda to: tiny.saved(to, BartModel(BART), tiny.word_tokenizer()), 8, (8, 16, 16)),
        (lambda to: tiny.stable_diffusion_3(to), 100, (177, 48, 22)),
        (lambda to: tiny.stable_diffusion_3(to, t5=False), 32, (64, 48, 22)),
    ],
    ids=["clip", "clip text", "clip with images", "t5", "bert", "bart", "sd3", "sd3 without t5"],
)
def test_the_sizes_are_known_without_the_weights(tmp_path: Path, make, max_tokens, sizes):
    make(tmp_path)
    encoder = text_encoder(str(tmp_path), max_tokens)
    tokens, pooled = encoder.encode(TEXTS[:1], "cpu")
    for path in tmp_path.rglob("*.safetensors"):
        path.unlink()
    assert encoder.sizes == sizes == (*tokens.shape[1:], pooled.shape[1])


# The cache ------------------------------------------------------------------------------------------------------------


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that records the captions that are encoded from now on."""
    encoded: list[str] = []
    encode = SingleEncoder.encode
    monkeypatch.setattr(
        SingleEncoder, "encode", lambda self, texts, device: (encoded.extend(texts), encode(self, texts, device))[1]
    )
    return encoded


def test_a_caption_is_encoded_once(tmp_path: Path, monkeypatch):
    encoded = counting(monkeypatch)
    encoder = text_encoder(str(tiny.clip(tmp_path / "clip")), 16)
    first = embed_captions(encoder, TEXTS[:2], tmp_path / "cache", "cpu")
    again = embed_captions(text_encoder(str(tmp_path / "clip"), 16), [*TEXTS, TEXTS[1]], tmp_path / "cache", "cpu")
    assert encoded == TEXTS
    assert torch.equal(again[0][:2], first[0]) and torch.equal(again[1][3], first[1][1])


def test_cached_tokens_are_rounded_to_half_precision(tmp_path: Path):
    encoder = text_encoder(str(tiny.clip(tmp_path / "clip")), 16)
    tokens, pooled = embed_captions(encoder, TEXTS, tmp_path / "cache", "cpu")
    exact_tokens, exact_pooled = encoder.encode(TEXTS, "cpu")
    assert tokens.dtype == torch.float32
    assert torch.equal(tokens, exact_tokens.half().float()) and torch.equal(pooled, exact_pooled)


def test_values_too_large_for_half_precision_are_cached_in_float32(tmp_path: Path):
    caption_cache._write(tmp_path / "large", torch.full((2, 3), 1e5), torch.ones(3))
    assert caption_cache._read(tmp_path / "large")[0].max() == 1e5


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"",
    ],
    ids=["cut short", "one bit flipped", "empty"],
)
def test_a_damaged_cache_file_is_replaced(tmp_path: Path, damage):
    encoder = text_encoder(str(tiny.clip(tmp_path / "clip")), 16)
    before = embed_captions(encoder, TEXTS, tmp_path / "cache", "cpu")
    [*_, path] = (tmp_path / "cache").rglob("*.embedding")
    content = path.read_bytes()
    path.write_bytes(damage(content))
    after = embed_captions(encoder, TEXTS, tmp_path / "cache", "cpu")
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1])
    assert path.read_bytes() == content and len(list(path.parent.iterdir())) == 3


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_changing_a_file_changes_the_fingerprint(tmp_path: Path, name):
    folder = tiny.clip(tmp_path / "clip")
    before = text_encoder(str(folder), 16).fingerprint
    (folder / "README.md").write_text("embeddings do not depend on this file")
    assert text_encoder(str(folder), 16).fingerprint == before
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-3] + b" " + content[-3:])
    assert text_encoder(str(folder), 16).fingerprint != before != text_encoder(str(folder), 17).fingerprint


@pytest.mark.parametrize(
    "name",
    [
        "preprocessor_config.json",
        "generation_config.json",
        "LICENSE.txt",
        "pytorch_model.bin",
        "model.fp16.safetensors",
    ],
)
def test_unread_files_do_not_change_the_fingerprint(tmp_path: Path, name):
    encoder = text_encoder(str(tiny.clip(tmp_path)), 16)
    before = encoder.fingerprint
    (tmp_path / name).write_text("{}")
    assert text_encoder(str(tmp_path), 16).fingerprint == before


def test_pickled_weights_are_refused_with_the_command_that_converts_them(tmp_path: Path):
    encoder = text_encoder(str(tiny.clip(tmp_path)), 16)
    expected = encoder.encode(TEXTS, "cpu")
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()

    for use in (encoder.files, lambda: encoder.encode(TEXTS, "cpu")):
        with pytest.raises(UserError, match=r"text_encoder: .*pytorch_model.bin: a pickle, which can run") as caught:
            use()

    *_, python, option, code = shlex.split(str(caught.value).partition("convert it to safetensors: ")[2])
    assert (python, option) == ("python", "-c")
    exec(code)
    assert all(map(torch.equal, text_encoder(str(tmp_path), 16).encode(TEXTS, "cpu"), expected))


def test_code_in_a_folder_is_not_run(tmp_path: Path):
    settings = json.loads((tiny.clip(tmp_path) / "config.json").read_text())
    code = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
    (tmp_path / "config.json").write_text(json.dumps(settings | code))
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'made')!r})\nclass Evil: pass\n")
    with pytest.raises(UserError, match="not a text encoder that transformers can read"):
        text_encoder(str(tmp_path), 16).encode(TEXTS, "cpu")
    assert not (tmp_path / "made").exists()


def test_moving_an_encoder_keeps_its_fingerprint(tmp_path: Path):
    tiny.stable_diffusion_3(tmp_path / "here")
    before = text_encoder(str(tmp_path / "here"), 16).fingerprint
    shutil.move(tmp_path / "here", tmp_path / "there")
    (tmp_path / "there" / "transformer" / "config.json").write_text("{}")
    assert text_encoder(str(tmp_path / "there"), 16).fingerprint == before


LONG = "an eeg of a healthy relaxed woman "


def test_truncated_captions_give_a_warning_in_one_line(tmp_path: Path, capsys):
    encoder = text_encoder(str(tiny.clip(tmp_path / "clip")), 16)
    tokens, _ = embed_captions(encoder, ["", "an eeg", LONG + "alert", LONG], tmp_path / "cache", "cpu")
    [warning] = capsys.readouterr().err.splitlines()
    assert torch.equal(tokens[2], tokens[3])
    assert "max_caption_tokens: 2 of 4 captions are cut to 16 tokens" in warning
    embed_captions(encoder, ["an eeg of a"], tmp_path / "cache", "cpu")
    assert capsys.readouterr().err == ""


def test_a_caption_that_one_encoder_reads_whole_is_not_truncated(tmp_path: Path):
    tiny.stable_diffusion_3(tmp_path)  # two CLIPs read up to 77 letters, and the T5 reads words
    assert text_encoder(str(tmp_path), 100).truncated(["", 6 * LONG]) == ([], 100)
    assert text_encoder(str(tmp_path), 32).truncated(["", 6 * LONG]) == ([6 * LONG], 32)


# Errors ---------------------------------------------------------------------------------------------------------------


def damaged(folder: Path, name: str, content: bytes | None) -> Path:
    tiny.clip(folder)
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda to: to / "nowhere" / "else", r"nowhere/else: no such folder"),
        (
            lambda to: Path("someone/encoder"),
            r"someone/encoder: is not a local folder, and could not be downloaded from the Hub",
        ),
        (lambda to: to, "has neither config.json nor model_index.json"),
        (lambda to: damaged(to, "model.safetensors", None), "not a text encoder that transformers can read"),
        (lambda to: damaged(to, "model.safetensors", b"\x00" * 64), "not a text encoder that transformers can read"),
        (lambda to: damaged(to, "config.json", b"{"), "not a text encoder that transformers can read"),
        (lambda to: damaged(to, "config.json", b"[]"), "not a text encoder that transformers can read"),
        (lambda to: damaged(to, "config.json", b"[" * 99_999), "not a text encoder that transformers can read"),
        (lambda to: damaged(to, "tokenizer.json", b"[" * 99_999), "not a text encoder that transformers can read"),
        (lambda to: damaged(to, "model_index.json", b"[]"), "model_index.json: cannot be read"),
        (lambda to: damaged(to, "model_index.json", b'{"text_encoder": 1}'), "has other text encoders"),
        (lambda to: damaged(to, "tokenizer.json", b"{"), "not a text encoder that transformers can read"),
        (lambda to: tiny.saved(to, BertForMaskedLM(BERT)), "not a text encoder that transformers can read"),
    ],
    ids=[
        "missing",
        "hub",
        "empty",
        "no weights",
        "broken weights",
        "broken config",
        "config of another type",
        "nested config",
        "nested tokenizer",
        "pipeline of another type",
        "pipeline with a number",
        "broken tokenizer",
        "no tokenizer",
    ],
)
def test_an_unusable_encoder_is_reported_in_one_line(tmp_path: Path, make, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        text_encoder(str(make(tmp_path)), 16).encode(TEXTS, "cpu")
    assert len(caught.value.lines) == 1 and "\n" not in str(caught.value)
    assert str(caught.value).startswith("[model.conditioning] text_encoder: ")


def test_only_text_encoders_are_downloaded_from_a_repository():
    wanted = [
        "model_index.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder_3/model-00001-of-00002.safetensors",
        "text_encoder_3/model.safetensors.index.json",
        "tokenizer/merges.txt",
        "tokenizer_3/spiece.model",
        "transformer/config.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "vocab.txt",
        "spm.model",
    ]
    others = [
        "sd3.5_medium.safetensors",
        "text_encoder/model.fp16.safetensors",
        "text_encoders/t5xxl_fp16.safetensors",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "pytorch_model.bin",
        "onnx/model.onnx",
        "README.md",
    ]
    found = filter_repo_objects(wanted + others, allow_patterns=finding.WANTED, ignore_patterns=finding.UNWANTED)
    assert list(found) == wanted


def test_no_weights_are_downloaded_if_sizes_are_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    files = [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer/merges.txt",
    ]
    files += ["text_encoder/config.json", "text_encoder_3/model-00001-of-00002.safetensors"]
    downloaded: list[str] = []

    def download(name: str, *, allow_patterns: list[str], ignore_patterns: list[str], **options: object) -> str:
        downloaded.extend(filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns))
        return str(folder)

    folder = tiny.clip(tmp_path / "clip")
    (folder / "model.safetensors").unlink()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    encoder = text_encoder("someone/encoder", 16, weights=False)
    assert encoder.sizes == text_encoder(str(tiny.clip(tmp_path / "whole")), 16).sizes
    assert downloaded == ["config.json", "tokenizer.json", "tokenizer/merges.txt", "text_encoder/config.json"]


def test_a_t5_that_is_skipped_is_not_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    tiny.stable_diffusion_3(tmp_path)
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    downloaded: list[str] = []

    def download(name: str, *, allow_patterns: list[str], ignore_patterns: list[str], **options: object) -> str:
        downloaded.extend(filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    text_encoder("someone/pipeline", 16, skip_t5=True)
    folders = {name.partition("/")[0] for name in downloaded}
    assert {"text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "transformer"} <= folders
    assert not {"text_encoder_3", "tokenizer_3"} & folders


def test_missing_weights_are_an_error_and_not_random(tmp_path: Path):
    weights = load_file(tiny.clip(tmp_path) / "model.safetensors")
    weights.pop("text_projection.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"its weights lack text_projection\.weight"):
        text_encoder(str(tmp_path), 16).encode(TEXTS, "cpu")


def test_embeddings_that_are_not_finite_are_refused(tmp_path: Path):
    model = CLIPTextModel(tiny.clip_config())
    torch.nn.init.constant_(model.get_input_embeddings().weight, torch.inf)
    tiny.saved(tmp_path / "clip", model, tiny.clip_tokenizer())
    with pytest.raises(UserError, match="gives values that are not finite for the caption ''"):
        embed_captions(text_encoder(str(tmp_path / "clip"), 16), TEXTS, tmp_path / "cache", "cpu")
