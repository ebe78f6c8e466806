"""Spectrograms are judged as they are stored: faults that the inverse hides are found, and sound ones pass."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.export.file_formats import write_file
from signal_diffusion.data.representations.registry import REPRESENTATIONS
from signal_diffusion.data.representations.representation import PictureOptions
from signal_diffusion.data.representations.spectrogram import DbIq, Spectrogram
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.comparison import compare_windows
from signal_diffusion.evaluation.controls import noisy_spectrograms, scaled
from signal_diffusion.evaluation.evaluating import compare
from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.harmonising import harmonised
from signal_diffusion.evaluation.metrics import METRICS
from signal_diffusion.evaluation.page.pictures import PICTURES
from signal_diffusion.evaluation.per_spectrogram import BIN
from signal_diffusion.evaluation.reading import read_dataset, read_windows
from signal_diffusion.evaluation.stored_spectrograms import spectrograms_in
from signal_diffusion.evaluation.windows import Windows
from signal_diffusion.sampling.samples import Samples
from tests.evaluation.invented import CH_NAMES, SAMPLES, SFREQ, people

NAMES = [name for name, metric in METRICS.items() if metric.of_spectrograms]
SIGNALS = people(0, 8, name="real")
OTHERS = people(20, 8, name="fake")


def representation_named(name: str, pictures: PictureOptions | None = None) -> Spectrogram:
    options = {} if pictures is None else {"pictures": pictures}
    signals = [torch.from_numpy(SIGNALS.signals)]
    found = REPRESENTATIONS[name].fit(signals, sampling_rate=SFREQ, window=SAMPLES, **options)
    assert isinstance(found, Spectrogram)
    return found


def card_of(representation: Spectrogram) -> DatasetCard:
    entry = {key: getattr(representation, key) for key in ("name", "layout", "inverse", "column")}
    return DatasetCard(
        representation=entry | {"parameters": representation.parameters()},
        shape=representation.shape,
        sampling_rate=SFREQ,
        window=SAMPLES,
        channels=CH_NAMES,
        columns={},
        splits={"train": {"examples": 1, "windows": 1, "subjects": ["sub-0"], "marginals": {}}},
        preprocessing={},
        sources=[],
        command="",
        made_from="",
    )


def tensors_of(windows: Windows, representation: Spectrogram) -> torch.Tensor:
    return representation.to_tensor(torch.from_numpy(windows.signals))


def windows_from(tensors: torch.Tensor, like: Windows, representation: Spectrogram) -> Windows:
    """Windows with these tensors, and with the signals that their inverse gives."""
    signals = representation.to_signal(tensors).numpy()
    stored = spectrograms_in(card_of(representation), tensors.numpy())
    return dataclasses.replace(like, signals=signals, spectrograms=stored)


def stored(windows: Windows, representation: Spectrogram) -> Windows:
    return windows_from(tensors_of(windows, representation), windows, representation)


def value(name: str, real: Windows, synthetic: Windows) -> float:
    return METRICS[name].compute(Features(real), Features(synthetic)).value


IQ = representation_named("db-iq")
REAL, FAKE = stored(SIGNALS, IQ), stored(OTHERS, IQ)
DB_RANGE = IQ.db_max - IQ.db_min


@pytest.mark.parametrize("name", ["db-only", "db-iq", "db-polar"])
def test_other_real_people_are_as_good_as_real(name: str):
    representation = representation_named(name)
    real, other, train = (stored(each, representation) for each in (SIGNALS, OTHERS, people(40, 8)))
    report = compare_windows(real, other, train=train, metrics=NAMES)

    for metric in NAMES:
        low, high = report[metric].interval
        assert low < 1.05 and high > 0.95, metric


@pytest.mark.parametrize("metric", NAMES)
def test_spectrograms_have_no_distance_to_themselves(metric: str):
    assert value(metric, REAL, REAL) == pytest.approx(0, abs=1e-4)


def test_a_shift_of_the_decibels_is_found_in_db_although_the_signals_are_the_same():
    tensors = tensors_of(SIGNALS, IQ)
    tensors[..., 0, :, :] = tensors[..., 0, :, :] * 0.5 + 0.2
    first = windows_from(tensors, SIGNALS, IQ)
    tensors = tensors.clone()
    tensors[..., 0, :, :] += 0.1
    second = windows_from(tensors, SIGNALS, IQ)

    assert np.array_equal(first.signals, second.signals)
    assert value("spectrogram-lsd", first, second) == pytest.approx(0.05 * DB_RANGE, rel=1e-4)


def test_the_distance_of_values_is_that_of_scipy_to_the_width_of_a_bin():
    real, synthetic = (tensors_of(each, IQ).flip(-2) for each in (SIGNALS, OTHERS))
    expected = [
        wasserstein_distance(first.ravel(), second.ravel()) / max(first.std(unbiased=False), BIN)
        for first, second in zip(
            real.permute(2, 3, 0, 1, 4).flatten(0, 1), synthetic.permute(2, 3, 0, 1, 4).flatten(0, 1), strict=True
        )
    ]

    assert value("spectrogram-w1", REAL, FAKE) == pytest.approx(np.mean(expected), rel=0.05)


def test_swapped_rows_are_found_at_their_frequencies():
    tensors = tensors_of(SIGNALS, IQ)
    low, high = 64 - 1 - 6, 64 - 1 - 40  # 3 Hz in delta and 20 Hz in beta
    tensors[..., [low, high], :] = tensors[..., [high, low], :]
    swapped = windows_from(tensors, SIGNALS, IQ)
    levels = Features(REAL).spectrogram_levels.mean(0)
    judged = (REAL.spectrograms.frequencies >= 1).sum()
    expected = np.sqrt(2 * ((levels[:, 6] - levels[:, 40]) ** 2).mean() / judged)

    assert value("spectrogram-lsd", REAL, swapped) == pytest.approx(expected, rel=1e-3)
    bands = METRICS["spectrogram-w1"].compute(Features(REAL), Features(swapped)).bands
    assert min(bands[f"{plane} {band}"] for plane in "IQ" for band in ("delta", "beta")) > 0.01
    assert min(bands["dB delta"], bands["dB beta"]) > 0.05
    assert max(bands[f"{plane} {band}"] for plane in ("dB", "I", "Q") for band in ("theta", "alpha", "gamma")) < 1e-6


def test_noise_is_as_inconsistent_as_the_redundancy_of_the_transform_says():
    spectrum = torch.complex(*torch.randn(2, 96, 4, 64, SAMPLES // 32, generator=torch.Generator().manual_seed(0)))
    spectrum[..., [0, -1], :] = 0  # their imaginary parts are no part of the spectrum of a real signal
    planes = [IQ._companded(part).flip(-2) for part in (0.1 * spectrum.real, 0.1 * spectrum.imag)]
    noise = torch.stack([planes[0], *planes], -3)
    noise[..., 0, :, :] = IQ.to_tensor(IQ.to_signal(noise))[..., 0, :, :]  # the decibels are those of the signal
    found = METRICS["inconsistency"].compute(Features(REAL), Features(windows_from(noise, SIGNALS, IQ)))

    # Signals are a space of `SAMPLES` dimensions in that of all spectra, which has 126 for each of the columns.
    expected = 100 * np.sqrt(1 - SAMPLES / (126 * SAMPLES / 32))
    assert found.bands["complex beta"] == pytest.approx(expected, abs=1)
    assert found.bands["dB beta"] < 0.01
    assert found.value == pytest.approx(expected / 2, abs=1)


@pytest.mark.parametrize("name", ["db-iq", "db-polar"])
def test_levels_with_the_phases_of_other_windows_are_inconsistent_and_nothing_else(name: str):
    representation = representation_named(name)
    real, tensors = stored(SIGNALS, representation), tensors_of(SIGNALS, representation)
    tensors[..., 1:, :, :] = tensors[..., 1:, :, :].roll(1, 0)
    mixed = windows_from(tensors, SIGNALS, representation)

    assert value("spectrogram-w1", real, mixed) < 1e-6
    assert value("spectrogram-lsd", real, mixed) < 1e-4
    assert value("inconsistency", real, real) < 0.1
    assert value("inconsistency", real, mixed) > 20


@pytest.mark.parametrize(("name", "factor"), [("db-only", 1.1), ("db-iq", 100)])
def test_noise_in_spectrograms_is_inconsistent_although_their_inverse_is_a_signal(name: str, factor: float):
    real = stored(SIGNALS.take(range(24)), representation_named(name))
    noisy = noisy_spectrograms(real, np.random.default_rng(0))

    assert value("inconsistency", real, noisy) > factor * value("inconsistency", real, real)


def test_white_noise_is_far_from_eeg():
    random = np.random.default_rng(0)
    white = dataclasses.replace(SIGNALS, signals=10 * random.standard_normal(SIGNALS.signals.shape), name="white")
    report = compare_windows(REAL, stored(white, IQ), train=stored(people(40, 8), IQ), metrics=NAMES)

    assert {name for name in NAMES if report[name].total.ratio > 2} == {*NAMES} - {"inconsistency"}
    assert report["inconsistency"].verdict == "as real"  # it is the spectrogram of a signal


def test_time_series_have_no_metrics_of_spectrograms_unless_they_are_named():
    assert not {*NAMES} & {result.metric.name for result in compare_windows(SIGNALS, OTHERS, quick=True).results}
    assert "has no spectrograms" in compare_windows(SIGNALS, OTHERS, metrics=NAMES[:1]).results[0].missing
    assert {*NAMES} & {result.metric.name for result in compare_windows(REAL, FAKE, quick=True).results} == {
        "inconsistency"
    }


def test_another_representation_or_another_scale_leaves_only_the_signals_and_says_so():
    louder = dataclasses.replace(IQ, db_max=IQ.db_max + 1)
    for other, note in (
        (
            stored(OTHERS, representation_named("db-polar")),
            "has spectrograms of db-polar, but real has spectrograms of",
        ),
        (OTHERS, "has no spectrograms, but real has spectrograms of db-iq"),
        (stored(OTHERS, louder), f"db_max of its spectrograms is {louder.db_max}, but {IQ.db_max} in real"),
    ):
        first, second, notes = harmonised(REAL, other)
        assert first.spectrograms is None and second.spectrograms is None
        assert any(note in each and "only the signals are compared" in each for each in notes)


def test_training_windows_are_not_said_to_differ_if_the_synthetic_ones_did():
    train = dataclasses.replace(stored(people(40, 8), IQ), name="train")
    report = compare(REAL, stored(OTHERS, representation_named("db-only")), train=train, metrics=["unusable"])
    assert [note for note in report.notes if "only the signals" in note] == [
        "fake: has spectrograms of db-only, but real has spectrograms of db-iq; only the signals are compared"
    ]


def test_electrodes_with_estimated_phases_are_no_measure_of_space():
    """Without phases, electrodes are not correlated, and those of any generator are as little as the real ones."""
    without = representation_named("db-only")
    made = {"inverse": without.inverse}
    real, fake = (dataclasses.replace(stored(each, without), made=made) for each in (SIGNALS, OTHERS))
    report = compare_windows(real, fake, metrics=["corrf", "coherence"])
    assert all("the phases of each electrode are estimated" in result.missing for result in report.results)
    assert report.verdicts()["space"][0] == "missing"


def test_electrodes_are_brought_into_the_same_order_with_their_spectrograms():
    order = [2, 0, 3]
    names = tuple(CH_NAMES[each] for each in order)
    turned = dataclasses.replace(
        FAKE, signals=FAKE.signals[:, order], ch_names=names, spectrograms=FAKE.spectrograms.pick(order)
    )
    first, second, _ = harmonised(REAL, turned)

    assert first.ch_names == second.ch_names == tuple(name for name in CH_NAMES if name in names)
    kept = [CH_NAMES.index(name) for name in first.ch_names]
    assert np.array_equal(Features(second).spectrogram_levels, Features(FAKE).spectrogram_levels[:, kept])


def test_windows_are_judged_without_copying_spectrograms():
    part = Features(REAL).take(np.array([5, 1])).windows

    assert part.spectrograms.examples is REAL.spectrograms.examples
    assert torch.equal(part.spectrograms.read(0, 1), REAL.spectrograms.read(5, 6))


def test_controls_have_the_spectrograms_of_their_signals():
    louder = scaled(REAL, np.random.default_rng(0))

    assert value("spectrogram-lsd", REAL, louder) == pytest.approx(20 * np.log10(1.3), abs=0.2)  # some are at the limit


def test_the_cache_knows_spectrograms_from_others_with_the_same_signals():
    tensors = tensors_of(SIGNALS, IQ)
    tensors[..., 0, :, :] = 0
    silent = windows_from(tensors, SIGNALS, IQ)
    first, second = (Features(each, is_cached=True).spectrogram_levels for each in (REAL, silent))

    assert np.array_equal(Features(REAL, is_cached=True).spectrogram_levels, first)
    assert np.ptp(second) < 1e-3 < np.ptp(first)


def test_strips_of_mosaics_are_the_spectrograms_of_their_electrodes():
    mosaic = representation_named("db-iq", PictureOptions(layout="mosaic", size=48))
    assert mosaic.inverse == "exact"
    windows = stored(SIGNALS, mosaic)
    strips = windows.spectrograms.by_electrode(windows.spectrograms.read(0, 96).flip(-2))
    alone = DbIq(transform=mosaic.transform.stft, db_min=mosaic.db_min, db_max=mosaic.db_max, scale=mosaic.scale)

    assert torch.allclose(strips, tensors_of(SIGNALS, alone).flip(-2), atol=1e-4)
    assert value("inconsistency", windows, windows) < 0.1
    with pytest.raises(Unavailable, match="no spectrograms"):
        value("inconsistency", windows, harmonised(windows, stored(OTHERS, IQ))[1])


@pytest.mark.parametrize("name", ["db-iq", "db-polar"])
def test_examples_of_a_dataset_are_those_that_its_signals_were_made_from(datasets: dict[str, Path], name: str):
    windows = read_dataset(datasets[name], None)
    read = windows.spectrograms.read(0, len(windows))

    made = windows.spectrograms.representation.to_signal(windows.spectrograms.by_electrode(read))
    assert np.array_equal(made.numpy(), windows.signals)


def test_samples_are_judged_with_the_tensors_that_the_model_gave(tmp_path: Path):
    tensors, card = tensors_of(SIGNALS, IQ) + 0.01, card_of(IQ)
    signals = IQ.to_signal(tensors)
    samples = Samples(tensors=tensors, latents=None, signals=signals, columns={}, card=card, representation=IQ)
    write_file(tmp_path / "samples", signals, card, None, "npz", tensors=tensors)
    about = {"dataset": dataclasses.asdict(card), "checkpoint": "", "num_samples": 4 * len(tensors), "electrodes": 4}
    (tmp_path / "samples.json").write_text(json.dumps(about))

    for windows in (samples.to_windows(), read_windows(tmp_path)):
        assert torch.equal(windows.spectrograms.read(1, 3), tensors[1:3].flatten(0, 1))
        assert windows.spectrograms.representation == IQ


def test_spectrograms_of_other_windows_are_refused():
    with pytest.raises(UserError, match="96 spectrograms for 2 windows"):
        dataclasses.replace(REAL, signals=REAL.signals[:2], columns={})


def test_the_page_shows_spectrograms_as_they_are_stored():
    figure, caption = PICTURES["Spectrograms"](compare_windows(REAL, FAKE, metrics=["unusable"]))

    assert "as they are stored, of electrode O1" in caption
    assert len(figure.axes) == 3 * 2 * 3  # windows × (real, synthetic) × planes
    assert [axis.get_ylabel() for axis in figure.axes[::3]][:2] == ["real\ndB\nHz", "synthetic\ndB\nHz"]
