import json

import mne
import numpy as np
import pytest
import torch

from signal_diffusion.data import synthetic
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.representations.pictures import Picture
from signal_diffusion.data.representations.registry import REPRESENTATIONS, representation_named, representation_of
from signal_diffusion.data.representations.representation import PictureOptions, Representation
from signal_diffusion.data.representations.spectrogram import DbOnly
from signal_diffusion.data.representations.stft import STFT
from signal_diffusion.errors import UserError

DB_ONLY = DbOnly(transform=STFT(), db_min=-60.0, db_max=40.0)


@pytest.fixture(scope="module")
def eeg() -> torch.Tensor:
    who = synthetic.person(0, 0)
    signal, _ = synthetic.simulate("relaxed", who, 2 * 2048, 125.0, seed=0, recording=0)
    return torch.from_numpy(signal).unflatten(-1, (2, 2048)).movedim(1, 0)  # (2, 19, 2048)


def sinusoid(amplitude: float, bin_number: int) -> torch.Tensor:
    frequency = bin_number * 125.0 / 126
    return torch.tensor(amplitude * np.sin(2 * np.pi * frequency * np.arange(2048) / 125.0))


def test_windows_become_images_in_range_for_any_leading_dimensions(eeg):
    images = DB_ONLY.to_tensor(eeg)
    assert images.shape == (2, 19, 1, 64, 64)
    assert images.dtype == torch.float32
    assert images.abs().max() <= 1
    assert torch.equal(DB_ONLY.to_tensor(eeg[1, 3]), images[1, 3])


@pytest.mark.parametrize("bin_number", [3, 10, 40])
def test_a_sinusoid_appears_at_its_level_in_its_row_from_the_bottom(bin_number):
    image = DB_ONLY.to_tensor(sinusoid(10.0, bin_number))[0]
    assert (image[:, 2:-2].argmax(0) == 63 - bin_number).all()
    level = (image[63 - bin_number, 2:-2] + 1) / 2 * 100 - 60
    assert torch.allclose(level, torch.tensor(20.0), atol=0.05)  # 10 µV are 20 dB


def test_mean_spectrum_peaks_at_the_frequency_of_a_sinusoid():
    frequencies, level = DB_ONLY.mean_spectrum(DB_ONLY.to_tensor(sinusoid(10.0, 10))[None])
    assert frequencies[0] == 0
    assert frequencies[-1] == 62.5
    assert frequencies[level.argmax()] == pytest.approx(10 * 125 / 126)
    assert level.max() == pytest.approx(20.0, abs=0.5)


def test_the_transform_is_invertible_up_to_both_ends(eeg):
    restored = STFT().inverse(STFT().forward(eeg))
    assert ((restored - eeg).abs().amax() / eeg.abs().amax()) < 1e-5


def test_a_reconstructed_signal_has_the_spectrum_and_amplitude_of_its_image(eeg):
    images = DB_ONLY.to_tensor(eeg)
    signal = DB_ONLY.to_signal(images)
    wanted, got = STFT().forward(eeg).abs(), STFT().forward(signal).abs()
    assert (
        got - wanted
    ).norm() / wanted.norm() < 0.2  # spectral convergence; about 1 for a wrong scale or random phase
    assert signal.std() == pytest.approx(float(eeg.std()), rel=0.1)


def test_the_phase_is_seeded_and_examples_do_not_depend_on_their_batch(eeg):
    images = DB_ONLY.to_tensor(eeg[:1, :3])[0]
    generator = torch.Generator().manual_seed(0)
    one_by_one = torch.stack([DB_ONLY.to_signal(image, generator) for image in images])
    assert torch.allclose(one_by_one, DB_ONLY.to_signal(images), atol=1e-3)
    other = DB_ONLY.to_signal(images, torch.Generator().manual_seed(1))
    assert not torch.allclose(other, one_by_one, atol=1.0)


