"""Checkpoints whose files contradict each other or the model: named in one line, whatever they contain."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from signal_diffusion import checkpoints
from signal_diffusion.config import schema
from signal_diffusion.errors import UserError
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.ema import Ema
from signal_diffusion.training.optimizers import build_optimizer
from signal_diffusion.training.state import Progress, resume_optimizer, writers

Damage = Callable[[dict[str, Any]], object]


def set_moment(name: str, value: object) -> Damage:
    return lambda saved: saved["state"][0].__setitem__(name, value)


WRONG_STATES: dict[str, tuple[Damage, str]] = {
    "shorter": (set_moment("exp_avg", torch.zeros(3)), r"exp_avg has shape \(3,\), expected \(4, 3\)"),
    "transposed": (set_moment("exp_avg_sq", torch.zeros(3, 4)), r"exp_avg_sq has shape \(3, 4\), expected \(4, 3\)"),
    "without values": (set_moment("exp_avg", torch.zeros(0)), r"exp_avg has shape \(0,\)"),
    "without memory": (set_moment("exp_avg", torch.empty(4, 3, device="meta")), "meta"),
    "of another precision": (
        set_moment("exp_avg", torch.zeros(4, 2, dtype=torch.int64)),
        r"exp_avg has shape \(4, 2\)",
    ),
    "text": (set_moment("exp_avg", "x"), ""),
    "a step for each value": (set_moment("step", torch.zeros(4)), r"step has shape \(4,\), expected \(\)"),
    "a step as text": (set_moment("step", "x"), ""),
    "lacking a moment": (lambda saved: saved["state"][0].pop("exp_avg_sq"), "has exp_avg, step, expected exp_avg, "),
    "a moment more": (set_moment("max_exp_avg_sq", torch.zeros(4, 3)), "has exp_avg, exp_avg_sq, max_exp_avg_sq, step"),
    "a list for a parameter": (lambda saved: saved["state"].__setitem__(0, [1]), "list"),
    "a list for the states": (lambda saved: saved.__setitem__("state", [1]), "list"),
    "without groups": (lambda saved: saved.pop("param_groups"), "param_groups"),
    "fewer groups": (lambda saved: saved["param_groups"].pop(), "parameter groups"),
    "groups of numbers": (lambda saved: saved.__setitem__("param_groups", [1, 2]), "int"),
}


def stepped(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A linear layer after one step of AdamW."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 4)
    optimizer = build_optimizer(model, schema.Optimizer())
    model(torch.randn(2, 3)).square().sum().backward()
    optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("name", WRONG_STATES)
def test_an_optimizer_state_that_does_not_fit_is_refused(name: str, tmp_path: Path) -> None:
    damage, reason = WRONG_STATES[name]
    saved = stepped()[1].state_dict()
    damage(saved)
    torch.save(saved, tmp_path / "optimizer.pt")
    with pytest.raises(UserError, match=f"optimizer.pt: is the state of another model: .*{reason}") as caught:
        resume_optimizer(stepped()[1], "adamw", tmp_path, "adamw")
    assert len(caught.value.lines) == 1 and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [[1, 2], {}, "text", None])
def test_an_optimizer_state_of_another_type_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "optimizer.pt")
    with pytest.raises(UserError, match=r"optimizer.pt: is the state of another model"):
        resume_optimizer(stepped()[1], "adamw", tmp_path, "adamw")


def test_moments_that_repeat_in_memory_are_copied(tmp_path: Path) -> None:
    """torch's fused step reads and writes them as if each value had memory of its own."""
    saved = stepped()[1].state_dict()
    saved["state"][0]["exp_avg"] = torch.ones(1, 1).expand(4, 3)
    torch.save(saved, tmp_path / "optimizer.pt")
    model, optimizer = stepped()
    resume_optimizer(optimizer, "adamw", tmp_path, "adamw")
    weight = next(model.parameters())
    assert optimizer.state[weight]["exp_avg"].stride() == weight.stride()
    assert torch.equal(optimizer.state[weight]["exp_avg"], torch.ones(4, 3))


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_what_was_saved_is_restored_to_the_bit(kind: Any, tmp_path: Path) -> None:
    def build() -> tuple[nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Linear(3, 4)
        return model, build_optimizer(model, schema.Optimizer(type=kind))

    model, optimizer = build()
    model(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    _, resumed = build()
    resume_optimizer(resumed, kind, tmp_path, kind)
    then, now = optimizer.state_dict()["state"], resumed.state_dict()["state"]
    assert then.keys() == now.keys() and all(then[key].keys() == now[key].keys() for key in then)
    assert all(torch.equal(then[key][name], now[key][name]) for key in then for name in then[key])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1]", "should be an object"),
        ('{"step": "x", "losses": 5}', "step: should be a valid integer, found 'x'"),
        ('{"step": -5}', "step: should be greater than or equal to 0"),
        ('{"step": 1e999}', "step: should be a valid integer"),
        ('{"losses": [[1, 2, 3]]}', "losses.0"),
        ('{"losses": [[1, "2"]]}', "losses.0.1: should be a valid number"),
        ('{"plateau": [1]}', "plateau"),
        ("[" * 100_000, "recursion limit exceeded"),
        ('{"step":', "Invalid JSON"),
    ],
)
def test_damaged_progress_is_one_line(text: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text(text)
    with pytest.raises(UserError, match=f"progress.json: cannot be read .*{reason}.*; use another checkpoint"):
        Progress.of(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"\xff" * 7 + b"\x7f{}"),
        ("model.safetensors", b"junkjunkjunk"),
        ("ema.safetensors", b"\xff" * 7 + b"\x7f{}"),
        ("ema.safetensors", b"junkjunkjunk"),
        ("ema.safetensors", b"\x08\0\0\0\0\0\0\0{}      "),  # whole, without a tensor
    ],
)
def test_damaged_weights_are_one_line(name: str, content: bytes, tmp_path: Path) -> None:
    model = nn.Linear(3, 4)
    for weights in ("model.safetensors", "ema.safetensors"):
        save_file(model.state_dict(), tmp_path / weights)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}: (cannot be read .*header|lacks the average of bias)") as caught:
        checkpoints.load_weights(model, tmp_path, use_ema=True)
    assert len(caught.value.lines) == 1


