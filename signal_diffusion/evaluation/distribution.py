"""Metrics of the joint distribution of band powers and covariances: distances, density and coverage.

The embedding of a window is [log10 band power, upper triangle of the log-covariance], z-scored and whitened to its 32
first principal components, both fitted to the real windows.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist, pdist
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.measurement import Measurement, Metric

__all__ = ["COMPONENTS", "EMBEDDING", "METRICS", "embedded", "frechet", "frechet_distance", "second_order_features"]

COMPONENTS = 32
NEIGHBOURS = 5
EMBEDDING = (
    "features of a window: log10 band power and log-covariance, z-scored and whitened to 32 components of real windows"
)
"""The embedding, for definitions."""


def second_order_features(features: Features) -> np.ndarray:
    """log10 band powers and upper triangle of the log-covariance of each window, (N, 5 C + C (C + 1) / 2)."""
    return np.concatenate([features.band_power.reshape(len(features), -1), features.log_covariance], 1)


def embedded(
    real: Features, synthetic: Features, of: Callable[[Features], np.ndarray] = second_order_features
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of both sets, (n, 32) each, fitted to all real windows, also those that were not drawn."""
    whitening = real.once(f"whitening of {of.__name__}", lambda root: _whitening(of(root)))
    return tuple(whitening.transform(of(each)) for each in (real, synthetic))


def _whitening(fitted: np.ndarray) -> Pipeline:
    components = min(COMPONENTS, fitted.shape[1])
    if len(fitted) <= 2 * components:
        raise Unavailable(f"{len(fitted)} real windows; more than {2 * components} are needed")
    return make_pipeline(StandardScaler(), PCA(components, whiten=True, svd_solver="full")).fit(fitted)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of two Gaussians fitted to (n, d): |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½).

    Dowson and Landau, Journal of Multivariate Analysis 12, 1982. The square root's trace is that of the eigenvalues of
    the symmetric Σ₁^½ Σ₂ Σ₁^½.
    """
    if len(first) < 2 or len(second) < 2:
        raise Unavailable("one window; at least two are needed")
    covariances = [np.cov(each, rowvar=False) for each in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    product = np.linalg.eigvalsh(root @ covariances[1] @ root)
    mean = first.mean(0) - second.mean(0)
    return float(mean @ mean + np.trace(covariances[0] + covariances[1]) - 2 * np.sqrt(np.maximum(product, 0)).sum())


def frechet(
    real: Features, synthetic: Features, *, of: Callable[[Features], np.ndarray] = second_order_features
) -> Measurement:
    """Fréchet distance of the embeddings of the features `of` windows."""
    first, second = embedded(real, synthetic, of)
    if min(len(first), len(second)) <= first.shape[1]:
        raise Unavailable(f"groups of {len(second)} windows; more than {first.shape[1]} are needed")
    return Measurement(value=frechet_distance(first, second))


def maximum_mean_discrepancy(real: Features, synthetic: Features) -> Measurement:
    """Unbiased squared MMD of the embeddings × 100; RBF kernel, its width the median distance of real windows.

    Gretton et al., JMLR 13, 2012, eq. 3. It can be negative if both distributions are the same.
    """
    first, second = embedded(real, synthetic)
    if len(second) < 2:
        raise Unavailable("one window; at least two are needed")
    gamma = 1 / (2 * np.median(pdist(first)) ** 2)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-gamma * cdist(a, b, "sqeuclidean"))

    def within(x: np.ndarray) -> float:
        return float((kernel(x, x).sum() - len(x)) / (len(x) * (len(x) - 1)))

    value = within(first) + within(second) - 2 * float(kernel(first, second).mean())
    return Measurement(value=100 * value)


def _neighbourhoods(real: Features, synthetic: Features) -> tuple[np.ndarray, np.ndarray]:
    """Distances (R, S) of the embeddings, and that of each real window to its 5th real neighbour, (R, 1)."""
    if len(real) <= NEIGHBOURS:
        raise Unavailable(f"groups of {len(real)} windows; more than {NEIGHBOURS} are needed")
    first, second = embedded(real, synthetic)
    neighbours = NearestNeighbors(n_neighbors=NEIGHBOURS + 1).fit(first)  # the first is the window itself
    return cdist(first, second), neighbours.kneighbors(first)[0][:, -1:]


def density(real: Features, synthetic: Features) -> Measurement:
    """Mean number of real neighbourhoods that a synthetic window is in ÷ 5 (Naeem et al., ICML 2020, eq. 4)."""
    distances, radii = _neighbourhoods(real, synthetic)
    return Measurement(value=float((distances < radii).sum(0).mean() / NEIGHBOURS))


def coverage(real: Features, synthetic: Features) -> Measurement:
    """Share of real neighbourhoods with a synthetic window in them (Naeem et al., ICML 2020, eq. 6)."""
    distances, radii = _neighbourhoods(real, synthetic)
    return Measurement(value=float((distances.min(1) < radii[:, 0]).mean()))


METRICS = (
    Metric(
        name="eeg-fd",
        title="EEG-FD",
        question="diversity",
        least=2 * COMPONENTS + 1,
        quick=True,
        definition=f"Fréchet distance; {EMBEDDING}.",
        compute=frechet,
    ),
    Metric(
        name="mmd",
        title="MMD² × 100",
        offset=1.0,
        question="diversity",
        least=2 * COMPONENTS + 1,
        definition=f"Unbiased squared maximum mean discrepancy with an RBF kernel of the median distance; {EMBEDDING}.",
        compute=maximum_mean_discrepancy,
    ),
    Metric(
        name="density",
        title="Density",
        question="diversity",
        least=2 * COMPONENTS + 1,
        better="larger",
        offset=0.01,
        definition="In how many neighbourhoods of real windows (as far as their 5th neighbour) a synthetic window is, "
        f"÷ 5; {EMBEDDING}.",
        compute=density,
    ),
    Metric(
        name="coverage",
        title="Coverage",
        question="diversity",
        least=2 * COMPONENTS + 1,
        better="larger",
        offset=0.01,
        quick=True,
        definition="Share of real windows with a synthetic one in their neighbourhood (as far as their 5th real "
        f"neighbour); {EMBEDDING}.",
        compute=coverage,
    ),
)
