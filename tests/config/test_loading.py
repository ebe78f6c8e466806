"""Reading experiment files and overrides, and the errors for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from signal_diffusion.config.writing import to_toml
from signal_diffusion.diffusion.methods import method_of
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment

SHIPPED = sorted((Path(__file__).parents[2] / "config" / "diffusion").glob("*.toml"))


def lines_of(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    path = tmp_path / "experiment.toml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_experiment(path, overrides)
    return [line.removeprefix(f"{path}: ") for line in caught.value.lines]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    experiment = load_experiment(path)
    resolved = tmp_path / "config.toml"
    resolved.write_text(to_toml(experiment))
    assert load_experiment(resolved) == experiment


def test_all_mistakes_are_reported_at_once_with_table_key_and_expectation(tmp_path: Path) -> None:
    lines = lines_of(
        tmp_path,
        """
        [data]
        source = "synthetic"
        [training]
        epochs = "many"
        [training.optimizer]
        learnin_rate = 1e-3
        betas = [0.9, 2.0]
        [model.diffusion]
        beta_schedule = "cosin"
        """,
    )
    assert set(lines) == {
        "[training] epochs: expected a valid integer, found 'many'",
        "[training.optimizer] learnin_rate: unknown key (did you mean 'learning_rate'?)",
        "[training.optimizer] betas[1]: expected a number less than 1, found 2.0",
        "[model.diffusion] beta_schedule: expected 'linear', 'cosine', 'quadratic' or 'sigmoid', found 'cosin' "
        "(did you mean 'cosine'?)",
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[trainng]\nepochs = 3", "trainng: unknown key (did you mean 'training'?)"),
        ("[training]\nweight_decay = 1e-3", "(did you mean training.optimizer.weight_decay?)"),
        ("[model.architecture]\nnum_layer = 3", "num_layer: unknown key (did you mean 'num_layers'?)"),
        ("[model]\nname = 'dti'", "expected one of 'dit'"),
        ("[data]\nrepresentation = 'db-onli'", "(did you mean 'db-only'?)"),
        ("[generation.sampling]\nsampler = 'eulr'", "(did you mean 'euler'?)"),
        ("[compute]\nseed = true", "seed: expected a valid integer, found True"),
        ("[data.augmentation]\nmirror = 1", "[data.augmentation] mirror: expected true or false, found 1"),
        ("[training.ema]\nenabled = 'yes'", "[training.ema] enabled: expected true or false, found 'yes'"),
        ("[training]\nmax_steps = 0", "expected a number greater than or equal to 1, found 0"),
        ("[training.optimizer]\nlearning_rate = 0.0", "expected a number greater than 0, found 0.0"),
        ("[training.ema]\ndecay = 1.0", "expected a number less than 1, found 1.0"),
        ("data = 3", "data: expected a table, found 3"),
        ("lr = 1e-3", "lr: unknown key (did you mean training.optimizer.learning_rate?)"),
        ("[training]\nlr = 1e-3", "[training] lr: unknown key (did you mean training.optimizer.learning_rate?)"),
        ("[training.optimizer]\nlr = 1e-3", "[training.optimizer] lr: unknown key (did you mean 'learning_rate'?)"),
        ("[optimizer]\nlr = 1e-3", "[optimizer] lr: unknown key (did you mean 'learning_rate'?)"),
        ("[training]\nbs = 3", "(did you mean data.loading.batch_size?)"),
        ("[training.foo]\nx = 3", "[training] foo: unknown key"),
        ("[training]\nepochs = 1\nepochs = 2", "not valid TOML"),
    ],
)
def test_one_mistake_gives_one_line(tmp_path: Path, text: str, expected: str) -> None:
    [line] = [line for line in lines_of(tmp_path, text) if "data.paths" not in line]
    assert expected in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.paths.root=data/x"], "is not read with data.source = 'synthetic'"),
        (["data.source=dataset"], "expected the folder of a dataset"),
        (["data.paths.val=train"], "is also the training split"),
        (["data.paths.train=validation", "data.paths.val=val"], "is also the training split"),
        (
            ["model.conditioning.type=attributes", "model.conditioning.attributes=['age', 'age']"],
            "expected each name once",
        ),
        (["model.diffusion.logit_std=2.0"], "has no effect with model.diffusion.method = 'ddpm'"),
        (["model.diffusion.beta_end=0.1"], "has no effect with model.diffusion.beta_schedule = 'cosine'"),
        (["model.conditioning.cfg_dropout=0.2"], "has no effect with model.conditioning.type = 'none'"),
        (["training.scheduler.gamma=0.5"], "has no effect with training.scheduler.type = 'cosine'"),
        (["generation.sampling.guidance_scale=2.0"], "needs a condition"),
        (
            [
                "model.conditioning.type=class",
                "model.conditioning.cfg_dropout=0",
                "training.visualization.guidance_scale=3",
            ],
            "needs a trained null condition",
        ),
        (
            ["model.conditioning.type=caption"],
            "[model.conditioning] text_encoder: expected the folder or Hub id of a text encoder, since",
        ),
        (
            ["model.conditioning.type=caption", "model.pretrained=."],
            "model.pretrained = '.' is not a diffusers pipeline, which would contain one",
        ),
        (["compute.device=cpu", "training.mixed_precision=fp16"], "'fp16' needs CUDA"),
        (["compute.device=mps", "training.mixed_precision=fp16"], "'fp16' needs CUDA"),
        (
            ["training.scheduler.type=plateau", "training.validation.enabled=false"],
            "needs the validation loss",
        ),
        (
            ["model.diffusion.beta_schedule=linear", "model.diffusion.num_timesteps=200"],
            "of the data at the last step",
        ),
        (["training.max_steps"], "expected table.key=value"),
        (["generation.sampling.steps=2000"], "2000 sampling steps"),
    ],
)
def test_conflicting_settings_are_refused(tmp_path: Path, overrides: list[str], expected: str) -> None:
    [line] = lines_of(tmp_path, "[data]\nsource = 'synthetic'", *overrides)
    assert expected in line


def test_zero_terminal_snr_fixes_a_schedule_that_ends_too_early(tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text("[data]\nsource = 'synthetic'\n[model.diffusion]\nbeta_schedule = 'linear'\nnum_timesteps = 200")
    overrides = ["model.diffusion.zero_terminal_snr=true", "model.diffusion.prediction=v"]
    assert method_of(load_experiment(path, overrides).model.diffusion).schedule.terminal_alpha == 0


def test_overrides_replace_values_and_are_typed_like_the_file(tmp_path: Path) -> None:
    path = tmp_path / "experiment.toml"
    path.write_text("[data]\nsource = 'synthetic'\n[training]\nepochs = 3")
    experiment = load_experiment(
        path,
        [
            "training.epochs=7",
            "training.optimizer.betas=[0.8, 0.9]",
            "compute.device=cpu",
            "model.pretrained=a b",
        ],
    )
    assert experiment.training.epochs == 7
    assert experiment.training.optimizer.betas == (0.8, 0.9)
    assert (experiment.compute.device, experiment.model.pretrained) == ("cpu", "a b")


def test_a_mistake_in_an_override_is_reported_for_set(tmp_path: Path) -> None:
    [line] = lines_of(tmp_path, "[data]\nsource = 'synthetic'", "training.epochs=x")
    assert line == "--set: [training] epochs: expected a valid integer, found 'x'"


def test_no_conflict_is_derived_from_the_default_of_an_invalid_key(tmp_path: Path) -> None:
    overrides = ["model.conditioning.type=clas", "model.conditioning.cfg_dropout=0.2"]
    [line] = lines_of(tmp_path, "[data]\nsource = 'synthetic'", *overrides)
    assert "found 'clas' (did you mean 'class'?)" in line


def test_a_mistake_does_not_hide_those_found_by_later_checks(tmp_path: Path) -> None:
    lines = lines_of(
        tmp_path,
        """
        [data]
        source = "synthetic"
        [data.paths]
        root = "data/x"
        [training]
        max_stepz = 3
        [model.conditioning]
        cfg_dropout = 0.3
        """,
    )
    assert [line.partition(":")[0] for line in lines] == [
        "[training] max_stepz",
        "[model.conditioning] cfg_dropout",
        "[data.paths] root",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[model.diffusion]\nmethod = 2020-01-01",
        "[generation.sampling]\nsampler = 2020-01-01",
        "[model.architecture]\nmlp_ratio = inf",
        "x = " + "[" * 5000,
        "x = " + "1" * 5000,
        "[[training]]\nepochs = 3",
        "\0",
    ],
    ids=lambda text: text[:30],
)
def test_odd_files_are_user_errors(tmp_path: Path, text: str) -> None:
    assert all("\n" not in line for line in lines_of(tmp_path, text))


def test_an_override_cannot_set_two_keys(tmp_path: Path) -> None:
    [line] = lines_of(tmp_path, "[data]\nsource = 'synthetic'", "training.max_steps=5\nfoo=1")
    assert "expected a valid integer" in line


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the experiment file"):
        load_experiment(tmp_path / "none.toml")


BOTH = "[data]\nsource = 'synthetic'\n[training]\nepochs = 50\nmax_steps = 7"
ONE = "[data]\nsource = 'synthetic'\n[training]\nmax_steps = 7"
EPOCHS = "[training] epochs: {} has no effect, because max_steps = {} decides; remove one of them"


@pytest.mark.parametrize(
    ("name", "text", "overrides", "expected"),
    [
        ("mine.toml", BOTH, (), "{path}: " + EPOCHS.format(50, 7)),
        ("mine.toml", ONE, ("training.epochs=3",), "--set: " + EPOCHS.format(3, 7)),
        ("mine.toml", ONE, ("training.epochs=3", "training.max_steps=8"), "--set: " + EPOCHS.format(3, 8)),
        ("mine.toml", BOTH, ("training.max_steps=8",), ""),  # a trial of the file
        ("mine.toml", ONE, (), ""),
        ("config.toml", BOTH, (), ""),  # of a run, which has all keys
    ],
)
def test_epochs_next_to_max_steps_are_reported(
    name: str, text: str, overrides: tuple[str, ...], expected: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_text(text)
    load_experiment(tmp_path / name, overrides)
    assert caplog.messages == ([expected.format(path=tmp_path / name)] if expected else [])
