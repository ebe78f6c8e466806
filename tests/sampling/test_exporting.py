"""Exported models: the same samples without the run, complete or absent, and with an accurate model card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.paths import without_folders
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling import export as exporting
from signal_diffusion.sampling.choosing import experiment_at
from signal_diffusion.sampling.model_card import model_card, with_defaults
from signal_diffusion.sampling.output_folder import default_output
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.training.diffusion import train
from tests import text_encoders
from tests.latent_spaces import small_vae
from tests.models import tiny
from tests.training.processes import another_process
from tests.training.test_foreign_runs import folder_of_pictures

PICTURE_SPLITS = {"train": "train", "val": "validation"}
PICTURE_OPTIONS = ("data.representation=image", "data.paths.root=", "training.validation.enabled=true")
FEW = ("training.max_steps=2", "training.validation.enabled=false")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tiny-run"
    train(experiment_file, output_dir=folder, overrides=("training.max_steps=4",))
    return folder


@pytest.fixture
def exported(run: Path, tmp_path: Path) -> Path:
    return SignalDiffusionPipeline.from_pretrained(run).save_pretrained(tmp_path / "exported")


@dataclass(frozen=True)
class Exported:
    """An exported model whose run was removed, and samples that the run generated before."""

    folder: Path
    samples: Samples
    work: Path
    """The folder that contained the run and its datasets and parts."""


@pytest.fixture(scope="module")
def latents(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    work = tmp_path_factory.mktemp("latents") / "work"
    train(experiment_file, output_dir=work / "run", overrides=(*FEW, *latent_overrides(work)))
    return export_and_remove(work)


@pytest.fixture(scope="module")
def captions(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    work = tmp_path_factory.mktemp("captions") / "work"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(work / "cache"))
        train(experiment_file, output_dir=work / "run", overrides=(*FEW, *caption_overrides(work)))
        return export_and_remove(work, "a healthy woman")


def export_and_remove(work: Path, *caption: str) -> Exported:
    pipeline = SignalDiffusionPipeline.from_pretrained(work / "run")
    samples = pipeline(*caption, num=2)
    folder = pipeline.save_pretrained(work.parent / "exported")
    shutil.rmtree(work)
    return Exported(folder, samples, work)


def train_export_and_remove(experiment_file: Path, work: Path, *overrides: str) -> tuple[Path, SignalDiffusionPipeline]:
    """Train in `work`, export and remove `work`; returns the exported folder, and the run's pipeline in memory."""
    train(experiment_file, output_dir=work / "run", overrides=(*FEW, *overrides))
    before = SignalDiffusionPipeline.from_pretrained(work / "run")
    folder = before.save_pretrained(work.parent / "exported")
    shutil.rmtree(work)
    return folder, before


def latent_overrides(work: Path) -> tuple[str, ...]:
    small_vae().save_pretrained(work / "vae")
    patches = "model.architecture.patch_size=[4, 4]"
    return ("model.autoencoder.enabled=true", f"model.autoencoder.path={work / 'vae'}", patches)


def caption_overrides(work: Path) -> tuple[str, ...]:
    encoder = text_encoders.clip(work / "encoder")
    add_path(encoder / "tokenizer_config.json", name_or_path=str(work / "encoder"))
    return ("model.conditioning.type=caption", f"model.conditioning.text_encoder={encoder}")


def add_path(file: Path, **entry: str) -> None:
    """Store a path in a JSON file, as earlier versions of transformers do."""
    file.write_text(json.dumps(json.loads(file.read_text()) | entry))


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# The same samples -----------------------------------------------------------------------------------------------------


def test_an_exported_model_generates_the_same_samples_after_its_run_was_removed(
    experiment_file: Path, tmp_path: Path
) -> None:
    folder, before = train_export_and_remove(experiment_file, tmp_path / "work")
    expected = before(num=3, label="alert", seed=7)
    samples = SignalDiffusionPipeline.from_pretrained(folder)(num=3, label="alert", seed=7)
    assert expected.signals is not None and samples.signals is not None
    assert torch.equal(expected.tensors, samples.tensors) and torch.equal(expected.signals, samples.signals)
    basic = {"README.md", "config.toml", "manifest.json", "model.safetensors", "model_index.json"}
    assert names_in(folder) == basic | {"signal_dataset.json"}


