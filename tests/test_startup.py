"""Each command loads only the libraries that it uses, so that it answers soon; each is run in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARIES = ("torch", "diffusers", "transformers", "mne", "matplotlib", "pandas", "sklearn", "peft")
RUN = """
import json, sys
from signal_diffusion.cli import main
code = 0
try:
    main()
except SystemExit as error:
    code = error.code
print(json.dumps([code, [name for name in {libraries!r} if name in sys.modules]]))
"""
TRAIN = RUN.replace("signal_diffusion.cli", "signal_diffusion.training.diffusion")
NOT_A_KEY = ["--set", "training.max_stps=3"]


@pytest.mark.parametrize(
    ("arguments", "code", "loaded"),
    [
        (["--help"], 0, []),
        (["--version"], 0, []),
        (["prepare", "--help"], 0, []),
        (["config", "check", "EXPERIMENT", *NOT_A_KEY], 2, []),
        (["config", "check", "EXPERIMENT"], 0, ["torch"]),
        (["data", "show", "DATASET", "--output", "FIGURE"], 0, ["torch", "matplotlib", "pandas"]),
        pytest.param(["export", "--help"], 0, [], marks=pytest.mark.slow),
        pytest.param(["benchmark", "--help"], 0, [], marks=pytest.mark.slow),
        pytest.param(["config", "show", "EXPERIMENT"], 0, ["torch"], marks=pytest.mark.slow),
        pytest.param(["config", "diff", "EXPERIMENT", "EXPERIMENT"], 0, ["torch"], marks=pytest.mark.slow),
        pytest.param(["sample", "--help"], 0, ["torch", "pandas"], marks=pytest.mark.slow),
        pytest.param(["data", "check", "DATASET"], 0, ["torch", "pandas"], marks=pytest.mark.slow),
        pytest.param(["sample", "EXPERIMENT"], 2, ["torch", "pandas"], marks=pytest.mark.slow),
        pytest.param(["prepare", "EXPERIMENT", "--output", "FIGURE"], 2, ["torch", "mne"], marks=pytest.mark.slow),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else str(value),
)
def test_a_command_loads_only_these_libraries(
    arguments: list[str], code: int, loaded: list[str], experiment_file: Path, synthetic_dataset: Path, tmp_path: Path
) -> None:
    places = {"EXPERIMENT": experiment_file, "DATASET": synthetic_dataset, "FIGURE": tmp_path / "figure.png"}
    assert modules_of(RUN, [str(places.get(word, word)) for word in arguments]) == [code, loaded]


@pytest.mark.slow
def test_training_loads_no_library_of_another_backbone_or_format(experiment_file: Path, tmp_path: Path) -> None:
    arguments = [str(experiment_file), "--output-dir", str(tmp_path / "run"), "--set", "training.max_steps=1"]
    assert modules_of(TRAIN, arguments) == [0, ["torch", "pandas"]]


def modules_of(program: str, arguments: list[str]) -> list[object]:
    """The exit code of a command, and which of the libraries it imported."""
    command = [sys.executable, "-c", program.format(libraries=LIBRARIES), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(finished.stdout.splitlines()[-1])
