"""The models in `weights/`, which the README samples from."""

import json
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy.signal import welch
from typer.testing import CliRunner

from signal_diffusion.cli import app

WEIGHTS = Path(__file__).parents[1] / "weights"
BANDS = {"delta": (1, 3), "theta": (5, 7), "alpha": (9, 11.5), "beta": (16, 28), "gamma": (32, 44)}  # Hz

models = pytest.mark.parametrize("model", sorted(WEIGHTS.iterdir()), ids=lambda path: path.name)


@models
def test_a_model_is_small_has_a_licence_and_no_sign_of_a_copy(model: Path) -> None:
    assert sum(path.stat().st_size for path in model.rglob("*")) < 8e6
    card = (model / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlicense: odc-by\n")
    assert "Zyma" in card and "https://physionet.org/content/eegmat/1.0.0" in card
    verdicts = json.loads((model / "privacy.json").read_text(encoding="utf-8"))["verdicts"]
    found = {key: each["verdict"] for key, each in verdicts.items()}
    # of 14 people, no membership can be told
    assert found == {"copies": "no sign", "membership": "unclear", "re-identification": "no sign"}


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The README's third command."""
    folder = tmp_path_factory.mktemp("weights") / "samples"
    words = ["sample", str(WEIGHTS / "eegmat-small"), "--num", "8", "--format", "fif,png", "--output", str(folder)]
    result = CliRunner().invoke(app, words)
    assert not result.exit_code, result.output
    return folder


def test_samples_are_windows_of_an_average_reference_in_microvolts(samples: Path) -> None:
    epochs = mne.read_epochs(samples / "samples-epo.fif", verbose="error")

    signals = epochs.get_data(units="uV")
    assert signals.shape == (8, 19, 400) and epochs.info["sfreq"] == 100
    assert np.abs(signals.mean(axis=1)).max() < 0.01
    assert 3 < np.median(signals.std(axis=-1)) < 15  # 6 in the training data
    assert len(list((samples / "samples").glob("*.png"))) == 8


def test_samples_have_the_slope_and_the_alpha_of_eeg(samples: Path) -> None:
    occipital = mne.read_epochs(samples / "samples-epo.fif", verbose="error").get_data(["O1", "O2"], units="uV")

    frequencies, power = welch(occipital, 100, nperseg=200)

    db = 10 * np.log10(power.mean(axis=(0, 1)))
    mean = {name: db[(frequencies >= low) & (frequencies <= high)].mean() for name, (low, high) in BANDS.items()}
    assert mean["alpha"] > mean["theta"] + 1 and mean["alpha"] > mean["beta"] + 6
    assert mean["delta"] > mean["beta"] + 6 and mean["beta"] > mean["gamma"] + 2