def test_limits_are_percentiles_of_the_levels_and_no_more_than_70_db_apart(eeg):
    fitted = DbOnly.fit([eeg[:1], eeg[1:]], sampling_rate=125.0, window=2048)
    levels = 20 * torch.log10(STFT().forward(eeg).abs()).numpy()
    assert np.allclose([fitted.db_min, fitted.db_max], np.percentile(levels, (0.5, 99.99)), atol=0.2)
    silent_half = torch.cat([eeg, 1e-5 * eeg])
    narrowed = DbOnly.fit([silent_half], sampling_rate=125.0, window=2048)
    assert narrowed.db_max - narrowed.db_min == pytest.approx(70.0)


def test_parameters_survive_json():
    parameters = json.loads(json.dumps(DB_ONLY.parameters()))
    assert representation_named("db-only").from_parameters(parameters) == DB_ONLY


def test_an_unknown_representation_is_an_error_that_lists_the_known_ones():
    with pytest.raises(UserError, match=r"'db-onyl'.*db-only"):
        representation_named("db-onyl")


def test_a_window_of_incomplete_columns_is_an_error():
    with pytest.raises(UserError, match=r"window: 2000 samples.*multiple of 32"):
        STFT(window=2000)


@pytest.fixture(params=list(REPRESENTATIONS))
def fitted(request: pytest.FixtureRequest, eeg: torch.Tensor):
    return REPRESENTATIONS[request.param].fit([eeg], sampling_rate=125.0, window=2048)


SHAPES = {"db-only": (1, 64, 64), "db-iq": (3, 64, 64), "db-polar": (3, 64, 64), "timeseries": (1, 19, 2048)}


def test_every_representation_has_its_shape_and_fills_its_range(fitted, eeg):
    tensors = fitted.to_tensor(eeg)
    leading = (2, 19) if fitted.per_electrode else (2,)
    assert tensors.shape == (*leading, *SHAPES[fitted.name]) and fitted.shape == SHAPES[fitted.name]
    assert tensors.dtype == torch.float32 and tensors.abs().max() <= 1
    channels = tensors.movedim(-3, 0).flatten(1)
    assert (channels.std(1) > 0.1).all()  # no channel is constant


@pytest.mark.parametrize("name", ["db-iq", "db-polar", "timeseries"])
def test_the_inverse_is_exact(name, eeg):
    fitted = REPRESENTATIONS[name].fit([eeg], sampling_rate=125.0, window=2048)
    assert relative_error(fitted.to_signal(fitted.to_tensor(eeg)), eeg) < 1e-5
    stored = fitted.to_tensor(eeg).half().float()
    assert relative_error(fitted.to_signal(stored), eeg) < 5e-3


