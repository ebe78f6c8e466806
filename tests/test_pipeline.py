"""The pipeline in Python: the same samples as the command, their forms, and errors that name arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.errors import UserError
from signal_diffusion.experiment import conditions
from signal_diffusion.models.conditioning.attributes import Caption, Conditioning
from signal_diffusion.models.conditioning.text.encoder import TextEncoder
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling import trained
from signal_diffusion.sampling.dataset_conditions import values_like
from signal_diffusion.training.diffusion import train
from tests import text_encoders
from tests.models.tiny import CONDITIONINGS, tiny


@pytest.fixture(scope="module")
def run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(experiment_file, output_dir=folder, overrides=("training.max_steps=4",))
    return folder


@pytest.fixture(scope="module")
def pipeline(run: Path) -> SignalDiffusionPipeline:
    return SignalDiffusionPipeline.from_pretrained(run)


@pytest.fixture(scope="module")
def captions(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "captions"
    encoder = text_encoders.clip(tmp_path_factory.mktemp("encoders") / "clip")
    words = ("model.conditioning.type=caption", f"model.conditioning.text_encoder={encoder}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
        train(experiment_file, output_dir=folder, overrides=(*words, "training.max_steps=4"))
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def sampled(run: Path, output: Path, *arguments: str) -> dict[str, np.ndarray]:
    words = ["sample", str(run), "--output", str(output), *arguments]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    with np.load(output / "samples.npz") as file:
        return dict(file)


# Samples --------------------------------------------------------------------------------------------------------------


def test_the_samples_of_pipeline_and_command_are_bit_identical(
    run: Path, pipeline: SignalDiffusionPipeline, tmp_path: Path
) -> None:
    arguments = ("--num", "3", "--label", "relaxed", "--seed", "5", "--steps", "3", "--sampler", "ddim")
    by_command = sampled(run, tmp_path / "out", *arguments, "--guidance-scale", "2")
    samples = pipeline(num=3, label="relaxed", seed=5, steps=3, sampler="ddim", guidance_scale=2.0)
    assert samples.signals is not None
    assert np.array_equal(samples.tensors, by_command["tensors"])
    assert np.array_equal(samples.signals, by_command["signals"])
    assert samples.columns["label"].tolist() == by_command["label"].tolist() == ["relaxed"] * 3


def test_like_samples_the_conditions_from_a_split(pipeline: SignalDiffusionPipeline) -> None:
    samples = pipeline(num=6, like="validation", seed=2)
    expected = values_like(pipeline.trained.experiment, ("label",), "validation", 6, seed=2)
    assert samples.columns["label"].tolist() == expected["label"] != ["alert", "relaxed"] * 3


def test_signals_have_names_and_a_sampling_rate_and_are_converted_to_epochs_in_volts(
    pipeline: SignalDiffusionPipeline,
) -> None:
    samples = pipeline(num=4)
    assert samples.signals is not None and samples.signals.shape == (4, 2048) and len(samples) == 4
    assert (samples.ch_names, samples.sfreq) == (["EEG"], 125.0)
    epochs = samples.to_mne()
    assert np.allclose(epochs.get_data()[:, 0] * 1e6, samples.signals, rtol=1e-6)
    assert (epochs.ch_names, epochs.info["sfreq"]) == (["EEG"], 125.0)
    assert epochs.metadata["label"].tolist() == ["alert", "relaxed", "alert", "relaxed"]


def test_images_of_db_only_samples_are_their_values_in_grey(pipeline: SignalDiffusionPipeline) -> None:
    samples = pipeline(num=2)
    images = samples.to_pictures()
    assert [(image.mode, image.size) for image in images] == [("L", (64, 64))] * 2
    levels = np.stack([np.asarray(image) for image in images]) / 127.5 - 1
    assert np.abs(levels - samples.tensors[:, 0].clamp(-1, 1).numpy()).max() <= 0.5 / 127.5 + 1e-6
    assert np.ptp(levels) > 0.5


def test_the_options_of_a_call_do_not_affect_the_next_call(pipeline: SignalDiffusionPipeline) -> None:
    before = pipeline(num=1)
    other = pipeline(num=1, seed=1, steps=7)
    assert not torch.equal(before.tensors, other.tensors)
    assert torch.equal(before.tensors, pipeline(num=1).tensors)


def test_keys_of_the_sampling_table_accept_python_and_numpy_values(pipeline: SignalDiffusionPipeline) -> None:
    unguided = pipeline(num=1, label="alert")
    never = pipeline(num=1, label="alert", guidance_scale=3.0, guidance_interval=(0.0, 1e-9), seed=np.int64(0))
    always = pipeline(num=1, label="alert", guidance_scale=3.0, guidance_interval=(0.0, 1.0))
    assert torch.equal(unguided.tensors, never.tensors) and not torch.equal(unguided.tensors, always.tensors)


def test_use_ema_false_uses_the_last_weights(run: Path, pipeline: SignalDiffusionPipeline) -> None:
    last = SignalDiffusionPipeline.from_pretrained(run, use_ema=False)
    assert not torch.equal(last(num=1).tensors, pipeline(num=1).tensors)
    assert torch.equal(last(num=1, seed=0).tensors, last(num=1).tensors)


# Captions -------------------------------------------------------------------------------------------------------------


def test_a_new_caption_is_embedded_without_loading_the_model_again(
    captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = SignalDiffusionPipeline.from_pretrained(captions)
    model = pipeline.trained.model
    monkeypatch.setattr(trained, "load_weights", None)
    woman, man = pipeline("a woman", num=2), pipeline("a man", num=2)
    again, null = pipeline("a woman", num=2), pipeline(num=2)
    monkeypatch.undo()

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    by_command = sampled(captions, tmp_path / "out", "--num", "2", "--caption", "a woman")
    assert np.array_equal(woman.tensors, by_command["tensors"])
    assert torch.equal(woman.tensors, again.tensors) and woman.columns["caption"].tolist() == ["a woman"] * 2
    assert not torch.equal(woman.tensors, man.tensors) and not torch.equal(woman.tensors, null.tensors)
    assert pipeline.trained.model is model


def test_the_guide_of_a_call_gets_its_caption(captions: Path) -> None:
    pipeline = SignalDiffusionPipeline.from_pretrained(captions)
    table: dict[str, Any] = {
        "guidance_type": "autoguidance",
        "guidance_checkpoint": "checkpoint-1",
        "guidance_scale": 3.0,
    }
    pipeline("a man")
    guided = pipeline("a woman", num=2, **table)
    overrides = [f"generation.sampling.{key}={value}" for key, value in table.items()]
    loaded_with_caption = SignalDiffusionPipeline(trained.load_trained(captions, overrides, ["a woman"]))
    assert torch.equal(guided.tensors, loaded_with_caption("a woman", num=2).tensors)
    assert not torch.equal(guided.tensors, pipeline("a woman", num=2).tensors)


def test_a_caption_is_encoded_once(captions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[list[str]] = []
    original = conditions.embed_captions

    def counted(encoder: TextEncoder, texts: Any, *arguments: Any) -> Any:
        encoded.append(list(texts))
        return original(encoder, texts, *arguments)

    monkeypatch.setattr(conditions, "embed_captions", counted)
    pipeline = SignalDiffusionPipeline.from_pretrained(captions)
    for _ in range(2):
        pipeline("a man")
    assert encoded == [[""], ["", "a man"]]


@pytest.mark.parametrize("backbone", ["dit", "sd35"])
def test_a_network_with_replaced_captions_equals_one_built_with_them(backbone: str) -> None:
    [before] = CONDITIONINGS["caption"]
    assert isinstance(before, Caption)
    later = Caption("caption", ("", "new"), before.tokens[1:] + 1, before.pooled[1:] - 1)
    network = tiny(backbone, (1, 64, 64), conditioning="caption")
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(0))
    CONDITIONINGS["later"] = (later,)
    try:
        built = tiny(backbone, (1, 64, 64), conditioning="later")
    finally:
        del CONDITIONINGS["later"]
    built.load_state_dict(network.state_dict())
    x, t, cond = torch.randn(2, 1, 64, 64), torch.tensor([0.3, 0.8]), Conditioning({"caption": torch.tensor([1, -1])})
    with torch.no_grad():
        before_replacing = network.eval()(x, t, cond)
        network.hold_captions(later)
        assert torch.equal(network(x, t, cond), built.eval()(x, t, cond))
        assert not torch.equal(network(x, t, cond), before_replacing)


# Mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"label": "asleep"}, "label asleep: expected one of alert, relaxed"),
        ({"attributes": {"label": "asleep"}}, "attributes label=asleep: expected one of alert, relaxed"),
        ({"attributes": {"age": 60}}, "attributes age: the model has no attribute age; it has label"),
        ({"caption": "a man"}, "caption: the model has no attribute caption; it has label"),
        ({"like": "night"}, "like night: "),
        ({"like": "validation", "label": "alert"}, "like validation: takes all conditions from the split"),
        ({"label": " "}, "label: is blank; leave it out for any class"),
        ({"like": ""}, "like: is blank; leave it out for conditions that are not from a split"),
        ({"windows": 2}, "windows: the model is not conditioned on the electrode; use num"),
        ({"label": "alert", "attributes": {"label": "alert"}}, "attributes sets label too; use only one of the two"),
        ({"sampler": "eulr"}, "did you mean 'euler'"),
        ({"steps": 0}, "steps: expected a number greater than or equal to 1"),
        ({"num": 0}, "num: 0; expected a whole number from 1 to 10000000"),
        ({"num": 2.5}, "num: 2.5; expected a whole number from 1 to 10000000"),
        ({"num_samples": 2}, "num_samples: use the argument num instead"),
        ({"batch_size": 0}, "batch_size: 0; expected a whole number from 1 to 65536"),
        ({"batch_size": "many"}, "batch_size: 'many'; expected a whole number from 1 to 65536"),
        ({"label": 1}, "label: 1; expected text"),
        ({"caption": ["a man"]}, "caption: ['a man']; expected text"),
        ({"like": 1}, "like: 1; expected text"),
        ({"attributes": [("label", "alert")]}, "attributes: [('label', 'alert')]; expected a mapping"),
        ({"attributes": {"label": None}}, "attributes: 'label' is None; expected text or a number"),
        ({"guidance": 2}, "guidance: unknown key (did you mean"),
        ({"eta": 0.5}, "eta: has no effect with generation.sampling.sampler = 'euler'"),
        ({"use_ema": False}, "use_ema: selects the weights to load; pass it to from_pretrained"),
        ({"seed": object()}, "expected text, a number"),
    ],
)
def test_invalid_requests_are_one_line_errors_that_name_arguments(
    pipeline: SignalDiffusionPipeline, arguments: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        pipeline(**arguments)
    assert len(caught.value.lines) == 1 and expected in str(caught.value) and "--" not in str(caught.value)


def test_values_of_attributes_are_stripped(pipeline: SignalDiffusionPipeline) -> None:
    samples = pipeline(num=np.int64(2), attributes={"label": " relaxed "}, batch_size="auto")
    assert samples.columns["label"].tolist() == ["relaxed"] * 2


def test_overrides_can_set_the_folder_of_a_moved_dataset_and_errors_name_them(run: Path, tmp_path: Path) -> None:
    missing = SignalDiffusionPipeline.from_pretrained(run, overrides=[f"data.paths.root={tmp_path}/gone"])
    with pytest.raises(UserError, match=r"gone does not exist; if you moved the dataset, set its folder with"):
        missing(like="validation")
    with pytest.raises(UserError, match=r"^overrides: \[generation.sampling\] steps: expected a number"):
        SignalDiffusionPipeline.from_pretrained(run, overrides=["generation.sampling.steps=0"])


def test_a_missing_guide_can_be_switched_off_by_an_override(run: Path) -> None:
    table = ("guidance_type=autoguidance", "guidance_checkpoint=checkpoint-99", "guidance_scale=2")
    guided = [f"generation.sampling.{each}" for each in table]
    with pytest.raises(UserError, match="checkpoint-99: no such checkpoint"):
        SignalDiffusionPipeline.from_pretrained(run, overrides=guided)
    unguided = SignalDiffusionPipeline.from_pretrained(run, overrides=[*guided, "generation.sampling.guidance_scale=1"])
    assert unguided.trained.guide is None


def test_the_current_folder_can_be_the_checkpoint(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "checkpoint-4")
    here = SignalDiffusionPipeline.from_pretrained(".").trained
    assert (here.checkpoint.name, here.run) == ("checkpoint-4", run.resolve())


def test_the_command_shows_paths_relative_to_the_working_directory(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    result = CliRunner().invoke(app, ["sample", run.name, "--num", "1", "--seed", "9"], catch_exceptions=False)
    assert result.stdout.startswith("run/generated/checkpoint-4_1-samples_")
    assert "1 samples from run/checkpoint-4: " in result.stdout


def test_a_run_without_a_checkpoint_is_an_error(run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes((run / "config.toml").read_bytes())
    with pytest.raises(UserError, match="no complete checkpoint; training has to write one first"):
        SignalDiffusionPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize(("option", "value"), [("--sampler", "eulr"), ("--steps", "0"), ("--guidance-scale", "-1")])
def test_errors_of_the_command_name_the_option(run: Path, option: str, value: str) -> None:
    with pytest.raises(UserError, match=f"^{option}: expected"):
        CliRunner().invoke(app, ["sample", str(run), option, value], catch_exceptions=False)


def test_a_model_that_is_neither_local_nor_on_the_hub_is_a_one_line_error(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        UserError, match="owner/name: is not a local folder, and could not be downloaded from the Hub"
    ) as caught:
        SignalDiffusionPipeline.from_pretrained("owner/name")
    assert len(caught.value.lines) == 1
    monkeypatch.chdir(run.parent.parent)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", None)
    with pytest.raises(UserError, match="no such folder; expected that of a run"):
        SignalDiffusionPipeline.from_pretrained(f"{run.parent.name}/rnu")


def test_a_model_on_the_hub_is_downloaded(
    pipeline: SignalDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.save_pretrained(tmp_path / "snapshot")
    calls: list[tuple[str, object]] = []

    def download(name: str, *, revision: str | None, **options: Any) -> str:
        calls.append((name, revision))
        return str(tmp_path / "snapshot")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    downloaded = SignalDiffusionPipeline.from_pretrained("owner/name@v2")
    assert calls == [("owner/name", "v2")]
    assert torch.equal(downloaded(num=1).tensors, pipeline(num=1).tensors)
