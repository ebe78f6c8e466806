"""Each recipe trains and samples; scripts that run them read what they are given."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.training.diffusion import train

ROOT = Path(__file__).parents[2]
SMALL = (
    "model.architecture.num_layers=1",
    "model.architecture.num_attention_heads=2",
    "model.architecture.patch_size=[0,64]",
    "data.loading.batch_size=2",
    "training.max_steps=4",
    "training.checkpointing.interval=2",
    "training.validation.num_examples=2",
    "training.visualization.enabled=false",
    "compute.device=cpu",
    "logging.tensorboard=false",
)


@pytest.mark.parametrize("recipe", sorted((ROOT / "config" / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_a_recipe_trains_and_samples(recipe: Path, datasets: dict[str, Path], tmp_path: Path) -> None:
    of_recipe = [f"data.paths.root={datasets['timeseries']}"]
    if "autoguidance" in recipe.read_text(encoding="utf-8"):
        of_recipe.append("generation.sampling.guidance_checkpoint=checkpoint-2")
    train(recipe, output_dir=tmp_path / "run", overrides=(*SMALL, *of_recipe))

    samples = SignalDiffusionPipeline.from_pretrained(tmp_path / "run")(num=2, steps=2)
    assert samples.tensors.shape == (2, 1, 19, 2048)
    assert torch.isfinite(samples.tensors).all()


def test_the_script_of_the_recipe_is_valid_and_asks_for_recordings() -> None:
    script = ROOT / "scripts" / "reproduce_eegmat.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    found = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert found.returncode != 0
    assert "usage: bash scripts/reproduce_eegmat.sh PATH/TO/EEGMAT" in found.stderr


def test_rows_of_a_comparison_are_a_name_and_its_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("compare", ROOT / "scripts" / "compare_experiments.py")
    assert spec is not None and spec.loader is not None
    compare = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "compare", compare)  # dataclasses look up their module here
    spec.loader.exec_module(compare)

    assert compare.Row.parse("as it is:") == compare.Row("as it is", ())
    row = compare.Row.parse("large: model.architecture.patch_size=[0,16]; training.max_steps=2")
    assert row.changes == ("model.architecture.patch_size=[0,16]", "training.max_steps=2")
    assert compare._cell([1.0, 3.0]) == "2 ± 1.4"
