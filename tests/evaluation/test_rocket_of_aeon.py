"""Random kernels have the features of aeon's ROCKET, which computes them sample by sample."""

from __future__ import annotations

import numpy as np
import pytest

from signal_diffusion.evaluation import random_kernels

rocket = pytest.importorskip("aeon.transformations.collection.convolution_based._rocket", exc_type=ImportError)
pytestmark = pytest.mark.slow  # compiles for half a minute


@pytest.mark.parametrize("samples", [9, 100, 512])
def test_random_kernels_are_those_of_aeon(samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_kernels, "STRIDE", 1)
    signals = np.random.default_rng(0).standard_normal((2, 3, samples)).cumsum(-1)
    found = random_kernels.random_kernel_features(signals, seed=4)

    x = ((signals - signals.mean(-1, keepdims=True)) / signals.std(-1, keepdims=True)).astype(np.float32)
    expected = []
    for dilation, (weights, biases) in random_kernels._kernels(samples, np.random.default_rng(4)).items():
        features = [
            rocket._apply_kernel_univariate(trace, kernel, 9, bias, dilation, 4 * dilation)
            for trace in x.reshape(6, samples)
            for kernel, bias in zip(np.ascontiguousarray(weights.numpy().T), biases.numpy(), strict=True)
        ]
        shares_and_maxima = np.reshape(features, (2, 3, len(biases), 2)).mean(1)
        expected += [*np.moveaxis(shares_and_maxima, -1, 0)]

    assert found.shape == (2, 2 * random_kernels.KERNELS)
    assert found == pytest.approx(np.concatenate(expected, 1), abs=1e-5)
