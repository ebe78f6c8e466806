"""Models conditioned on captions or on several attributes, from the experiment file to samples."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.config import schema
from signal_diffusion.data.augmentation import Augmenting
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import open_split
from signal_diffusion.diffusion.methods import rectified_flow
from signal_diffusion.errors import UserError
from signal_diffusion.experiment import conditions
from signal_diffusion.experiment.conditions import attributes_of, caption_of
from signal_diffusion.experiment.dataset import captions_in, dataset_of
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.resolving import resolve
from signal_diffusion.models.conditioning.attributes import Caption, Categorical, Conditioning, Numeric
from signal_diffusion.sampling import job
from signal_diffusion.sampling.output_folder import default_output
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.objective import Denoising
from signal_diffusion.training.previews import groups_of
from tests import text_encoders
from tests.training.processes import two_processes
from tests.training.runs import largest_difference, metrics_of

WOMAN = "an EEG spectrogram of a healthy woman, relaxed"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_encoders.clip(tmp_path_factory.mktemp("encoders") / "clip")


def caption_overrides(encoder: Path) -> tuple[str, ...]:
    return ("model.conditioning.type=caption", f"model.conditioning.text_encoder={encoder}")


@pytest.fixture(scope="module")
def run(experiment_file: Path, encoder: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "captions"
    previews = ("training.visualization.enabled=true", "training.visualization.num_samples=8")
    train(
        experiment_file, output_dir=folder, overrides=(*caption_overrides(encoder), *previews, "training.max_steps=6")
    )
    return folder


def sampled(run: Path, output: Path, *arguments: str) -> dict[str, np.ndarray]:
    words = ["sample", str(run), "--num", "2", "--output", str(output), *arguments]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    with np.load(output / "samples.npz") as file:
        return dict(file)


# Captions -------------------------------------------------------------------------------------------------------------


def test_a_caption_run_resumes_bit_identically_without_its_cache(
    run: Path, experiment_file: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert (run / "samples" / "step-00000006.png").stat().st_size > 1000
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    resumed = tmp_path / "run"
    shutil.copytree(run, resumed)
    for step in (4, 5, 6):
        shutil.rmtree(resumed / f"checkpoint-{step}")
    overrides = (*caption_overrides(encoder), "training.max_steps=6")
    train(experiment_file, output_dir=resumed, overrides=overrides, resume="latest")
    assert largest_difference(run / "checkpoint-6", resumed / "checkpoint-6") == 0
    assert metrics_of(run)[-1] == metrics_of(resumed)[-1]
    assert list((tmp_path / "another").rglob("*.embedding"))


def test_like_conditions_on_the_captions_of_a_split(
    run: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    encoders: list[bool] = []
    original = conditions.text_encoder

    def counted(source: str, tokens: int, *, weights: bool = True, **others: bool):  # type: ignore[no-untyped-def]
        encoders.append(weights)
        return original(source, tokens, weights=weights, **others)

    monkeypatch.setattr(conditions, "text_encoder", counted)
    like = sampled(run, tmp_path / "like", "--like", "validation")
    first = str(like["caption"][0])
    explicit = sampled(run, tmp_path / "explicit", "--caption", first)
    assert encoders.count(True) == 2  # once per command
    assert first in dataset_of(load_experiment(run / "config.toml").data).open("validation")["caption"]
    assert np.abs(like["tensors"][0] - explicit["tensors"][0]).max() < 1e-5


def test_caption_embeddings_are_not_saved_in_the_checkpoint(run: Path, encoder: Path):
    names = load_trained(run).model.state_dict()
    assert any("conditioning" in name for name in names) and not any("table" in name for name in names)


def test_samples_follow_captions_that_training_never_saw(run: Path, cache: Path, tmp_path: Path):
    woman = sampled(run, tmp_path / "woman", "--caption", WOMAN)
    man = sampled(run, tmp_path / "man", "--caption", WOMAN.replace("woman", "man"))
    again = sampled(run, tmp_path / "again", "--attributes", "caption=a man")
    open_ = sampled(run, tmp_path / "open")
    assert woman["caption"].tolist() == [WOMAN] * 2 and open_["caption"].tolist() == [""] * 2
    assert again["caption"].tolist() == ["a man"] * 2
    for other in (man, again, open_):
        assert np.abs(woman["tensors"] - other["tensors"]).max() > 1e-4


def test_the_empty_caption_is_the_null_of_dropout_and_guidance(run: Path, cache: Path, tmp_path: Path):
    open_ = sampled(run, tmp_path / "open")
    empty = sampled(run, tmp_path / "empty", "--caption", "")
    unguided = sampled(run, tmp_path / "zero", "--caption", WOMAN, "--guidance-scale", "0")
    assert np.array_equal(open_["tensors"], empty["tensors"])
    assert np.abs(open_["tensors"] - unguided["tensors"]).max() < 1e-5
    trained = load_trained(run)
    x, t = torch.randn(2, 1, 64, 64), torch.rand(2)
    dropped = request_values(trained.attributes, {}, 2).cond
    row = Conditioning({"caption": torch.tensor([0, 0])})
    assert torch.equal(trained.model(x, t, dropped), trained.model(x, t, row))


def test_captions_give_valid_and_distinct_folder_names(run: Path, cache: Path):
    trained = load_trained(run)
    asked = ({"caption": caption} for caption in (WOMAN, f"{WOMAN}/..", ""))
    names = [default_output(trained.checkpoint, trained.experiment, each).name for each in asked]
    assert len(set(names)) == 3 and all("/" not in name and len(name) < 150 for name in names)
    assert names[2] == "checkpoint-6_64-samples_euler_2-steps_seed-0"


def test_unfinished_samples_of_another_caption_are_not_continued(run: Path, cache: Path, tmp_path: Path):
    """Each command embeds only its own caption, so both captions have index 1."""

    def stop(done: int) -> None:
        if done:
            raise KeyboardInterrupt

    woman, man = (load_trained(run, captions=[caption]) for caption in (WOMAN, "a man"))
    first, second = (
        request_values(trained.attributes, {"caption": caption}, 2)
        for trained, caption in ((woman, WOMAN), (man, "a man"))
    )
    with pytest.raises(KeyboardInterrupt):
        job.sample(woman, first, tmp_path / "out", batch_size=1, on_batch=stop)
    with pytest.raises(UserError, match=r"unfinished samples of other settings .*conditions_sha256"):
        job.sample(man, second, tmp_path / "out", batch_size=1)


def test_a_caption_that_was_not_embedded_is_refused(run: Path, cache: Path):
    trained = load_trained(run, captions=[WOMAN])
    assert request_values(trained.attributes, {"caption": WOMAN}, 1).cond.attributes["caption"].tolist() == [1]
    with pytest.raises(UserError, match="pass it in the `captions` of load_trained"):
        request_values(trained.attributes, {"caption": "a man"}, 1)


def test_label_is_refused_for_a_caption_model(run: Path, cache: Path):
    with pytest.raises(UserError, match="--label: the model has no attribute label; it has caption"):
        CliRunner().invoke(app, ["sample", str(run), "--label", "alert"], catch_exceptions=False)


def test_a_missing_or_changed_text_encoder_is_one_line(run: Path, cache: Path, tmp_path: Path):
    missing = ["model.conditioning.text_encoder=/gone/away"]
    with pytest.raises(UserError, match=r"\[model.conditioning\] text_encoder: /gone/away: no such folder") as caught:
        load_trained(run, missing)
    assert len(caught.value.lines) == 1
    other = text_encoders.clip(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"text_encoder: other weights than .* was trained with"):
        load_trained(run, [f"model.conditioning.text_encoder={other}"])


def test_a_caption_experiment_is_checked_without_the_text_encoders_weights(
    experiment_file: Path, encoder: Path, run: Path, tmp_path: Path
):
    shutil.copytree(encoder, tmp_path / "clip")
    (tmp_path / "clip" / "model.safetensors").unlink()
    found = inspect(resolve(load_experiment(experiment_file, caption_overrides(tmp_path / "clip"))))
    model = load_trained(run).model
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    plain = inspect(resolve(load_experiment(experiment_file, ("model.conditioning.type=none",))))
    captions = (8 + 1) * 12  # with the empty caption; this backbone keeps only pooled embeddings
    assert found.memory.state - plain.memory.state == 4 * (captions + 5 * (found.parameters - plain.parameters))


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("data.columns.caption=words", r"\[data.columns\] caption: the dataset has no text column 'words'; its"),
        ("data.columns.caption=age", "no text column 'age'"),
        ("model.conditioning.text_encoder=/gone/away", "no such folder"),
    ],
)
def test_captions_that_cannot_be_loaded_are_refused_before_anything_is_written(
    experiment_file: Path, encoder: Path, tmp_path: Path, override: str, complaint: str
):
    with pytest.raises(UserError, match=complaint) as caught:
        train(experiment_file, output_dir=tmp_path / "run", overrides=(*caption_overrides(encoder), override))
    assert len(caught.value.lines) == 1 and not (tmp_path / "run").exists()


def captions_of(experiment_file: Path, root: Path, encoder: Path, *overrides: str) -> tuple[list[str], list[int]]:
    """The captions of a dataset, and the caption index of each training example."""
    experiment = load_experiment(experiment_file, (*caption_overrides(encoder), f"data.paths.root={root}", *overrides))
    dataset = dataset_of(experiment.data)
    caption = caption_of(experiment, captions_in(experiment, dataset))
    assert caption is not None
    examples = dataset.examples("train", (caption,))
    return list(caption.texts), examples[range(len(examples))][1]["caption"].tolist()


def test_class_names_can_be_captions(experiment_file: Path, synthetic_dataset: Path, encoder: Path, cache: Path):
    texts, indices = captions_of(experiment_file, synthetic_dataset, encoder, "data.columns.caption=label")
    labels = open_split(synthetic_dataset, "train").with_format(None)["label"][:]
    names = DatasetCard.load(synthetic_dataset).columns["label"]["names"]
    assert texts == ["", "alert", "relaxed"]
    assert [texts[index] for index in indices] == [names[label] for label in labels]


def test_missing_and_empty_captions_are_null(experiment_file: Path, tmp_path: Path, encoder: Path, cache: Path):
    captions = ["a man", "", "a woman", " ", "a man"]
    write_images(tmp_path / "data" / "train", [({"caption": caption}, 0.0) for caption in captions])
    write_images(tmp_path / "data" / "validation", [({"caption": "a child"}, 0.0)] * 2)
    overrides = ("data.representation=image",)
    texts, indices = captions_of(experiment_file, tmp_path / "data", encoder, *overrides)
    assert texts == ["", "a child", "a man", "a woman"] and indices == [2, -1, 3, -1, 2]
    texts, _ = captions_of(experiment_file, tmp_path / "data", encoder, *overrides, "training.validation.enabled=false")
    assert texts == ["", "a man", "a woman"]


class NumberedExamples:
    """Examples that contain only their index."""

    def __init__(self, caption: list[int]) -> None:
        self._caption = torch.tensor(caption)

    def __len__(self) -> int:
        return len(self._caption)

    def __getitem__(self, rows: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        return torch.tensor(rows).reshape(-1, 1, 1, 1), {"caption": self._caption[rows]}


def test_previews_show_the_most_common_captions_next_to_their_real_examples():
    texts = ("", "a", "b", "c", "d", "e")
    caption = Caption("caption", texts, torch.zeros(6, 2, 3), torch.zeros(6, 3))
    groups = groups_of(NumberedExamples([5, 5, -1, -1, -1, 2, 1, 5, 4, 2, 3]), [caption], 8)  # type: ignore[arg-type]
    assert [group.title for group in groups] == ["caption: e", "caption: b", "caption: a", "caption: c"]
    assert [group.cond.attributes["caption"].tolist() for group in groups] == [[5, 5], [2, 2], [1, 1], [3, 3]]
    assert groups[0].real.flatten().tolist() == [0, 1, 7]


@pytest.mark.slow
def test_sd3_embeds_captions_with_its_own_pipelines_text_encoders(experiment_file: Path, cache: Path, tmp_path: Path):
    from diffusers import SD3Transformer2DModel

    text_encoders.stable_diffusion_3(tmp_path / "sd3")
    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=4,
        in_channels=1,
        out_channels=1,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=48,
        caption_projection_dim=16,
        pooled_projection_dim=22,
        pos_embed_max_size=16,
    )
    transformer.save_pretrained(tmp_path / "sd3" / "transformer")
    text = experiment_file.read_text()
    start, end = text.index("[model.architecture]"), text.index("[model.diffusion]")
    (tmp_path / "sd35.toml").write_text(text[:start] + text[end:])
    overrides = ("model.name=sd35", f"model.pretrained={tmp_path / 'sd3'}", "model.conditioning.type=caption")
    train(tmp_path / "sd35.toml", output_dir=tmp_path / "run", overrides=(*overrides, "training.max_steps=3"))
    woman = sampled(tmp_path / "run", tmp_path / "woman", "--caption", WOMAN)
    open_ = sampled(tmp_path / "run", tmp_path / "open")
    assert np.abs(woman["tensors"] - open_["tensors"]).max() > 1e-4
    [caption] = load_trained(tmp_path / "run").attributes
    assert isinstance(caption, Caption) and caption.tokens.shape == (1, 77 + 77, 48)


@pytest.mark.slow
def test_two_processes_share_the_caption_embeddings(
    experiment_file: Path, encoder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    overrides = (*caption_overrides(encoder), "training.max_steps=4", "training.gradient_accumulation_steps=1")
    finished = two_processes(train, experiment_file, output_dir=tmp_path / "two", overrides=overrides)
    assert finished.exit_codes == [0, 0] and "2 × cpu" in finished.output, finished.output
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.name.startswith(".")]
    assert len(list((tmp_path / "cache").rglob("*.embedding"))) == 1 + 8  # the empty caption, and the dataset's
    trained = load_trained(tmp_path / "two", captions=[WOMAN])
    assert trained.checkpoint.name == "checkpoint-4"


# Attributes -----------------------------------------------------------------------------------------------------------

COLUMNS = {
    "gender": {"kind": "categorical", "names": ["female", "male"]},
    "health": {"kind": "categorical", "names": ["healthy"]},
    "age": {"kind": "numeric", "mean": 40.0, "std": 10.0},
    "site": {"kind": "categorical", "names": ["a", "b"]},
    "dataset": {"kind": "categorical", "names": ["one"]},
}


def attributes_named(synthetic_dataset: Path, columns: dict, **table: object) -> list[str]:
    card = dataclasses.replace(DatasetCard.load(synthetic_dataset), columns=columns)
    conditioning = schema.Conditioning(type="attributes", **table)  # type: ignore[arg-type]
    attributes = attributes_of(conditioning, card, schema.Columns())
    return [attribute.name for attribute in attributes]


def test_attributes_default_to_the_usual_ones_that_vary(synthetic_dataset: Path):
    assert attributes_named(synthetic_dataset, COLUMNS) == ["gender", "age"]
    assert attributes_named(synthetic_dataset, COLUMNS, attributes=("site", "health")) == ["site", "health"]
    without_age = COLUMNS | {"age": {"kind": "numeric", "mean": 40.0, "std": 0.0}}
    assert attributes_named(synthetic_dataset, without_age) == ["gender"]
    with pytest.raises(UserError, match=r"attributes: none of gender, .* varies .* set others \(health, site\)"):
        attributes_named(synthetic_dataset, {name: COLUMNS[name] for name in ("health", "site")})
    with pytest.raises(UserError, match="cannot condition on 'electrode'"):
        attributes_named(synthetic_dataset, COLUMNS, attributes=("electrode",))


def dropped(cond: Conditioning, *, cfg: float, each: float) -> Conditioning:
    objective = Denoising(
        method=rectified_flow(),
        encoding=None,
        augmentation=Augmenting(),
        cfg_dropout=cfg,
        attribute_dropout=each,
    )
    return objective.dropped(cond, torch.Generator().manual_seed(0))


def subjects(names: tuple[str, ...] = ("gender", "age", "health")) -> Conditioning:
    values = {"gender": torch.zeros(20_000).long(), "age": torch.full((20_000,), 40.0)}
    values["health"] = torch.ones(20_000).long()
    return Conditioning({name: values[name] for name in names})


def nulls(cond: Conditioning) -> torch.Tensor:
    """Which attributes are null, (3, N), in alphabetical order."""
    return torch.stack([cond.attributes["age"].isnan(), *(cond.attributes[name] < 0 for name in ("gender", "health"))])


def test_attributes_are_dropped_separately_or_all_together():
    together = nulls(dropped(subjects(), cfg=0.2, each=0.0)).float()
    assert together.mean() == pytest.approx(0.2, abs=0.01) and (together[0] == together[1]).all()
    each = nulls(dropped(subjects(), cfg=0.0, each=0.2)).float()
    assert each.mean(1).tolist() == pytest.approx([0.2] * 3, abs=0.01)
    assert each.prod(0).mean() == pytest.approx(0.2**3, abs=0.004)
    both = nulls(dropped(subjects(), cfg=0.2, each=0.2)).float()
    assert both.mean(1).tolist() == pytest.approx([0.36] * 3, abs=0.015)
    assert both.prod(0).mean() == pytest.approx(0.2 + 0.8 * 0.2**3, abs=0.01)


def test_dropout_does_not_depend_on_the_order_of_the_attributes():
    one, other = (
        dropped(subjects(), cfg=0.2, each=0.2),
        dropped(subjects(("health", "age", "gender")), cfg=0.2, each=0.2),
    )
    assert torch.equal(nulls(one), nulls(other))


def test_with_one_attribute_dropout_uses_the_same_random_numbers_as_with_a_class(experiment_file: Path, tmp_path: Path):
    label = Conditioning({"label": torch.zeros(1000).long()})
    draws = torch.rand(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(dropped(label, cfg=0.1, each=0.0).attributes["label"] < 0, draws < 0.1)
    once = ("training.max_steps=2", "training.validation.enabled=false")
    named = ("model.conditioning.type=attributes", "model.conditioning.attributes=['label']")
    train(experiment_file, output_dir=tmp_path / "class", overrides=once)
    train(experiment_file, output_dir=tmp_path / "one", overrides=(*once, *named))
    assert largest_difference(tmp_path / "class" / "checkpoint-2", tmp_path / "one" / "checkpoint-2") == 0


def test_resume_with_attributes_is_bit_identical(experiment_file: Path, tmp_path: Path):
    overrides = ("model.conditioning.type=attributes", "training.max_steps=4", "training.validation.enabled=false")
    train(experiment_file, output_dir=tmp_path / "whole", overrides=overrides)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for step in (2, 3, 4):
        shutil.rmtree(tmp_path / "cut" / f"checkpoint-{step}")
    train(experiment_file, output_dir=tmp_path / "cut", overrides=overrides, resume="latest")
    assert largest_difference(tmp_path / "whole" / "checkpoint-4", tmp_path / "cut" / "checkpoint-4") == 0
    attributes = load_trained(tmp_path / "cut").attributes
    assert [(attribute.name, type(attribute)) for attribute in attributes] == [
        ("gender", Categorical),
        ("age", Numeric),
        ("electrode", Categorical),
    ]


def test_ages_are_normalised_with_the_statistics_in_the_weights(experiment_file: Path, tmp_path: Path):
    named = ("model.conditioning.type=attributes", "model.conditioning.attributes=['age', 'gender']")
    once = ("training.max_steps=2", "training.validation.enabled=false")
    train(experiment_file, output_dir=tmp_path, overrides=(*once, *named))
    checkpoint = tmp_path / "checkpoint-2"
    before = load_trained(checkpoint)
    card = json.loads((checkpoint / "signal_dataset.json").read_text())
    card["columns"]["age"] |= {"mean": 0.0, "std": 1.0}
    (checkpoint / "signal_dataset.json").write_text(json.dumps(card))
    unverified = pytest.MonkeyPatch()
    unverified.setattr("signal_diffusion.sampling.trained.verify", lambda checkpoint: 0)
    after = load_trained(checkpoint)
    unverified.undo()
    x, t, cond = (
        torch.randn(1, 1, 64, 64),
        torch.tensor([0.5]),
        request_values(before.attributes, {"age": "60"}, 1).cond,
    )
    assert torch.equal(before.model(x, t, cond), after.model(x, t, cond))
    assert after.attributes[0].mean == 0.0  # type: ignore[union-attr]  # the card was read, but the weights' mean is used


def write_images(folder: Path, rows: list[tuple[dict[str, object], float]]) -> None:
    """Write grey 8 × 8 images, each of one brightness in [-1, 1], and a table of their attributes."""
    folder.mkdir(parents=True)
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *rows[0][0]])
        for number, (attributes, brightness) in enumerate(rows):
            grey = np.full((8, 8), round(127.5 * (brightness + 1)), np.uint8)
            Image.fromarray(grey).save(folder / f"{number}.png")
            writer.writerow([f"{number}.png", *attributes.values()])


TOY = """
[compute]
device = "cpu"
[data]
representation = "image"
[data.paths]
root = "{root}"
[data.loading]
batch_size = 128
[model.architecture]
num_layers = 2
num_attention_heads = 2
attention_head_dim = 32
patch_size = [8, 8]
[model.diffusion]
method = "rectified_flow"
[model.conditioning]
type = "attributes"
attribute_dropout = 0.3
[training]
max_steps = 800
mixed_precision = "no"
log_interval = 200
[training.optimizer]
learning_rate = 2e-3
[training.ema]
decay = 0.99
update_every = 1
[training.scheduler]
warmup_steps = 20
[training.validation]
enabled = false
[training.visualization]
enabled = false
[generation.sampling]
steps = 25
[logging]
tensorboard = false
"""


@pytest.mark.slow
def test_one_model_samples_by_any_combination_of_gender_and_age(tmp_path: Path):
    """Brightness is ±0.3 by gender plus 0.3 · (age - 40) / 20, with ages uniform from 20 to 60."""
    rng = np.random.default_rng(0)
    genders, ages = rng.integers(0, 2, 1000), rng.uniform(20, 60, 1000)
    brightness = np.where(genders == 1, 0.3, -0.3) + 0.3 * (ages - 40) / 20
    attributes = [{"gender": ("female", "male")[g], "age": a} for g, a in zip(genders, ages, strict=True)]
    write_images(tmp_path / "data" / "train", list(zip(attributes, brightness, strict=True)))
    (tmp_path / "toy.toml").write_text(TOY.format(root=tmp_path / "data"))
    train(tmp_path / "toy.toml", output_dir=tmp_path / "run")

    trained = load_trained(tmp_path / "run")
    expected = {  # request: mean and standard deviation of the brightness
        "gender=female,age=60": (0.0, 0.0),
        "gender=male,age=20": (0.0, 0.0),
        "gender=male,age=60": (0.6, 0.0),
        "gender=female": (-0.3, 0.3 / 3**0.5),
        "gender=male": (0.3, 0.3 / 3**0.5),
        "age=60": (0.3, 0.3),
        "": (0.0, (0.3**2 + 0.3**2 / 3) ** 0.5),
    }
    for number, (request, (mean, deviation)) in enumerate(expected.items()):
        output = tmp_path / str(number)
        words = ["sample", str(tmp_path / "run"), "--num", "400", "--output", str(output)]
        words += ["--attributes", request] if request else []
        assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
        with np.load(output / "samples.npz") as samples:
            found = samples["tensors"].mean((1, 2, 3))
        assert found.mean() == pytest.approx(mean, abs=0.06), request
        assert found.std() == pytest.approx(deviation, abs=0.06), request
    assert {attribute.name for attribute in trained.attributes} == {"gender", "age"}