def test_the_command_samples_from_an_exported_model(exported: Path, run: Path, tmp_path: Path) -> None:
    words = ["sample", str(exported), "--num", "2", "--output", str(tmp_path / "samples")]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    with np.load(tmp_path / "samples" / "samples.npz") as file:
        assert np.array_equal(file["tensors"], SignalDiffusionPipeline.from_pretrained(run)(num=2).tensors)


def test_the_default_output_of_an_exported_model_is_in_the_working_directory(exported: Path) -> None:
    folder = default_output(exported, experiment_at(exported, []), {})
    assert folder == Path("generated") / "exported_64-samples_euler_2-steps_seed-0"


def test_an_exported_latent_model_contains_its_vae(latents: Exported) -> None:
    samples, expected = SignalDiffusionPipeline.from_pretrained(latents.folder)(num=2), latents.samples
    assert samples.latents is not None and expected.latents is not None
    assert torch.equal(samples.latents, expected.latents) and torch.equal(samples.tensors, expected.tensors)
    assert {"vae/config.json", "vae/diffusion_pytorch_model.safetensors", "latents.json"} <= names_in(latents.folder)
    assert json.loads((latents.folder / "model_index.json").read_text())["vae"] == ["diffusers", "AutoencoderKL"]
    card = (latents.folder / "README.md").read_text()
    assert "`vae/` is a copy of a local model, vae, whose licence applies" in card


def test_an_exported_caption_model_contains_its_text_encoder(captions: Exported) -> None:
    pipeline = SignalDiffusionPipeline.from_pretrained(captions.folder)
    assert torch.equal(pipeline("a healthy woman", num=2).tensors, captions.samples.tensors)
    assert not torch.equal(pipeline("a man", num=2).tensors, captions.samples.tensors)


def test_lora_updates_are_merged_and_the_base_model_is_not_needed(experiment_file: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    train(experiment_file, output_dir=work / "base", overrides=FEW)
    changes = ("model.lora.enabled=true", "model.lora.rank=2", "training.optimizer.learning_rate=0.1")
    folder, before = train_export_and_remove(
        experiment_file, work, *changes, f"model.pretrained={work / 'base' / 'checkpoint-2'}"
    )
    after = SignalDiffusionPipeline.from_pretrained(folder)
    assert not any("lora" in name or "base_layer" in name for name in load_file(folder / "model.safetensors"))
    x, t = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.7])
    cond = Conditioning({"label": torch.tensor([0, 1])})
    with torch.no_grad():
        unmerged, merged = before.trained.model(x, t, cond), after.trained.model(x, t, cond)
        for name, change in before.trained.model.named_parameters():
            if "lora_B" in name:
                change.zero_()
        unchanged = before.trained.model(x, t, cond)
    assert (merged - unmerged).abs().max() < 2e-6 * unmerged.abs().max()
    assert (merged - unchanged).abs().max() > 1e-3 * unmerged.abs().max()


def test_an_exported_model_contains_the_checkpoint_that_guides_it(experiment_file: Path, tmp_path: Path) -> None:
    guided = ("guidance_type=autoguidance", "guidance_checkpoint=checkpoint-1", "guidance_scale=2.0")
    folder, before = train_export_and_remove(
        experiment_file, tmp_path / "work", *(f"generation.sampling.{each}" for each in guided)
    )
    after = SignalDiffusionPipeline.from_pretrained(folder)
    assert torch.equal(before(num=2).tensors, after(num=2).tensors)
    assert not torch.equal(after(num=2).tensors, after(num=2, guidance_scale=1.0).tensors)
    assert "guided away from its own earlier weights at step 1 (autoguidance" in (folder / "README.md").read_text()
    assert default_output(folder, experiment_at(folder, []), {}).name.endswith("guidance-checkpoint-guide")
    again = after.save_pretrained(tmp_path / "again")
    shutil.rmtree(folder)
    assert torch.equal(before(num=2).tensors, SignalDiffusionPipeline.from_pretrained(again)(num=2).tensors)


def test_weights_in_fp16_are_half_as_large_and_give_nearly_the_same_samples(
    run: Path, exported: Path, tmp_path: Path
) -> None:
    small = SignalDiffusionPipeline.from_pretrained(run).save_pretrained(tmp_path / "small", half=True)

    sizes = [(folder / "model.safetensors").stat().st_size for folder in (small, exported)]
    assert sizes[0] < 0.55 * sizes[1]
    found, expected = (SignalDiffusionPipeline.from_pretrained(each)(num=2, steps=4) for each in (small, exported))
    assert not torch.equal(found.tensors, expected.tensors)
    torch.testing.assert_close(found.tensors, expected.tensors, atol=0.01, rtol=0)


