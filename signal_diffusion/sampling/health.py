"""A short check of samples for the terminal: are they finite, as strong as the training data, and nowhere flat?"""

from __future__ import annotations

from collections import Counter

from signal_diffusion.data.amplitudes import LEVELS, Amplitudes
from signal_diffusion.escaping import for_terminal
from signal_diffusion.evaluation.reconstruction import FLAT
from signal_diffusion.sampling.samples import Samples

__all__ = ["health_check"]

CHUNK = 256
"""Samples whose amplitudes are counted at a time, which bounds memory."""


def health_check(samples: Samples, requested: int) -> list[str]:
    """Lines about the finite ones of `requested` samples or windows: three, or one if they have no signals."""
    finite = f"finite      {len(samples)} of {requested}"
    if samples.signals is None:
        name = samples.card.representation["name"]
        return [f"{finite}; amplitudes unknown: {name} examples of this dataset cannot be turned into microvolts"]
    return [finite, f"amplitude   {_amplitudes(samples)}", f"flat        {_flat(samples)}"]


def _amplitudes(samples: Samples) -> str:
    assert samples.signals is not None
    counted, before = Amplitudes(), samples.card.amplitudes
    for part in samples.signals.split(CHUNK):
        counted.add(part)
    shares = _listed([f"{level:.4g} %" for level in (100 * level for level in LEVELS)])
    training = f"{_listed(list(before.values()))} µV" if before else "unknown, the dataset's card does not have them"
    return f"{shares} of |x| are below {_listed(list(counted.quantiles().values()))} µV (training data: {training})"


def _flat(samples: Samples) -> str:
    signals = samples.signals
    assert signals is not None
    flat = signals.std(-1, correction=0) < FLAT  # (N,) or (N, electrodes)
    what = "samples" if flat.ndim == 1 else "electrodes"
    line = f"{int(flat.sum())} of {flat.numel()} {what} (standard deviation below {FLAT:g} µV)"
    if flat.ndim == 1 or not flat.any():
        return line
    counts = Counter({name: int(count) for name, count in zip(samples.ch_names, flat.sum(0), strict=True) if count})
    return f"{line}: {for_terminal(', '.join(f'{name} {count}' for name, count in counts.most_common(5)))}"


def _listed(values: list[object]) -> str:
    *first, last = (f"{value:.3g}" if isinstance(value, float) else f"{value}" for value in values)
    return f"{', '.join(first)} and {last}"
