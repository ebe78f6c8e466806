"""Each command loads only the libraries that it uses, so that it answers soon.

A command that may load torch runs in a fork of one process that has imported torch alone, any other in a process of
its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LIBRARIES = (
    *("torch", "accelerate", "datasets", "diffusers", "transformers", "peft", "mne", "matplotlib", "pandas", "sklearn"),
    *("mamba_ssm", "natten", "numba", "torchvision", "wandb", "tensorboard"),
)
RUN = f"""
import contextlib, importlib, io, json, os, sys

def run(module, *arguments):
    code, sys.argv = 0, ["command", *arguments]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            importlib.import_module(module).main()
        except SystemExit as error:
            code = error.code
    print(json.dumps([code, [name for name in {LIBRARIES!r} if name in sys.modules]]), flush=True)
"""
FRESH = f"{RUN}\nrun(*sys.argv[1:])"
FORKS = f"""
{RUN}
import torch
for line in sys.stdin:
    if os.fork() == 0:
        run(*json.loads(line))
        os._exit(0)
    os.wait()
"""
COMMAND, TRAINING = "signal_diffusion.cli", "signal_diffusion.training.diffusion"
NOT_A_KEY = ["--set", "training.max_stps=3"]
SLOW = pytest.mark.slow

Run = Callable[..., list[object]]
"""Run a module's `main` with arguments: the exit code, and which of the libraries are loaded then."""


def fresh(module: str, *arguments: str) -> list[object]:
    command = [sys.executable, "-c", FRESH, module, *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout)


@pytest.fixture(scope="module")
def after_torch() -> Iterator[Run]:
    with subprocess.Popen(
        [sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as it:
        assert it.stdin and it.stdout

        def run(*words: str) -> list[object]:
            print(json.dumps(words), file=it.stdin, flush=True)
            return json.loads(it.stdout.readline())

        yield run


def words_of(value: object) -> str:
    return " ".join(value) if isinstance(value, list) else str(value)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["prepare", "--help"], 0),
        (["config", "check", "EXPERIMENT", *NOT_A_KEY], 2),
        pytest.param(["export", "--help"], 0, marks=SLOW),
        pytest.param(["export-bids", "--help"], 0, marks=SLOW),
        pytest.param(["benchmark", "--help"], 0, marks=SLOW),
        pytest.param(["evaluate", "utility", "--help"], 0, marks=SLOW),
    ],
    ids=words_of,
)
def test_a_command_loads_no_library(arguments: list[str], code: int, experiment_file: Path) -> None:
    words = [str(experiment_file) if word == "EXPERIMENT" else word for word in arguments]
    assert fresh(COMMAND, *words) == [code, []]


def test_a_file_of_todays_layout_loads_nothing_for_older_ones(experiment_file: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from signal_diffusion.config.loading import check_keys; "
        "check_keys(Path(sys.argv[1]), ['training.epochs=3', 'model.architecture.num_layers=2']); "
        "print([name for name in ('signal_diffusion.config.legacy', 'yaml', 'tomlkit') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(experiment_file)]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == "[]\n"


@pytest.mark.parametrize(
    ("module", "arguments", "code", "loaded"),
    [
        (COMMAND, ["config", "check", "EXPERIMENT"], 0, ["torch"]),
        pytest.param(COMMAND, ["config", "show", "EXPERIMENT"], 0, ["torch"], marks=SLOW),
        pytest.param(COMMAND, ["config", "diff", "EXPERIMENT", "EXPERIMENT"], 0, ["torch"], marks=SLOW),
        pytest.param(
            *(COMMAND, ["data", "show", "DATASET", "--output", "FIGURE"], 0),
            ["torch", "matplotlib", "pandas"],
            marks=SLOW,
        ),
        pytest.param(COMMAND, ["data", "check", "DATASET"], 0, ["torch", "pandas"], marks=SLOW),
        pytest.param(COMMAND, ["sample", "--help"], 0, ["torch", "pandas"], marks=SLOW),
        pytest.param(COMMAND, ["sample", "EXPERIMENT"], 2, ["torch", "accelerate", "pandas"], marks=SLOW),
        pytest.param(COMMAND, ["prepare", "EXPERIMENT", "--output", "FIGURE"], 2, ["torch", "mne"], marks=SLOW),
        (TRAINING, ["--help"], 0, ["torch", "accelerate"]),
        pytest.param(
            *(TRAINING, ["EXPERIMENT", "--output-dir", "RUN", "--set", "training.max_steps=1"], 0),
            ["torch", "accelerate", "datasets", "pandas"],
            marks=SLOW,
        ),
    ],
    ids=words_of,
)
def test_a_command_loads_only_these_libraries(
    module: str,
    arguments: list[str],
    code: int,
    loaded: list[str],
    experiment_file: Path,
    synthetic_dataset: Path,
    tmp_path: Path,
    after_torch: Run,
) -> None:
    places = {"EXPERIMENT": experiment_file, "DATASET": synthetic_dataset}
    places |= {"FIGURE": tmp_path / "figure.png", "RUN": tmp_path / "run"}
    assert after_torch(module, *[str(places.get(word, word)) for word in arguments]) == [code, loaded]