def test_weights_too_large_for_fp16_are_refused(run: Path, tmp_path: Path) -> None:
    pipeline = SignalDiffusionPipeline.from_pretrained(run)
    with torch.no_grad():
        next(pipeline.trained.model.parameters()).fill_(1e5)

    with pytest.raises(UserError, match="has values that fp16 cannot represent; export without --half"):
        pipeline.save_pretrained(tmp_path / "small", half=True)


def test_exporting_an_exported_model_again_gives_the_same_files(exported: Path, tmp_path: Path) -> None:
    again = SignalDiffusionPipeline.from_pretrained(exported).save_pretrained(tmp_path / "again")
    assert names_in(again) == names_in(exported)
    assert all((again / name).read_bytes() == (exported / name).read_bytes() for name in names_in(exported))


def test_exporting_again_with_other_sampling_defaults_updates_the_model_card(exported: Path, tmp_path: Path) -> None:
    card = exported / "README.md"
    card.write_text(card.read_text().replace("library_name", "license: mit\nlibrary_name"))
    sets = ["generation.sampling.steps=7", "generation.sampling.sampler=heun"]

    again = SignalDiffusionPipeline.from_pretrained(exported, overrides=sets).save_pretrained(tmp_path / "again")

    assert "with `euler` in 2 steps and a guidance scale of 1. From" in card.read_text()
    assert (again / "README.md").read_text() == card.read_text().replace("`euler` in 2", "`heun` in 7")


def test_the_sampling_defaults_in_a_model_card_of_an_earlier_version_are_updated(run: Path) -> None:
    trained = SignalDiffusionPipeline.from_pretrained(run).trained
    old = "Edited. Unless told otherwise it samples by `heun` in 9 steps, with a guidance scale of 1. From the shell: …"
    updated = "Edited. By default, it samples with `euler` in 2 steps and a guidance scale of 1. From the shell: …"
    assert with_defaults(old, trained) == updated


def test_the_error_about_last_weights_of_an_exported_model_says_that_it_has_averaged_ones(exported: Path) -> None:
    with pytest.raises(UserError, match="this exported model has only the averaged weights; leave the key") as caught:
        SignalDiffusionPipeline.from_pretrained(exported, use_ema=False)
    assert len(caught.value.lines) == 1


def test_the_last_weights_are_exported_without_use_ema(run: Path, tmp_path: Path) -> None:
    last = SignalDiffusionPipeline.from_pretrained(run, use_ema=False)
    folder = last.save_pretrained(tmp_path / "exported")
    assert torch.equal(SignalDiffusionPipeline.from_pretrained(folder)(num=1).tensors, last(num=1).tensors)
    assert "weights are those of the last step" in (folder / "README.md").read_text()


def generate_two(folder: Path, file: Path) -> None:
    samples = SignalDiffusionPipeline.from_pretrained(folder)(num=2, seed=3)
    assert samples.signals is not None
    np.savez(file, tensors=samples.tensors, signals=samples.signals)


