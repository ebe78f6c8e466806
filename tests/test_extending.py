"""CONTRIBUTING.md is true: what is registered under a name works everywhere, without any other line of the package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from pydantic.dataclasses import dataclass as pydantic_dataclass
from torch import Tensor, nn
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.config.documentation import configuration_markdown
from signal_diffusion.config.json_schema import experiment_schema
from signal_diffusion.config.types import TABLE
from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
from signal_diffusion.data.representations.registry import REPRESENTATIONS
from signal_diffusion.data.representations.representation import DEFAULT_PICTURES, PictureOptions, Representation
from signal_diffusion.diffusion.samplers import SAMPLERS, Denoise, Sampler, Step
from signal_diffusion.diffusion.time_grids import TIME_GRIDS, uniform
from signal_diffusion.experiment.loading import offer
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.models.conditioning.embeddings import ConditioningEmbedding
from signal_diffusion.models.denoiser import Denoiser
from signal_diffusion.models.registry import BACKBONES, Backbone
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train


@pydantic_dataclass(frozen=True, kw_only=True, config=TABLE)
class ToyArchitecture:
    """The keys of a toy backbone."""

    channels: int = 8
    """Channels of its hidden layer."""


class ToyConvolutions(Denoiser):
    """Two convolutions along time, conditioned on the sum of all attributes."""

    def __init__(
        self, architecture: ToyArchitecture, *, shape: Any, attributes: Any = (), electrode_rows: bool = False
    ):
        super().__init__()
        rows, width = shape[0] * shape[1], architecture.channels
        self.num_tokens = shape[2]
        self.first, self.last = nn.Conv1d(rows, width, 3, padding=1), nn.Conv1d(width, rows, 3, padding=1)
        self.conditioning = ConditioningEmbedding(attributes, width)

    @property
    def blocks(self) -> nn.ModuleList:
        return nn.ModuleList([self.first])

    def forward(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        embedded = sum(self.conditioning(cond)) + t[:, None]
        return self.last(self.apply_block(self.first, x.flatten(1, 2)) + embedded[..., None]).view_as(x)


def midpoint(denoise: Denoise, x: Tensor, step: Step) -> tuple[Tensor, Tensor]:
    """Not the midpoint rule: the x0 of the start, which is enough to be registered."""
    x0, eps = denoise(x, torch.full((len(x),), step.t), step)
    return step.alpha_s * x0 + step.sigma_s * eps, x0


@dataclass(frozen=True)
class Tenths(Representation):
    """Windows in tenths of a millivolt."""

    name: ClassVar[str] = "tenths"
    column: ClassVar[str] = "signal"
    layout: ClassVar[str] = "window"  # type: ignore[assignment]
    inverse: ClassVar[str] = "exact"  # type: ignore[assignment]
    electrodes: int
    window: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.electrodes, self.window)

    def to_tensor(self, signal: Tensor) -> Tensor:
        return (signal / 100).clamp(-1, 1).unsqueeze(-3)

    def to_signal(self, tensor: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return tensor.squeeze(-3) * 100

    def mean_spectrum(self, tensor: Tensor) -> None:
        return None

    def picture(self, tensor: Tensor) -> Tensor:
        return tensor[0]

    @classmethod
    def fit(
        cls,
        signals: Iterable[Tensor],
        *,
        sampling_rate: float,
        window: int,
        pictures: PictureOptions = DEFAULT_PICTURES,
    ) -> Self:
        return cls(next(iter(signals)).shape[1], window)

    def parameters(self) -> dict[str, Any]:
        return {"electrodes": self.electrodes, "window": self.window}


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(BACKBONES, "conv1d", Backbone(ToyArchitecture, ToyConvolutions))
    monkeypatch.setitem(SAMPLERS, "midpoint", Sampler(midpoint))
    monkeypatch.setitem(TIME_GRIDS, "halves", uniform)
    monkeypatch.setitem(REPRESENTATIONS, "tenths", Tenths)
    yield


@pytest.mark.usefixtures("registered")
def test_a_new_backbone_sampler_and_representation_work_from_config_check_to_samples(tmp_path: Path) -> None:
    prepare_synthetic(tmp_path / "data", "tenths", SyntheticOptions(num_subjects=3, num_windows=1))
    file, run = tmp_path / "toy.toml", tmp_path / "run"
    file.write_text(
        f'[data]\nrepresentation = "tenths"\n[data.paths]\nroot = "{tmp_path / "data"}"\n'
        "[data.loading]\nbatch_size = 2\n"
        '[model]\nname = "conv1d"\n[model.architecture]\nchannels = 6\n[model.conditioning]\ntype = "class"\n'
        '[training]\nmax_steps = 2\n[generation.sampling]\nsampler = "midpoint"\ntime_grid = "halves"\nsteps = 3\n'
    )

    checked = CliRunner().invoke(app, ["config", "check", str(file)])
    assert checked.exit_code == 0 and "kernels          PyTorch" in checked.output
    assert train(file, output_dir=run)
    model = load_trained(run).model
    assert isinstance(model, ToyConvolutions) and model.first.out_channels == 6
    options = ["--num", "2", "--label", "relaxed", "--format", "npz", "--output", str(tmp_path / "samples")]
    sampled = CliRunner().invoke(app, ["sample", str(run), *options])
    assert sampled.exit_code == 0, sampled.output
    assert (tmp_path / "samples" / "samples.npz").is_file()


@pytest.mark.usefixtures("registered")
def test_new_names_are_in_the_documentation_the_schema_and_new_files() -> None:
    text, schema = configuration_markdown(offer()), str(experiment_schema(offer()))
    for name in ("conv1d", "midpoint", "halves", "tenths"):
        assert f'"{name}"' in text, name
        assert f"'{name}'" in schema, name
    assert "### `[model.architecture]` of `conv1d`" in text and "Channels of its hidden layer." in text
    new = CliRunner().invoke(app, ["config", "new", "--backbone", "conv1d", "--representation", "tenths"])
    assert new.exit_code == 0 and "channels" in new.output