def test_averages_of_another_shape_are_refused() -> None:
    ema = Ema(nn.Linear(3, 4), schema.Ema())
    with pytest.raises(KeyError, match="bias"):
        ema.load_state_dict({"weight": torch.zeros(4, 3), "bias": torch.zeros(1)}, 0)


@pytest.fixture(scope="module")
def run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(experiment_file, output_dir=folder, overrides=("training.max_steps=2", "training.validation.enabled=false"))
    return folder


def test_a_moment_shorter_than_its_parameter_ends_a_resume_before_its_first_step(
    run: Path, experiment_file: Path, tmp_path: Path
) -> None:
    """It crashed the process: the optimizer wrote beyond the moment."""
    shutil.copytree(run, tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoint-2"
    saved = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    saved["state"][0]["exp_avg"] = torch.zeros(3)
    torch.save(saved, checkpoint / "optimizer.pt")
    checkpoints.write_manifest(checkpoint, 2, json.loads((checkpoint / "manifest.json").read_text())["files"])
    with pytest.raises(UserError, match=r"optimizer.pt: is the state of another model: exp_avg has shape \(3,\)"):
        train(experiment_file, output_dir=tmp_path / "run", resume="latest", overrides=("training.max_steps=4",))


MANIFESTS = {
    "a list": "[1]",
    "nested": "[" * 200_000,
    "an infinite step": '{"format": 1, "step": 1e999, "files": {"a": {"size": 1, "sha256": ""}}}',
    "a negative step": '{"format": 1, "step": -1, "files": {"a": {"size": 1, "sha256": ""}}}',
    "a step of 5 000 digits": '{"format": 1, "step": ' + "9" * 5000 + "}",
    "no files": '{"format": 1, "step": 2, "files": {}}',
    "files as numbers": '{"format": 1, "step": 2, "files": {"model.safetensors": 1}}',
    "not text": "\udcff",
}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with two checkpoints of a linear layer."""
    for step in (1, 2):
        checkpoints.write_checkpoint(tmp_path, step, writers(nn.Linear(3, 4), None, None, Progress(step=step), {}))
    return tmp_path


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_damaged_manifest_is_named_and_passed_over(name: str, two: Path) -> None:
    manifest = two / "checkpoint-2" / "manifest.json"
    manifest.write_text(MANIFESTS[name], errors="surrogateescape")
    warnings: list[str] = []
    assert checkpoints.find_checkpoint(two, "latest", warnings.append) == two / "checkpoint-1"
    [line] = warnings
    assert line.startswith(f"{manifest}: cannot be read (") and line.endswith("; trying an earlier one")
    checkpoints.prune(two, 1, newest=9, keep=set())  # nobody knows what it is, so it stays
    assert (two / "checkpoint-2").is_dir()


@pytest.mark.parametrize("name", ["../checkpoint-1/model.safetensors", "/dev/zero", "/etc/passwd", "..", ""])
def test_a_manifest_lists_no_file_outside_of_its_folder(name: str, two: Path) -> None:
    manifest = two / "checkpoint-2" / "manifest.json"
    contents = json.loads(manifest.read_text())
    contents["files"][name] = {"size": 1, "sha256": ""}
    manifest.write_text(json.dumps(contents))
    with pytest.raises(UserError, match=f"manifest.json: lists '{name}', which is outside of the checkpoint"):
        checkpoints.verify(manifest.parent)


def test_a_file_of_endless_size_is_not_hashed(two: Path) -> None:
    path = two / "checkpoint-2" / "model.safetensors"
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"model.safetensors: missing from the checkpoint"):
        checkpoints.verify(path.parent)
    path.unlink()
    with path.open("wb") as file:
        file.truncate(2**40)  # takes no space
    with pytest.raises(UserError, match=r"model.safetensors: truncated or changed"):
        checkpoints.verify(path.parent)


def test_a_link_to_a_checkpoint_of_another_run_is_left_alone(
    two: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    checkpoints.write_checkpoint(other, 50, writers(nn.Linear(3, 4), None, None, Progress(step=50), {}))
    (two / "checkpoint-50").symlink_to(other / "checkpoint-50")
    warnings: list[str] = []
    assert checkpoints.find_checkpoint(two, "latest", warnings.append) == two / "checkpoint-2"
    assert warnings == [f"{two / 'checkpoint-50'}: is a link, so it is left alone"]
    checkpoints.prune(two, 1, newest=2, keep=set())
    assert (two / "checkpoint-50" / "manifest.json").is_file()
    assert checkpoints.find_checkpoint(two, "checkpoint-50", warnings.append)  # by its name it is taken


def test_of_unfinished_folders_only_ours_are_removed(two: Path) -> None:
    ours = [".unfinished-checkpoint-3", ".unfinished-checkpoint-retired-1"]
    users = [".unfinished-checkpoint-mine", ".unfinished-checkpoint-3-old", ".unfinished-thesis"]
    for name in (*ours, *users):
        (two / name).mkdir()
    checkpoints.remove_unfinished(two)
    assert sorted(path.name for path in two.glob(".*")) == sorted(users)