ATTRIBUTES = ("model.conditioning.type=attributes", "model.conditioning.attributes=['gender', 'age']")
NO_OPTIONS: Callable[[Path], tuple[str, ...]] = lambda work: ()  # noqa: E731


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "overrides"),
    [
        ("dit", NO_OPTIONS),
        ("hourglass", lambda work: ("model.conditioning.type=none",)),
        ("localmamba", lambda work: ATTRIBUTES),
        ("sd35", caption_overrides),
        ("unet", lambda work: (*ATTRIBUTES, *latent_overrides(work)[:2])),
    ],
    ids=["dit-class", "hourglass-none", "localmamba-attributes", "sd35-captions", "unet-latents"],
)
def test_the_samples_of_an_exported_backbone_are_bit_identical_in_another_process(
    backbone: str, overrides: Callable[[Path], tuple[str, ...]], experiment_file: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    table = ", ".join(f"{key} = {json.dumps(value)}" for key, value in tiny.IMAGES[backbone].items())
    wanted = (f"model.name={backbone}", f"model.architecture={{{table}}}", *overrides(work))
    folder, before = train_export_and_remove(experiment_file, work, *wanted)
    expected = before(num=2, seed=3)
    process = another_process(generate_two, folder, tmp_path / "two.npz", XDG_CACHE_HOME=str(tmp_path / "another"))
    assert process.exit_codes == [0], process.output
    assert expected.signals is not None
    with np.load(tmp_path / "two.npz") as file:
        assert np.array_equal(file["tensors"], expected.tensors)
        assert np.array_equal(file["signals"], expected.signals)


@pytest.mark.slow
def test_a_diffusers_pipeline_with_lora_is_exported_with_all_three_text_encoders(
    experiment_file: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    text_encoders.stable_diffusion_3(work / "sd3")
    small_vae().save_pretrained(work / "sd3" / "vae")
    head, _, tail = experiment_file.read_text().partition("[model.architecture]")
    work.joinpath("sd35.toml").write_text(f'{head}[model]\nname = "sd35"\n{tail[tail.index("[model.diffusion]") :]}')
    parts = (f"model.pretrained={work / 'sd3'}", "model.autoencoder.enabled=true", "model.conditioning.type=caption")
    changes = ("model.lora.enabled=true", "model.lora.target_modules=['to_q', 'to_v']")
    train(work / "sd35.toml", output_dir=work / "run", overrides=(*FEW, *parts, *changes))
    exported = export_and_remove(work, "a healthy woman")
    pipeline = SignalDiffusionPipeline.from_pretrained(exported.folder)
    woman, man = pipeline("a healthy woman", num=2).tensors, pipeline("a man", num=2).tensors
    assert (woman - exported.samples.tensors).abs().max() < 1e-5 and not torch.equal(woman, man)
    assert "text_encoder/text_encoder_3/model.safetensors" in names_in(exported.folder)


# The folder -----------------------------------------------------------------------------------------------------------


def test_the_folder_contains_no_paths_of_this_machine(
    latents: Exported, captions: Exported, synthetic_dataset: Path
) -> None:
    machine_paths = [latents.work, captions.work, synthetic_dataset, Path.home(), Path.cwd()]
    found = [
        (file.name, path)
        for folder in (latents.folder, captions.folder)
        for file in folder.rglob("*")
        for path in machine_paths
        if file.is_file() and str(path).encode() in file.read_bytes()
    ]
    assert not found


def test_recordings_in_the_card_are_reduced_to_their_last_name(run: Path, tmp_path: Path) -> None:
    pipeline = SignalDiffusionPipeline.from_pretrained(run)
    command = "signal-diffusion prepare /data/people/eegmat '/mnt/x y/bids' data/own --output DIR --splits-from=/a/b"
    card = replace(pipeline.trained.card, command=command, skipped=["/data/people/one.edf", "sub-1/two.edf"])
    folder = exporting.export(replace(pipeline.trained, card=card), tmp_path / "exported")
    written = json.loads((folder / "signal_dataset.json").read_text())
    assert written["command"] == "signal-diffusion prepare eegmat 'bids' data/own --output DIR --splits-from=b"
    assert written["skipped"] == ["one.edf", "sub-1/two.edf"]


def test_an_exported_model_of_a_foreign_dataset_has_no_paths_but_its_splits(
    experiment_file: Path, tmp_path: Path
) -> None:
    folder_of_pictures(tmp_path / "old" / "discs")
    paths = (f"data.paths.{key}={tmp_path}/old/discs/{name}" for key, name in PICTURE_SPLITS.items())
    folder, _ = train_export_and_remove(experiment_file, tmp_path / "old", *paths, *PICTURE_OPTIONS)
    assert not [path for path in folder.rglob("*") if path.is_file() and str(tmp_path).encode() in path.read_bytes()]
    written = json.loads((folder / "signal_dataset.json").read_text())
    assert written["preprocessing"]["splits"] == {"train": "train", "validation": "validation"}
    card = (folder / "README.md").read_text()
    assert "A diffusion model of images" in card and "EEG" not in card and "µV" not in card and "- eeg" not in card
    assert len(SignalDiffusionPipeline.from_pretrained(folder)(num=1).to_pictures()) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~jane/eeg/one.edf: bad", "one.edf: bad"),
        (r"C:\Users\Jane\eeg\two.edf: bad", "two.edf: bad"),
        (r"'C:\Users\Jane Doe\two.edf'", "'two.edf'"),
        ("file:///home/jane/a.edf", "a.edf"),
        ("../../home/jane/b.edf", "b.edf"),
        (r"\\host\share\x.edf", "x.edf"),
        ("sub-1/two.edf of https://example.org/a/b", "sub-1/two.edf of https://example.org/a/b"),
        ("eyes open / closed, µV²/Hz", "eyes open / closed, µV²/Hz"),
    ],
)
def test_paths_of_every_system_are_reduced_to_their_last_part(text: str, expected: str) -> None:
    assert without_folders(text) == expected


