"""Samples that are not finite are left out and refused with exit code 3; the others are written, and checked."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from signal_diffusion.cli import main
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.dataset import MappedTensors, open_split
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.diffusion.generation import SampleGenerator
from signal_diffusion.pipeline import SignalDiffusionPipeline
from signal_diffusion.sampling import job
from signal_diffusion.sampling.finite import NotFiniteError
from signal_diffusion.sampling.health import health_check
from signal_diffusion.sampling.requests import request_values
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained, load_trained
from tests.sampling.test_job import without_signals
from tests.training.processes import two_processes

GENERATE = SampleGenerator.generate


@pytest.fixture(scope="module")
def trained(electrodes_run: Path) -> Trained:
    return load_trained(electrodes_run)


class KilledError(Exception):
    pass


def with_bad(*numbers: int) -> object:
    """A `generate` whose samples with these numbers of noise are NaN."""

    def generate(self: SampleGenerator, model: object, cond: object, indices: Sequence[int], **named: object) -> Tensor:
        samples = GENERATE(self, model, cond, indices, **named)  # type: ignore[arg-type]
        samples[torch.isin(torch.tensor(indices), torch.tensor(numbers))] = math.nan
        return samples

    return generate


@pytest.fixture
def bad(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SampleGenerator, "generate", with_bad(1, 4))


def command(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as caught:
        patch.setattr("sys.argv", ["signal-diffusion", "sample", *map(str, words)])
        main()
    return caught.value.code  # type: ignore[return-value]


def arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "samples.npz") as file:
        return dict(file)


def test_finite_samples_are_kept_and_the_command_exits_with_3(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (run, "--num", 6, "--batch-size", 2, "--guidance-scale", 4, "--output")
    assert command(*words, tmp_path / "all") == 0
    monkeypatch.setattr(SampleGenerator, "generate", with_bad(1, 4))
    capsys.readouterr()

    assert command(*words, tmp_path / "out") == 3

    printed = capsys.readouterr()
    assert printed.err == (
        f"error: 2 of 6 samples are not finite (NaN or infinity); the other 4 are in {tmp_path / 'out'}; try a smaller "
        "--guidance-scale (now 4), more --steps (now 2) or an earlier checkpoint\n"
    )
    assert "out: 4 samples from " in printed.out and "\nfinite      4 of 6\n" in printed.out
    kept, every = arrays(tmp_path / "out"), arrays(tmp_path / "all")
    for name in ("tensors", "signals", "label"):
        np.testing.assert_array_equal(kept[name], every[name][[0, 2, 3, 5]])
    about = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert (about["num_samples"], about["not_finite"], about["evaluations_per_sample"]) == (4, [1, 4], 4.0)


def test_nothing_is_written_if_no_sample_is_finite_and_other_settings_can_follow(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SampleGenerator, "generate", with_bad(0, 1))
    words = (run, "--num", 2, "--set", "generation.sampling.use_ema=false", "--output", tmp_path / "out")

    assert command(*words) == 3

    assert capsys.readouterr().err == (
        "error: 2 of 2 samples are not finite (NaN or infinity); nothing is kept; try more --steps (now 2), an earlier "
        "checkpoint or the averaged weights (use_ema)\n"
    )
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    assert command(*words, "--steps", 1) == 0


@pytest.mark.usefixtures("bad")
def test_an_interrupted_job_remembers_which_samples_are_not_finite(trained: Trained, tmp_path: Path) -> None:
    request = request_values(trained.attributes, {}, 6)

    def stop(done: int) -> None:
        if done == 4:
            raise KilledError

    with pytest.raises(KilledError):
        job.sample(trained, request, tmp_path / "out", batch_size=2, on_batch=stop)
    with pytest.raises(NotFiniteError, match=r"^2 of 6 samples are not finite"):
        job.sample(trained, request, tmp_path / "out", batch_size=2)
    assert len(arrays(tmp_path / "out")["tensors"]) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_batches_that_an_older_version_did_not_check_are_generated_again(trained: Trained, tmp_path: Path) -> None:
    request, done = request_values(trained.attributes, {}, 4), []

    def stop(count: int) -> None:
        done.append(count)
        if count == 2:
            raise KilledError

    with pytest.raises(KilledError):
        job.sample(trained, request, tmp_path / "out", batch_size=2, on_batch=stop)
    part = tmp_path / ".unfinished-out" / "part-00000000.safetensors"
    tensors = safetensors.torch.load_file(part)
    safetensors.torch.save_file({name: torch.full_like(each, math.nan) for name, each in tensors.items()}, part)

    job.sample(trained, request, tmp_path / "out", batch_size=2)

    assert np.isfinite(arrays(tmp_path / "out")["tensors"]).all()


def sample_with_bad(run: Path, output: Path) -> None:
    SampleGenerator.generate = with_bad(1, 4)  # type: ignore[method-assign,assignment]
    command_line = ["signal-diffusion", "sample", str(run), "--num", "6", "--batch-size", "2", "--output", str(output)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", command_line)
        main()


@pytest.mark.processes
def test_all_processes_exit_with_3_and_one_prints(electrodes_run: Path, tmp_path: Path) -> None:
    finished = two_processes(sample_with_bad, electrodes_run, tmp_path / "out")
    assert finished.exit_codes == [3, 3], finished.output
    assert finished.output.count("2 of 6 samples are not finite") == finished.output.count("finite      4 of 6") == 1
    assert len(arrays(tmp_path / "out")["tensors"]) == 4


@pytest.mark.usefixtures("bad")
def test_a_window_is_left_out_if_one_of_its_electrodes_is_not_finite(
    electrodes_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (electrodes_run, "--windows", 2, "--noise", "independent", "--output", tmp_path / "out")
    assert command(*words) == 3
    assert arrays(tmp_path / "out")["signals"].shape == (1, 19, 2048)
    assert "error: 1 of 2 windows is not finite (NaN or infinity); the other 1 are in" in capsys.readouterr().err


@pytest.mark.usefixtures("bad")
def test_the_pipeline_raises_with_the_finite_samples_and_names_arguments(electrodes_run: Path) -> None:
    pipeline = SignalDiffusionPipeline.from_pretrained(electrodes_run)
    with pytest.raises(
        NotFiniteError, match=r"error's attribute samples; try a smaller guidance_scale \(now 3\)"
    ) as it:
        pipeline(num=3, attributes={"gender": "female"}, guidance_scale=3.0)
    assert it.value.samples is not None and len(it.value.samples) == len(it.value.samples.columns["age"]) == 2


def samples_of(trained: Trained, signals: Tensor) -> Samples:
    tensors = torch.zeros(len(signals), *trained.card.shape)
    return Samples(
        tensors=tensors,
        latents=None,
        signals=signals,
        columns={},
        card=trained.card,
        representation=trained.representation,
    )


def test_the_health_check_has_amplitudes_beside_the_training_data_and_names_flat_electrodes(trained: Trained) -> None:
    signals = torch.full((4, 19, 2000), 100.0)
    signals[..., ::2] += 3.0
    signals[:2, 1] = 7.0
    card = replace(trained.card, amplitudes={"0.5": 4.125, "0.95": 18.0, "0.999": 61.5})

    lines = health_check(samples_of(replace(trained, card=card), signals), 5)

    assert lines == [
        "finite      4 of 5",
        "amplitude   50 %, 95 % and 99.9 % of |x| are below 1.5, 1.5 and 1.5 µV (training data: 4.12, 18 and 61.5 µV)",
        f"flat        2 of 76 electrodes (standard deviation below 0.1 µV): {card.channels[1]} 2",
    ]


def test_the_health_check_says_what_it_does_not_know(run: Path) -> None:
    trained = load_trained(run)
    samples = samples_of(replace(trained, card=replace(trained.card, amplitudes={})), torch.randn(3, 2048))
    lines = health_check(samples, 3)
    assert lines[1].endswith("(training data: unknown, the dataset's card does not have them)")
    assert lines[2] == "flat        0 of 3 samples (standard deviation below 0.1 µV)"
    [line] = health_check(replace(samples_of(without_signals(trained), torch.zeros(3, 8)), signals=None), 3)
    assert (
        line
        == "finite      3 of 3; amplitudes unknown: db-only examples of this dataset cannot be turned into microvolts"
    )


def test_the_card_has_the_amplitudes_of_the_training_windows(datasets: dict[str, Path]) -> None:
    card = DatasetCard.load(datasets["timeseries"])
    opened = open_split(datasets["timeseries"], "train", card)
    tensors = MappedTensors(opened.data.column("signal"), card.shape)[np.arange(len(opened))]
    x = representation_of(card).to_signal(torch.from_numpy(tensors).float())
    expected = np.quantile((x - x.mean(-1, keepdim=True)).abs(), [0.5, 0.95, 0.999])
    assert list(card.amplitudes) == ["0.5", "0.95", "0.999"]
    np.testing.assert_allclose(list(card.amplitudes.values()), expected, rtol=0.01)
