from pathlib import Path

import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app, main
from signal_diffusion.cli.lists import numbers_in
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError


def run(*arguments: str):
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_prepare_writes_a_synthetic_dataset_and_prints_the_next_command(tmp_path: Path):
    output = tmp_path / "db-only"
    result = run("prepare", "--synthetic", "--output", str(output), "--num-subjects", "3", "--num-windows", "1")
    assert result.exit_code == 0
    card = DatasetCard.load(output)
    assert sum(split["examples"] for split in card.splits.values()) == 3 * 2 * 19
    assert f"config/diffusion/dit-db-only.toml --set data.paths.root={output}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "--output", "out"], "give either recordings to read or --synthetic"),
        (["prepare", "nowhere", "--output", "out"], "nowhere: no such file or folder"),
        (["prepare", "--synthetic", "--output", "out", "--representation", "db"], "unknown name 'db'"),
        (["prepare", "--synthetic"], "--output"),
        (["prepare", "--synthetic", "--output", "out", "--channels", "Fz"], "--channels has no effect"),
        (["prepare", "x.edf", "--output", "out", "--num-subjects", "3"], "--num-subjects has no effect"),
        (["prepare", "--synthetic", "--output", "out", "--window", "0"], "window: 0 samples"),
        (["prepare", "--synthetic", "--output", "out", "--seed", "-1"], "seed: -1"),
        (["prepare", "--synthetic", "--output", "out", "--rate", "nan"], "rate: nan"),
    ],
)
def test_a_mistake_exits_with_code_2_and_without_traceback(tmp_path: Path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["signal-diffusion", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


CONFIG = Path(__file__).parents[1] / "config"
SHIPPED = sorted((CONFIG / "diffusion").glob("*.toml"))
AUTOENCODER = CONFIG / "autoencoder" / "eeg-db-only.toml"


def test_config_show_prints_a_file_that_reads_back_the_same(tmp_path: Path):
    from signal_diffusion.experiment.loading import load_experiment

    result = run("config", "show", str(SHIPPED[0]), "--set", "training.max_steps=7")
    (tmp_path / "resolved.toml").write_text(result.stdout)
    assert load_experiment(tmp_path / "resolved.toml") == load_experiment(SHIPPED[0], ["training.max_steps=7"])


def test_config_commands_accept_the_folder_of_a_run(tmp_path: Path, experiment_file: Path):
    (tmp_path / "config.toml").write_bytes(experiment_file.read_bytes())
    assert run("config", "show", str(tmp_path)).stdout == run("config", "show", str(experiment_file)).stdout
    assert run("config", "check", str(tmp_path)).stdout.startswith(f"{tmp_path}: ok\n  parameters ")
    with pytest.raises(UserError, match=r"has no config.toml; expected an experiment file, a run or a checkpoint"):
        run("config", "check", str(tmp_path.parent))


def test_config_show_of_an_autoencoder_reads_back_the_same(tmp_path: Path):
    from signal_diffusion.experiment.loading import load_autoencoder_experiment

    result = run("config", "show", str(AUTOENCODER), "--set", "training.max_steps=7")
    (tmp_path / "resolved.toml").write_text(result.stdout)
    assert load_autoencoder_experiment(tmp_path / "resolved.toml") == load_autoencoder_experiment(
        AUTOENCODER, ["training.max_steps=7"]
    )


def test_config_check_reports_the_size_of_an_autoencoder(synthetic_dataset: Path):
    result = run("config", "check", str(AUTOENCODER), "--set", f"data.paths.root={synthetic_dataset}")
    assert result.stdout.startswith(f"{AUTOENCODER}: ok\n  parameters ")
    assert "  latents          1 × 64 × 64 become 16 × 8 × 8 latents, 4.0 : 1\n" in result.stdout
    assert "  compute          0.90 GFLOP per example and forward pass, about 2.69 to train on it\n" in result.stdout
    assert "  steps            28 per epoch of 228 examples, 20,000 in all\n" in result.stdout
    assert "  memory           about " in result.stdout


def test_config_check_reports_the_mistakes_of_all_files(tmp_path: Path, synthetic_dataset: Path, experiment_file: Path):
    bad = tmp_path / "bad.toml"
    bad.write_text("[data]\nsource = 'synthetic'\n[training]\nepoch = 3")
    with pytest.raises(UserError) as caught:
        run("config", "check", str(bad), str(experiment_file), str(tmp_path / "none.toml"))
    assert len(caught.value.lines) == 2
    assert "unknown key (did you mean 'epochs'?)" in caught.value.lines[0]


def test_inspection_agrees_with_the_model(synthetic_dataset: Path, experiment_file: Path):
    from signal_diffusion.experiment.inspection import inspect
    from signal_diffusion.experiment.loading import load_experiment
    from signal_diffusion.experiment.network import model_of
    from signal_diffusion.experiment.resolving import resolve

    experiment = load_experiment(experiment_file)
    found = inspect(resolve(experiment))
    model = model_of(experiment, DatasetCard.load(synthetic_dataset))
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert found.extent is not None
    extent = found.extent
    assert (found.tokens, extent.num_examples, extent.steps_per_epoch, extent.num_steps) == (16, 100, 6, 15)
    tables = sum(buffer.numel() for buffer in model.buffers())
    assert found.memory.state == 4 * (5 * found.parameters + tables)
    assert found.flops == 507_392  # two layers 229,376; patches in and out 262,144; time embedding 15,872


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--attributes", "age=60, age=61"], "age is given twice"),
        (["--attributes", "label=alert", "--label", "relaxed"], "--attributes sets label too"),
        (["--attributes", "age"], "expected name=value"),
    ],
)
def test_conflicting_conditions_are_refused(options: list[str], expected: str):
    with pytest.raises(UserError, match=expected):
        run("sample", "runs/none", *options)


def test_version_prints_the_packages_that_results_depend_on() -> None:
    shown = CliRunner().invoke(app, ["--version"])
    assert shown.exit_code == 0
    assert [line.split()[0] for line in shown.stdout.splitlines()] == [
        "signal-diffusion",
        "torch",
        "accelerate",
        "diffusers",
        "mne",
    ]


def test_lists_of_numbers_have_each_once_and_only_what_is_accepted() -> None:
    assert numbers_in("--scale", "1, 2.5,1", "numbers") == [1.0, 2.5]
    for text in ("", "1,,2", "1,two", "-1,2"):
        with pytest.raises(UserError, match=f"^--scale {text}: expected numbers of at least 0$"):
            numbers_in("--scale", text, "numbers of at least 0", lambda number: number >= 0)