def test_a_category_that_looks_like_a_path_is_not_changed(run: Path, tmp_path: Path) -> None:
    trained = SignalDiffusionPipeline.from_pretrained(run).trained
    columns = {**trained.card.columns, "label": {"kind": "categorical", "names": ["/iy/", "/uw/"]}}
    folder = exporting.export(replace(trained, card=replace(trained.card, columns=columns)), tmp_path / "exported")
    assert json.loads((folder / "signal_dataset.json").read_text())["columns"] == columns


def test_files_have_the_permissions_of_new_files(exported: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "new").touch()
    mode = (tmp_path / "new").stat().st_mode
    files = [*exported.iterdir(), *(run / "checkpoint-4").iterdir()]
    assert [path.name for path in files if path.stat().st_mode != mode] == []


def test_an_existing_folder_is_refused_and_unchanged(exported: Path, run: Path) -> None:
    before = (exported / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="exported already exists; choose another folder, or remove it"):
        SignalDiffusionPipeline.from_pretrained(run).save_pretrained(exported)
    assert (exported / "manifest.json").read_bytes() == before


def test_a_failed_export_leaves_no_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "write_manifest", full)
    with pytest.raises(UserError, match=r"exported: cannot write the model: the disk is full \(needs "):
        SignalDiffusionPipeline.from_pretrained(run).save_pretrained(tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_a_disk_too_small_for_the_weights_is_a_one_line_error(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(exporting, "save_file", full)
    with pytest.raises(UserError, match=r"exported: cannot write the model: the disk is full \(needs "):
        SignalDiffusionPipeline.from_pretrained(run).save_pretrained(tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.toml", "signal_dataset.json"])
def test_a_damaged_file_is_a_one_line_error(name: str, exported: Path) -> None:
    (exported / name).write_bytes((exported / name).read_bytes()[:-1])
    with pytest.raises(UserError, match=f"exported/{name}: truncated or changed") as caught:
        SignalDiffusionPipeline.from_pretrained(exported)
    assert len(caught.value.lines) == 1


def test_a_folder_without_its_manifest_is_not_taken_for_a_run(exported: Path) -> None:
    (exported / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"manifest.json: missing; the checkpoint is incomplete"):
        SignalDiffusionPipeline.from_pretrained(exported)


def test_training_can_start_from_an_exported_model(exported: Path, experiment_file: Path, tmp_path: Path) -> None:
    no_change = ("training.optimizer.learning_rate=1e-12", "training.ema.enabled=false")
    train(experiment_file, output_dir=tmp_path / "run", overrides=(*FEW, *no_change, f"model.pretrained={exported}"))
    start, later = load_file(exported / "model.safetensors"), load_file(tmp_path / "run/checkpoint-2/model.safetensors")
    assert max((later[name] - start[name]).abs().max() for name in start) < 1e-6


# The model card -------------------------------------------------------------------------------------------------------


def test_the_model_card_describes_training_data_and_validation(exported: Path, run: Path) -> None:
    front, _, text = (exported / "README.md").read_text().removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(front) == {
        "library_name": "signal-diffusion",
        "tags": ["eeg", "diffusion", "synthetic-data", "dit", "db-only"],
    }
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    [validated] = [row for row in rows if "validation/loss" in row]
    assert f"{validated['validation/ema_loss']:.4f} with the averaged weights" in text
    assert f"Lowest `ema_loss` so far: {validated['validation/ema_loss']:.4f}, at step 4." in text
    assert "No evaluation report is attached" in text
    assert "4 steps of 8 × 2 examples per process (batch size × gradient accumulation), with adamw" in text
    assert "| train | 3 | 228 | alert 114, relaxed 114 |" in text
    assert "averaged over training (EMA with decay 0.9999)" in text


def test_a_damaged_row_of_the_metrics_is_skipped(run: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(run, tmp_path / "run")
    with (damaged / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "validat\n')
    folder = SignalDiffusionPipeline.from_pretrained(damaged).save_pretrained(tmp_path / "exported")
    card = (folder / "README.md").read_text()
    assert "Validation loss at step 4: " in card
    assert "on up to 24 examples of subjects who are not in the training split" in card


def test_a_base_model_is_in_the_front_matter_only_if_it_came_from_the_hub(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = SignalDiffusionPipeline.from_pretrained(run).trained
    model = replace(trained.experiment.model, pretrained="owner/name@v2")
    trained = replace(trained, experiment=replace(trained.experiment, model=model))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    unknown = model_card(trained, "mine", 4)
    (tmp_path / "models--owner--name").mkdir()
    known = model_card(trained, "mine", 4)
    assert "base_model" not in unknown and "Started from pretrained weights: owner/name@v2, whose" in unknown
    assert "base_model: owner/name\n" in known


def test_the_model_card_may_be_edited(exported: Path) -> None:
    card = exported / "README.md"
    card.write_text(card.read_text().replace("library_name", "license: mit\nlibrary_name"))
    assert len(SignalDiffusionPipeline.from_pretrained(exported)(num=1)) == 1


def test_the_code_in_the_model_card_runs(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (exported / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(exported.parent)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["samples"].columns["label"].tolist() == ["alert"] * 8


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_and_the_pipeline_export_the_same_files(run: Path, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "by command" / "exported"
    words = ["export", str(run / "checkpoint-4"), "--output", str(folder)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0 and f"`signal-diffusion sample '{folder}'`" in result.stdout
    assert all((folder / name).read_bytes() == (exported / name).read_bytes() for name in names_in(exported))


def test_the_command_exports_the_last_weights_with_set(run: Path, tmp_path: Path) -> None:
    words = ["export", str(run), "--output", str(tmp_path / "exported"), "--set", "generation.sampling.use_ema=false"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    assert "weights are those of the last step" in (tmp_path / "exported" / "README.md").read_text()


def test_the_command_loads_no_model_if_the_folder_exists(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SignalDiffusionPipeline, "from_pretrained", None)
    with pytest.raises(UserError, match="already exists"):
        CliRunner().invoke(app, ["export", str(run), "--output", str(tmp_path)], catch_exceptions=False)


def test_a_push_without_a_token_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    words = ["export", str(run), "--output", str(tmp_path / "exported"), "--push-to-hub", "owner/name"]
    with pytest.raises(UserError) as caught:
        CliRunner().invoke(app, words, catch_exceptions=False)
    [line] = caught.value.lines
    assert line == "--push-to-hub owner/name: no Hugging Face token found; run `hf auth login` or set HF_TOKEN"
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--push-to-hub", "name"], "--push-to-hub name: expected owner/name"),
        (["--push-to-hub", "owner/name@v1"], "--push-to-hub owner/name@v1: expected owner/name"),
        (["--private"], "--private has no effect without --push-to-hub"),
    ],
)
def test_invalid_push_options_are_refused_before_anything_is_written(
    run: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    with pytest.raises(UserError, match=expected):
        CliRunner().invoke(
            app, ["export", str(run), "--output", str(tmp_path / "exported"), *arguments], catch_exceptions=False
        )
    assert not (tmp_path / "exported").exists()


def test_the_folder_is_uploaded_to_the_hub(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, dict[str, Any]]] = []

    def create(self: object, identifier: str, **options: Any) -> str:
        calls.append((identifier, options))
        return "https://huggingface.co/owner/name"

    def upload(self: object, *, folder_path: Path, **options: Any) -> None:
        calls.append((str(folder_path), options | {"names": names_in(folder_path)}))

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload)
    output = tmp_path / "exported"
    words = ["export", str(run), "--output", str(output), "--push-to-hub", "owner/name", "--private"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.stdout.endswith("https://huggingface.co/owner/name\n")
    (identifier, created), (folder, uploaded) = calls
    assert (identifier, created["private"], created["exist_ok"]) == ("owner/name", True, True)
    assert (folder, uploaded["repo_id"]) == (str(output), "owner/name")
    assert "model.safetensors" in uploaded["names"]
    assert 'from_pretrained("owner/name")' in (output / "README.md").read_text()


def test_a_refused_upload_is_a_one_line_error_and_the_folder_stays(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, identifier: str, **options: Any) -> None:
        raise RuntimeError("403 Forbidden: no right to write\nMore.")

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "a token")
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    words = ["export", str(run), "--output", str(tmp_path / "exported"), "--push-to-hub", "owner/name"]
    with pytest.raises(UserError) as caught:
        CliRunner().invoke(app, words, catch_exceptions=False)
    [line] = caught.value.lines
    assert line.startswith("--push-to-hub owner/name: the upload failed (403 Forbidden: no right to write); ")
    assert (tmp_path / "exported" / "manifest.json").is_file()
