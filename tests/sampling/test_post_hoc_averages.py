"""Averages made after training: equal to directly tracked ones, chosen by what the run measures, and usable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from signal_diffusion import checkpoints
from signal_diffusion.cli import app
from signal_diffusion.errors import UserError
from signal_diffusion.sampling.average_choice import measured
from signal_diffusion.sampling.export import export
from signal_diffusion.sampling.post_hoc_ema import averages_at, snapshots_of, write_average
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train
from signal_diffusion.training.post_hoc_ema import SIGMA_RELS, PowerAverages
from signal_diffusion.training.snapshots import Snapshot
from tests.latent_spaces import small_vae
from tests.training.runs import metrics_of

OVERRIDES = (
    "training.ema.post_hoc=true",
    "training.max_steps=8",
    "training.checkpointing.total_limit=1",
    "training.validation.interval=8",
    "training.validation.num_generated=5",
)


@pytest.fixture(scope="module")
def shared_run(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 8 steps with a snapshot of each, of which the last checkpoint is left."""
    folder = tmp_path_factory.mktemp("runs") / "post-hoc"
    train(experiment_file, output_dir=folder, overrides=OVERRIDES)
    return folder


@pytest.fixture
def run(shared_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shared_run, tmp_path / "run"))


def ema(*arguments: object) -> str:
    """Run the command; returns what it prints."""
    result = CliRunner().invoke(app, ["ema", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def norm(values: dict[str, torch.Tensor]) -> float:
    return float(sum(value.double().square().sum() for value in values.values())) ** 0.5


def trained_with_snapshots(folder: Path, directly: tuple[float, ...]) -> tuple[Path, dict[str, torch.Tensor]]:
    """Train a denoiser of 2-D points for 400 steps, with a snapshot every 20; its checkpoint, and other averages."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 2))
    averages, beside = PowerAverages(model), PowerAverages(model, directly)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for step in range(1, 401):
        angle, t, noise = torch.rand(64) * 6.28, torch.rand(64, 1), torch.randn(64, 2)
        x0 = torch.stack([angle.cos(), angle.sin()], 1)
        loss = (model(torch.cat([(1 - t) * x0 + t * noise, t], 1)) - (noise - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        averages.update()
        beside.update()
        if step % 20 == 0:
            snapshot = Snapshot.of(averages.state_dict(), step=step, num_updates=averages.num_updates)
            assert snapshot
            snapshot.write(folder)
    checkpoint = folder / "checkpoint-400"
    checkpoint.mkdir()
    save_file(dict(model.named_parameters()), checkpoint / "ema.safetensors")
    return checkpoint, beside.state_dict()


def test_an_average_made_afterwards_equals_the_one_that_was_tracked_to_a_thousandth(tmp_path: Path) -> None:
    wanted = (0.07, 0.15, 0.2)
    checkpoint, tracked = trained_with_snapshots(tmp_path, (*SIGMA_RELS, *wanted))
    snapshots = checkpoints.list_snapshots(tmp_path)
    for average in averages_at(checkpoint, wanted, snapshots):

        def distance(sigma_rel: float, made: dict[str, torch.Tensor]) -> float:
            return norm({name: tracked[f"{sigma_rel:g}/{name}"] - value for name, value in made.items()}) / norm(made)

        made = dict(average.weights)
        assert len(snapshots) == 20 and average.made.snapshots == 20
        assert distance(average.made.sigma_rel, made) < 1e-3
        assert min(distance(each, made) for each in SIGMA_RELS) > 3e-3  # the snapshots' own averages are not


def test_a_tracked_sigma_rel_is_that_of_the_checkpoint(run: Path) -> None:
    [average] = averages_at(run / "checkpoint-8", [0.1], snapshots_of(run / "checkpoint-8"))
    state = load_file(run / "checkpoint-8" / "post_hoc_ema.safetensors")
    error = {name: state[f"0.1/{name}"] - value for name, value in average.weights.items()}
    assert norm(error) < 3e-4 * norm(dict(average.weights))  # fp16


def test_the_command_writes_each_average_as_a_checkpoint(run: Path) -> None:
    output = ema(run, "--sigma-rel", "0.05,0.15")
    assert "8 EMA snapshots, steps 1 to 8" in output and "σ_rel 0.15" in output
    for name in ("ema-0.05-step-8", "ema-0.15-step-8"):
        assert checkpoints.verify(run / name) == 8
        trained, last = load_trained(run / name), load_trained(run / name, ["generation.sampling.use_ema=false"])
        expected = load_file(run / name / "ema.safetensors")
        assert trained.averaged and trained.run == run
        assert all(torch.equal(trained.model.state_dict()[key], value) for key, value in expected.items())
        own = load_trained(run, ["generation.sampling.use_ema=false"]).model.state_dict()
        assert all(torch.equal(value, own[key]) for key, value in last.model.state_dict().items())
    assert load_trained(run).checkpoint.name == "checkpoint-8"


def test_the_command_is_deterministic_and_replaces_its_own_output(run: Path) -> None:
    ema(run, "--sigma-rel", "0.12")
    before = (run / "ema-0.12-step-8" / "ema.safetensors").read_bytes()
    ema(run / "checkpoint-8", "--sigma-rel", "0.12")
    assert (run / "ema-0.12-step-8" / "ema.safetensors").read_bytes() == before


def test_training_goes_on_beside_averages(run: Path, experiment_file: Path) -> None:
    ema(run, "--sigma-rel", "0.12")
    train(experiment_file, output_dir=run, resume="latest", overrides=(*OVERRIDES, "training.max_steps=9"))
    assert (run / "ema-0.12-step-8" / "manifest.json").is_file()
    assert [each.name for each in checkpoints.list_checkpoints(run)] == ["checkpoint-8", "checkpoint-9"]  # 8: the best


@pytest.mark.parametrize(
    ("by", "metric"), [("loss", "validation/ema_loss"), ("spectral", "validation/spectral_distance")]
)
def test_choosing_measures_what_the_run_measures(run: Path, by: str, metric: str) -> None:
    [average] = averages_at(run / "checkpoint-8", [0.15], snapshots_of(run / "checkpoint-8"))
    of_training, [value] = measured(run / "checkpoint-8", [average.weights], by)
    assert of_training == pytest.approx(metrics_of(run)[-1][metric], rel=1e-5)
    assert value != pytest.approx(of_training, rel=1e-5)


def test_only_the_chosen_average_is_written_with_its_loss(run: Path) -> None:
    output = ema(run, "--sigma-rel", "0.02,0.2,0.288", "--choose", "loss")
    [folder] = run.glob("ema-*-step-8")
    [row] = [line for line in output.splitlines() if "← chosen" in line]
    made = json.loads((folder / "average.json").read_text())
    assert f"σ_rel {made['sigma_rel']:g} " in row and f"{made['validation_loss']:.5f}" in row
    again = measured(run / "checkpoint-8", [load_file(folder / "ema.safetensors")], "loss")[1]
    assert again == [made["validation_loss"]]


def test_the_model_card_of_an_export_says_which_average_it_is(run: Path, tmp_path: Path) -> None:
    checkpoint = run / "checkpoint-8"
    [average] = averages_at(checkpoint, [0.15], snapshots_of(checkpoint))
    folder = export(load_trained(write_average(checkpoint, average)), tmp_path / "exported")
    weights, card = load_file(folder / "model.safetensors"), (folder / "README.md").read_text()
    assert all(torch.equal(weights[name], value) for name, value in average.weights.items())
    assert "σ_rel 0.15 (post-hoc EMA), made of 8 snapshots" in card and "decay" not in card
    assert "with the last weights" in card and "with the averaged weights" not in card  # which were not measured


def test_snapshots_that_began_at_another_step_are_left_out(run: Path) -> None:
    source = checkpoints.list_snapshots(run)[3].path
    shutil.copy(source, source.with_name("step-4-since-2.safetensors"))
    source.unlink()
    assert [each.step for each in snapshots_of(run / "checkpoint-8")] == [1, 2, 3, 5, 6, 7, 8]


def without_state(run: Path) -> None:
    progress = json.loads((run / "checkpoint-8" / "progress.json").read_text()) | {"post_hoc_updates": 0}
    (run / "checkpoint-8" / "progress.json").write_text(json.dumps(progress))
    checkpoints.write_manifest(run / "checkpoint-8", 8, checkpoints.digests(run / "checkpoint-8"))


def newest_snapshot(run: Path) -> Path:
    return checkpoints.list_snapshots(run)[-1].path


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (lambda run: None, ["--sigma-rel", "0.3"], "--sigma-rel 0.3: expected numbers above 0 and up to 0.289"),
        (lambda run: None, ["--sigma-rel", "0.1,0"], "--sigma-rel 0: expected numbers above 0"),
        (lambda run: None, ["--sigma-rel", "nan"], "--sigma-rel nan: expected numbers above 0"),
        (lambda run: None, ["--sigma-rel", "short"], "--sigma-rel short: expected numbers, such as"),
        (without_state, ["--sigma-rel", "0.1"], "has no averages for post-hoc EMA .*training.ema.post_hoc = true"),
        (lambda run: newest_snapshot(run).unlink(), ["--sigma-rel", "0.1"], "its EMA snapshot is missing .*1 to 7"),
        (lambda run: newest_snapshot(run).write_bytes(b"x"), ["--sigma-rel", "0.1"], "step-8.*cannot be read"),
        (
            lambda run: save_file({"0.05/weight": torch.ones(1)}, newest_snapshot(run)),
            ["--sigma-rel", "0.1"],
            "step-8.*has other weights than the checkpoint",
        ),
        (lambda run: (run / "ema-0.1-step-8").mkdir(), ["--sigma-rel", "0.1"], "exists, and is not an average"),
        (
            lambda run: None,
            ["--sigma-rel", "0.1", "--choose", "loss", "--set", "data.paths.root=/nowhere"],
            "/nowhere does not exist; --choose needs the run's validation split",
        ),
    ],
)
def test_an_error_is_one_line(run: Path, prepare: object, arguments: list[str], message: str) -> None:
    assert callable(prepare)
    prepare(run)
    with pytest.raises(UserError, match=message) as caught:
        ema(run, *arguments)
    assert len(caught.value.lines) == 1 and caught.value.exit_code == 2
    assert not [each for each in run.glob("ema-*-step-*") if (each / "ema.safetensors").exists()]


def test_an_average_is_no_run_to_average_or_to_resume(run: Path, experiment_file: Path) -> None:
    ema(run, "--sigma-rel", "0.1")
    with pytest.raises(UserError, match="an average that `ema` made, without the state of training; use another"):
        train(experiment_file, output_dir=run, resume=str(run / "ema-0.1-step-8"), overrides=OVERRIDES)
    with pytest.raises(UserError, match="an average that `ema` made; give the folder of the run"):
        ema(run / "ema-0.1-step-8", "--sigma-rel", "0.2")


def test_a_lora_run_averages_and_measures_what_it_trains(
    shared_run: Path, experiment_file: Path, tmp_path: Path
) -> None:
    lora = ("model.lora.enabled=true", "model.lora.rank=2", f"model.pretrained={shared_run / 'checkpoint-8'}")
    train(experiment_file, output_dir=tmp_path, overrides=(*OVERRIDES, *lora))
    ema(tmp_path, "--sigma-rel", "0.15", "--choose", "loss")
    checkpoint, folder = tmp_path / "checkpoint-8", tmp_path / "ema-0.15-step-8"
    trained = load_file(checkpoint / "model.safetensors").keys()
    assert load_file(folder / "ema.safetensors").keys() == trained and any("lora_B" in name for name in trained)
    of_training, _ = measured(checkpoint, [], "loss")
    assert of_training == pytest.approx(metrics_of(tmp_path)[-1]["validation/ema_loss"], rel=1e-5)
    assert load_trained(folder).averaged


@pytest.mark.parametrize("cached", ["true", "false"])
def test_a_latent_run_is_chosen_by_its_own_loss(cached: str, experiment_file: Path, tmp_path: Path) -> None:
    small_vae(0).save_pretrained(tmp_path / "vae")
    latent = ("model.autoencoder.enabled=true", f"model.autoencoder.path={tmp_path / 'vae'}")
    more = (f"model.autoencoder.cache_latents={cached}", "model.architecture.patch_size=[4, 4]")
    run = tmp_path / "run"
    quick = ("training.max_steps=4", "training.validation.num_generated=0")
    train(experiment_file, output_dir=run, overrides=(*OVERRIDES, *latent, *more, *quick))
    of_training, _ = measured(run / "checkpoint-4", [], "loss")
    assert of_training == pytest.approx(metrics_of(run)[-1]["validation/ema_loss"], rel=1e-4)
