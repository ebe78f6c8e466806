"""braindecode takes synthetic windows as a dataset and as an augmentation, and the examples in the docs run."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.windows import Windows

pytest.importorskip("braindecode")

from signal_diffusion.integrations.braindecode import SyntheticAugmentation, to_braindecode

EXAMPLES = re.findall(
    r"```python\n(.*?)```", (Path(__file__).parents[2] / "docs" / "integrations.md").read_text(), re.S
)


def windows(**columns: list[Any]) -> Windows:
    """Six windows of two people; window i is i + 1 µV everywhere."""
    known = {"label": list("baabba"), "subject": ["s1"] * 4 + ["s2"] * 2, "age": [20.0] * 4 + [30.0] * 2} | columns
    signals = np.arange(1, 7)[:, None, None] * np.ones((6, 2, 100))
    arrays = {key: np.array(values) for key, values in known.items()}
    return Windows(signals=signals, sfreq=50.0, ch_names=("C3", "C4"), columns=arrays, name="samples")


def test_a_dataset_of_braindecode_has_a_part_per_person_with_targets_and_metadata_in_microvolts() -> None:
    dataset = to_braindecode(windows())
    assert dataset.description["subject"].tolist() == ["s1", "s2"]
    assert [y for _, y, _ in dataset] == [1, 0, 0, 1, 1, 0]
    x, _, where = dataset[5]
    assert (x.dtype, x.shape, where) == (np.float32, (2, 100), [0, 0, 100])
    assert (x == 6).all()
    assert dataset.get_metadata()["label"].tolist() == list("baabba")
    assert dataset.datasets[0].windows.info["sfreq"] == 50


def test_targets_are_in_the_given_order_or_a_number() -> None:
    assert [y for _, y, _ in to_braindecode(windows(), classes=["c", "b", "a"])] == [1, 2, 2, 1, 1, 2]
    assert [y for _, y, _ in to_braindecode(windows(), target="age")] == [20, 20, 20, 20, 30, 30]


def test_windows_without_people_are_one_dataset() -> None:
    found = windows()
    alone = Windows(
        signals=found.signals, sfreq=50.0, ch_names=found.ch_names, columns={"label": found.columns["label"]}, name="x"
    )
    assert len(to_braindecode(alone).datasets) == 1


def batch(targets: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(len(targets), 2, 100), torch.tensor(targets)


def test_windows_are_replaced_by_synthetic_ones_of_the_same_target() -> None:
    x, y = SyntheticAugmentation(1.0, windows(), random_state=0)(*batch([0, 1] * 50))
    assert y.tolist() == [0, 1] * 50
    assert set(x[y == 0].unique().tolist()) == {2, 3, 6}
    assert set(x[y == 1].unique().tolist()) == {1, 4, 5}


def test_the_probability_is_the_share_of_windows_replaced_and_a_seed_repeats_it() -> None:
    first, again, other = (
        SyntheticAugmentation(0.3, windows(), random_state=seed)(*batch([0] * 500))[0] for seed in (0, 0, 1)
    )
    assert (first[:, 0, 0] > 0).float().mean().item() == pytest.approx(0.3, abs=0.06)
    assert (first == again).all() and (first != other).any()
    assert (SyntheticAugmentation(0.0, windows())(*batch([0, 1]))[0] == 0).all()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: SyntheticAugmentation(1.0, windows())(*batch([0, 7])), "samples: no synthetic windows with target 7"),
        (
            lambda: SyntheticAugmentation(1.0, windows())(torch.zeros(1, 3, 100), torch.tensor([0])),
            "2 × 100, but the b",
        ),
        (lambda: SyntheticAugmentation(1.0, windows())(torch.zeros(1, 2, 100)), "batches need targets"),
        (lambda: SyntheticAugmentation(1.0, windows(), target="age"), "target 'age': windows with the same target"),
        (
            lambda: to_braindecode(windows(), target="gender"),
            "samples: no column gender, only age, label, subject",
        ),
        (lambda: to_braindecode(windows(), classes=["a", "c"]), "samples: label b is not one of classes: a, c"),
        (lambda: to_braindecode(windows(label=[*"baab", "", ""])), "samples: label is not known of 2 windows"),
    ],
)
def test_what_cannot_be_converted_is_one_line(make: Any, expected: str) -> None:
    with pytest.raises(UserError) as error:
        make()
    [line] = error.value.lines
    assert expected in line


def test_missing_braindecode_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "braindecode.augmentation", None)
    monkeypatch.delitem(sys.modules, "signal_diffusion.integrations.braindecode")
    with pytest.raises(UserError, match=r"^braindecode not installed; install the extra: uv sync --extra evaluation$"):
        import signal_diffusion.integrations.braindecode  # noqa: F401


@pytest.fixture(scope="module")
def eeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dataset and the samples of the examples."""
    from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic

    root = tmp_path_factory.mktemp("examples")
    for name, seed in (("data/eeg", 0), ("generated/samples", 1)):
        prepare_synthetic(
            root / name, "timeseries", SyntheticOptions(num_subjects=8, num_windows=4, seed=seed, window=512)
        )
    return root


@pytest.mark.slow
def test_the_example_in_the_docs_trains_an_eegnet_with_and_without(eeg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(eeg)
    found: dict[str, Any] = {}
    exec(EXAMPLES[0].replace("max_epochs=10", "max_epochs=2"), found)
    assert set(found["scores"]) == {"without", "with"}
    assert all(0 <= score <= 1 for score in found["scores"].values())
    assert np.isfinite(found["classifier"].history[:, "train_loss"]).all()


def test_samples_of_a_pipeline_are_converted(eeg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from signal_diffusion.data.card import DatasetCard
    from signal_diffusion.data.representations.registry import representation_of
    from signal_diffusion.pipeline import SignalDiffusionPipeline
    from signal_diffusion.sampling.samples import Samples

    card = DatasetCard.load(eeg / "data/eeg")
    samples = Samples(
        tensors=torch.zeros(8, *card.shape),
        latents=None,
        signals=torch.randn(8, len(card.channels), 512),
        columns={"label": np.array(["alert", "relaxed"] * 4)},
        card=card,
        representation=representation_of(card),
    )
    monkeypatch.setattr(SignalDiffusionPipeline, "from_pretrained", lambda path: lambda num: samples)
    found: dict[str, Any] = {}
    exec(EXAMPLES[1], found)
    assert found["dataset"].get_metadata()["target"].tolist() == [0, 1] * 4
