"""Metrics of a reconstruction (an encoded and decoded example): of its tensor, its signal and its band powers."""

from __future__ import annotations

import torch
from torch import Tensor

from signal_diffusion.data.representations.representation import Representation

__all__ = ["BANDS", "FLAT", "mean_over_electrodes", "round_trip_metrics"]

BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "low_gamma": (30, 45)}
"""Frequency bands of EEG in Hz; the upper edge is excluded."""

FLAT = 0.1
"""µV, root mean square: a weaker electrode or band is treated as absent, since amplifiers are noisier than this."""
PEAK_TO_PEAK = 2.0  # range of tensors in [-1, 1]


def round_trip_metrics(
    x: Tensor, reconstruction: Tensor, representation: Representation, *, sampling_rate: float | None
) -> dict[str, Tensor]:
    """Metrics of each example, (B,), as far as they are defined for the representation.

    - `psnr`: peak signal-to-noise ratio of the tensors in dB, 10 log10(2² / mean squared error); the reconstruction is
      clipped to [-1, 1].
    - `correlation`: Pearson correlation of the signals in µV, averaged over electrodes that are not flat; 0 if all are.
      Only if the representation is exactly invertible: an estimated phase does not correlate with the true one.
    - `band_error_delta` …: absolute error of the band power in dB, averaged likewise; powers below FLAT² µV² count as
      FLAT² µV². From the Hann periodogram of the signals or, if the representation is not exactly invertible, from
      the mean level in dB of the spectrogram at each frequency.

    Parameters
    ----------
    x, reconstruction
        Examples (B, C, H, W) in [-1, 1], before and after.
    representation
        Representation of the examples.
    sampling_rate
        Sampling rate of the signals in Hz; None if the examples are not signals.
    """
    x, reconstruction = x.float(), reconstruction.float().clamp(-1, 1)
    error = (reconstruction - x).square().flatten(1).mean(1)
    figures = {"psnr": 10 * torch.log10(PEAK_TO_PEAK**2 / error.clamp_min(1e-10))}
    before = None
    if representation.inverse == "exact" and sampling_rate is not None:
        before, after = (representation.to_signal(each) for each in (x, reconstruction))
        figures["correlation"] = mean_over_electrodes(_correlation(before, after), before)
        frequencies = torch.fft.rfftfreq(before.shape[-1], 1 / sampling_rate).to(x.device)
        powers = [_periodogram(before), _periodogram(after)]
    else:
        spectra = [[representation.mean_spectrum(each) for each in examples] for examples in (x, reconstruction)]
        if spectra[0][0] is None:
            return figures
        frequencies = spectra[0][0][0]
        powers = [torch.stack([10 ** (found[1] / 10) for found in each if found]) for each in spectra]
    for name, (low, high) in BANDS.items():
        inside = (frequencies >= low) & (frequencies < high)
        if inside.any():
            first, second = (10 * torch.log10(power[..., inside].sum(-1).clamp_min(FLAT**2)) for power in powers)
            error = (second - first).abs()
            figures[f"band_error_{name}"] = error if before is None else mean_over_electrodes(error, before)
    return figures


def mean_over_electrodes(values: Tensor, signal: Tensor) -> Tensor:
    """Mean over electrodes of values (B,) or (B, electrodes) of signals (B, …, window) in µV; returns (B,).

    Flat signals are left out, because their ratios and correlations are meaningless and would dominate; 0 if all are.
    """
    kept = (signal.std(-1, correction=0) > FLAT).to(values.dtype).reshape(len(values), -1)
    return (values.reshape(len(values), -1) * kept).sum(1) / kept.sum(1).clamp_min(1)


def _correlation(first: Tensor, second: Tensor) -> Tensor:  # (*, window) -> (*), 0 if one is constant
    first, second = (each - each.mean(-1, keepdim=True) for each in (first, second))
    return torch.nn.functional.cosine_similarity(first, second, dim=-1)


def _periodogram(signal: Tensor) -> Tensor:  # µV (*, window) -> µV² (*, F)
    taper = torch.hann_window(signal.shape[-1], device=signal.device)
    centred = signal - signal.mean(-1, keepdim=True)
    both_sides = 2 / (len(taper) * taper.square().sum())
    return torch.fft.rfft(centred * taper).abs().square() * both_sides
