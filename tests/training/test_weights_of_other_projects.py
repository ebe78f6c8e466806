"""Weights of other projects: refused in one line, and converted as docs/models.md says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from signal_diffusion.errors import UserError
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
SHORT = ("training.max_steps=1", "training.validation.enabled=false", "training.visualization.enabled=false")


def snippet() -> str:
    section = DOCUMENT.read_text(encoding="utf-8").partition("## Weights of other projects")[2]
    return section.partition("```python\n")[2].partition("```")[0]


def test_weights_that_are_converted_as_documented_are_those_that_a_run_starts_and_samples_from(
    experiment_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(experiment_file, output_dir=tmp_path / "runs" / "converted", overrides=SHORT)
    folder = tmp_path / "runs" / "converted" / "checkpoint-1"
    theirs = {
        f"their.{name}": torch.randn(weight.shape) for name, weight in load_file(folder / "model.safetensors").items()
    }
    torch.save(theirs, tmp_path / "old.pt")
    monkeypatch.chdir(tmp_path)
    code = snippet().replace('{"patch_embed.weight": "patch_embedding.weight"}', repr({n: n[6:] for n in theirs}))

    exec(compile(code, DOCUMENT, "exec"), {})

    start = (*SHORT, f"model.pretrained={folder}", "training.optimizer.learning_rate=1e-12")
    train(experiment_file, output_dir=tmp_path / "again", overrides=start)
    for run in (folder, tmp_path / "again"):
        state = load_trained(run).model.state_dict()
        assert all(torch.allclose(state[name[6:]], weight, atol=1e-6) for name, weight in theirs.items())


def test_a_file_of_weights_cannot_be_resumed_or_sampled_from(experiment_file: Path, tmp_path: Path) -> None:
    torch.save({}, tmp_path / "old.pt")
    for act in (
        lambda: train(experiment_file, output_dir=tmp_path / "run", resume=str(tmp_path / "old.pt"), overrides=SHORT),
        lambda: load_trained(tmp_path / "old.pt"),
    ):
        with pytest.raises(
            UserError, match=r"old.pt: a file of weights; expected the folder of a checkpoint"
        ) as caught:
            act()
        assert len(caught.value.lines) == 1