@pytest.fixture(scope="module")
def subjects(real_data) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Windows (n, 20, 2048) of subjects to fit to, and of other subjects, read directly from the files."""
    windows = []
    for path in sorted((real_data / "eegmat").glob("sub-*/eeg/*_eeg.edf"))[:16]:
        raw = mne.io.read_raw_edf(path, preload=True, verbose="ERROR")
        signal = torch.from_numpy(raw.get_data()[:, : 3 * 2048] * 1e6).float()
        windows.append(signal.unflatten(-1, (3, 2048)).movedim(1, 0))
    return windows[2::4] + windows[3::4], windows[0::4] + windows[1::4]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "pictures"),
    [
        ("db-iq", PictureOptions()),
        ("db-polar", PictureOptions()),
        ("timeseries", PictureOptions()),
        ("db-iq", PictureOptions(layout="mosaic", size=256)),
        ("db-polar", PictureOptions(layout="mosaic", size=256)),
    ],
)
def test_the_inverse_is_exact_on_unseen_subjects(name, pictures, subjects):
    training, others = subjects
    fitted = REPRESENTATIONS[name].fit(training, sampling_rate=125.0, window=2048, pictures=pictures)
    assert fitted.inverse == "exact"
    signal = torch.cat(others)
    tensor = fitted.to_tensor(signal)
    clipped = at_the_limits(fitted, tensor)  # (n, electrodes)
    assert clipped.float().mean() < 0.02
    assert relative_error(fitted.to_signal(tensor)[~clipped], signal[~clipped]) < 1e-5
    stored = fitted.to_signal(tensor.half().float())[~clipped]
    print(
        f"clipped: {clipped.float().mean():.2%}; relative error: float32 "
        f"{relative_error(fitted.to_signal(tensor)[~clipped], signal[~clipped]):.1e}, "
        f"float16 {relative_error(stored, signal[~clipped]):.1e}"
    )
    assert relative_error(stored, signal[~clipped]) < 5e-3


def at_the_limits(representation: Representation, tensor: torch.Tensor) -> torch.Tensor:
    """Whether each electrode of each window has a clipped value that the inverse uses."""
    if representation.name == "timeseries":
        return (tensor.abs() >= 1).any(-1).squeeze(-2)
    ends = tensor[..., 1:, :, :] if representation.name == "db-iq" else tensor[..., 1:2, :, :]
    # The smallest magnitude is not clipping.
    at_end = (ends.abs() if representation.name == "db-iq" else ends).amax(-3) >= 1  # (*, rows, columns)
    if representation.per_electrode:
        return at_end.flatten(-2).any(-1)
    mosaic = representation.transform
    return at_end[..., : mosaic.columns].unflatten(-1, (mosaic.electrodes, mosaic.strip)).any(-1).any(-2)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("pictures", "bound"), [(PictureOptions(), 0.18), (PictureOptions(layout="mosaic", size=256), 0.12)]
)
def test_the_estimated_phase_fits_the_spectra_of_real_recordings(pictures, bound, subjects):
    training, others = subjects
    fitted = DbOnly.fit(training, sampling_rate=125.0, window=2048, pictures=pictures)
    assert fitted.inverse == "approximate"
    signal = torch.cat(others)[::8]
    again = fitted.to_signal(fitted.to_tensor(signal))
    wanted, got = (fitted.transform.forward(each).abs() for each in (signal, again))
    convergence = relative_error(got, wanted)
    print(f"spectral convergence: {convergence:.3f}")
    assert convergence < bound


def relative_error(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def test_amplitudes_above_those_of_training_are_clipped(fitted, eeg):
    assert fitted.to_tensor(10 * eeg).abs().max() <= 1
    assert torch.isfinite(fitted.to_signal(fitted.to_tensor(10 * eeg))).all()


def test_the_phase_channel_is_in_a_half_open_range(eeg):
    fitted = REPRESENTATIONS["db-polar"].fit([eeg], sampling_rate=125.0, window=2048)
    phase = fitted.to_tensor(eeg)[..., 2, :, :]
    assert phase.min() >= -1 and phase.max() < 1


def test_parameters_of_every_representation_survive_json(fitted):
    parameters = json.loads(json.dumps(fitted.parameters()))
    assert representation_named(fitted.name).from_parameters(parameters) == fitted


def test_every_representation_has_the_same_mean_spectrum(fitted, eeg):
    reference = DbOnly.fit([eeg], sampling_rate=125.0, window=2048)
    frequencies, level = fitted.mean_spectrum(fitted.to_tensor(eeg))
    _, expected = reference.mean_spectrum(reference.to_tensor(eeg))
    assert frequencies[-1] == 62.5
    assert (level - expected)[1:46].abs().max() < 0.1  # dB; below the clipped tail of the decibels


def test_every_spectrogram_can_be_shown_as_an_image(fitted, eeg):
    if fitted.layout == "window":
        pytest.skip("time series are drawn as traces")
    image = fitted.picture(fitted.to_tensor(eeg).flatten(0, -4)[0])
    assert image.shape == fitted.shape[1:] and image.abs().max() <= 1 and image.std() > 0.1


def test_a_dead_electrode_does_not_make_a_time_series_infinite(eeg):
    dead = eeg.clone()
    dead[:, 3] = 0
    fitted = REPRESENTATIONS["timeseries"].fit([dead], sampling_rate=125.0, window=2048)
    assert torch.isfinite(fitted.to_tensor(dead)).all()


def test_time_series_of_at_least_64_samples_have_a_mean_spectrum(eeg):
    for window, found in ((2000, True), (64, True), (63, False)):
        fitted = REPRESENTATIONS["timeseries"].fit([eeg[..., :window]], sampling_rate=125.0, window=window)
        assert (fitted.mean_spectrum(fitted.to_tensor(eeg[..., :window])) is not None) == found


def test_given_limits_are_used_and_the_scale_is_still_fitted(eeg):
    given = REPRESENTATIONS["db-iq"].fit(
        [eeg], sampling_rate=125.0, window=2048, pictures=PictureOptions(db_limits=(-30, 50))
    )
    measured = REPRESENTATIONS["db-iq"].fit([eeg], sampling_rate=125.0, window=2048)
    assert (given.db_min, given.db_max) == (-30.0, 50.0)
    assert given.scale == measured.scale


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"db_limits": (20.0, 20.0)}, r"--db-limits 20\.0 20\.0: .* lower one first"),
        ({"db_limits": (float("nan"), 20.0)}, "--db-limits nan"),
        ({"db_limits": (0.0, float("inf"))}, "--db-limits"),
        ({"size": 256}, "--picture-size 256 has no effect with --layout electrode"),
        ({"frequency": "log"}, "--frequency log has no effect with --layout electrode"),
        ({"layout": "mosaic", "size": 65}, "--picture-size 65: expected an even number"),
        ({"layout": "mosaic", "size": 16}, "--picture-size 16"),
        ({"layout": "mosaik"}, "'mosaik'; use electrode or mosaic"),
        ({"layout": "mosaic", "frequency": "mel"}, "'mel'; use linear or log"),
    ],
)
def test_an_invalid_or_ineffective_option_is_an_error(options, complaint):
    with pytest.raises(UserError, match=complaint):
        PictureOptions(**options)


@pytest.mark.parametrize(
    "pictures", [PictureOptions(layout="mosaic"), PictureOptions(db_limits=(-50.0, 20.0))], ids=["layout", "limits"]
)
def test_time_series_do_not_support_image_options(pictures, eeg):
    timeseries = REPRESENTATIONS["timeseries"]
    with pytest.raises(UserError, match="timeseries: does not support --layout"):
        timeseries.check(pictures, sampling_rate=125.0, window=2048, electrodes=19)
    with pytest.raises(UserError, match="timeseries: does not support --layout"):
        timeseries.fit([eeg], sampling_rate=125.0, window=2048, pictures=pictures)


def test_a_card_with_layout_picture_gives_images_whatever_their_name():
    card = DatasetCard(
        representation={
            "name": "db-only",
            "layout": "picture",
            "inverse": "none",
            "column": "image",
            "parameters": {"channels": 1, "size": 64},
        },
        shape=(1, 64, 64),
        sampling_rate=None,
        window=None,
        channels=(),
        columns={},
        splits={},
        preprocessing={},
        sources=[],
        command="",
        made_from="",
    )
    assert representation_of(card) == Picture(channels=1, size=64)


def test_parameters_without_those_of_the_transform_use_its_defaults():
    older = {"sampling_rate": 125.0, "window": 2048, "db_min": -60.0, "db_max": 40.0}
    assert DbOnly.from_parameters(older) == DB_ONLY


@pytest.mark.parametrize("layout", ["electrode", "mosaic"])
@pytest.mark.parametrize("name", ["db-only", "db-iq", "db-polar", "timeseries"])
def test_conversions_work_on_any_device(name, layout, eeg):
    # Like CUDA tensors, meta tensors cannot be combined with CPU tensors.
    pictures = PictureOptions() if layout == "electrode" or name == "timeseries" else MOSAIC
    fitted = REPRESENTATIONS[name].fit([eeg], sampling_rate=125.0, window=2048, pictures=pictures)
    tensor = fitted.to_tensor(eeg.to("meta"))
    assert tensor.device.type == "meta"
    assert fitted.to_signal(tensor).device.type == "meta"
    assert all(each.device.type == "meta" for each in fitted.mean_spectrum(tensor))


MOSAIC = PictureOptions(layout="mosaic", size=256)
