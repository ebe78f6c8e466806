"""Resuming is exact, to the bit, for what may be combined; in the slow suite, for all combinations.

In all of them latents come from the cache, classes are balanced, and dropout, EMA and validation are on.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from signal_diffusion.models.registry import BACKBONES
from signal_diffusion.training.state import Progress
from tests.chaos import faults
from tests.models.tiny import IMAGES
from tests.training.processes import another_process, two_processes
from tests.training.runs import largest_difference, metrics_of

pytestmark = [pytest.mark.chaos, pytest.mark.processes]
Cell = tuple[str, int, int, int, int, str]
AXES: Sequence[Sequence[object]] = (
    tuple(BACKBONES),
    (1, 2),  # processes
    (1, 3),  # accumulation
    (1, 2),  # the step to resume from: in the middle of an epoch of two steps, or at its end
    (0, 2),  # processes that load examples
    ("no", "bf16"),
)
QUICK = ("dit", "unet")
LATENT_PATCHES = {
    "dit": {"patch_size": [2, 2]},
    "hourglass": {"patch_size": [2, 2]},
    "localmamba": {"patch_size": [2, 2]},
}
BATCH = 2


def cells() -> list[pytest.param]:
    """All combinations; one of each quick backbone is not slow: with most values and pairs of them the others lack."""
    every = list(itertools.product(*AXES))
    parts = {cell: {*enumerate(cell), *itertools.combinations(enumerate(cell), 2)} for cell in every}
    missing, few = set().union(*parts.values()), set()
    for backbone in QUICK:
        own = [cell for cell in every if cell[0] == backbone]
        few.add(cell := max(own, key=lambda each: len(parts[each] & missing)))
        missing -= parts[cell]
    return [pytest.param(*cell, marks=() if cell in few else pytest.mark.slow) for cell in every]


@pytest.fixture(scope="module")
def files(experiment_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An experiment file of each backbone."""
    folder, text = tmp_path_factory.mktemp("matrix"), experiment_file.read_text()
    head, tail = text[: text.index("[model.architecture]")], text[text.index("[model.diffusion]") :]
    files = {name: folder / f"{name}.toml" for name in BACKBONES}
    for name, path in files.items():
        architecture = IMAGES[name] | LATENT_PATCHES.get(name, {})
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in architecture.items()]
        path.write_text(f'{head}[model]\nname = "{name}"\n[model.architecture]\n{"".join(lines)}{tail}')
    return files


def train(words: list[str]) -> None:
    """Train with bf16 also on a CPU that would use fp32 instead."""
    from signal_diffusion.training import device

    device.cpu_has_bf16 = lambda: True
    faults.run(words)


@pytest.mark.parametrize(("backbone", "processes", "accumulation", "step", "workers", "precision"), cells())
def test_resume_is_exact(
    backbone: str,
    processes: int,
    accumulation: int,
    step: int,
    workers: int,
    precision: str,
    files: dict[str, Path],
    latent: tuple[str, ...],
    tmp_path: Path,
) -> None:
    overrides = (
        *latent,
        "training.max_steps=4",
        "training.log_interval=1",
        "training.validation.interval=2",
        "training.validation.num_examples=4",
        f"training.gradient_accumulation_steps={accumulation}",
        f"training.mixed_precision={precision}",
        f"data.loading.num_workers={workers}",
        f"data.loading.batch_size={BATCH}",
        f"data.loading.max_train_examples={2 * BATCH * accumulation * processes}",
        "data.balancing.columns=['gender']",
    )
    words = ["train", str(files[backbone]), *(word for override in overrides for word in ("--set", override))]
    start = two_processes if processes == 2 else another_process
    whole, run = tmp_path / "whole", tmp_path / "run"

    finished = start(train, [*words, "--output-dir", str(whole)])
    assert set(finished.exit_codes) == {0}, finished.output
    assert f"{processes} × cpu, {precision}" in finished.output and "2 steps per epoch" in finished.output

    shutil.copytree(whole / f"checkpoint-{step}", run / f"checkpoint-{step}")
    shutil.copy(whole / "metrics.jsonl", run)
    finished = start(train, [*words, "--output-dir", str(run), "--resume-from-checkpoint", "latest"])
    assert set(finished.exit_codes) == {0}, finished.output
    assert "using cached latents" in finished.output and "encoding" not in finished.output

    assert largest_difference(run / "checkpoint-4", whole / "checkpoint-4") == 0
    assert metrics_of(run) == metrics_of(whole)
    assert Progress.of(run / "checkpoint-4") == Progress.of(whole / "checkpoint-4")
