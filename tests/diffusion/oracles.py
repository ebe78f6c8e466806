"""The estimates of a perfect network in closed form: E[x0 | x_t] and E[ε | x_t] for data of a known distribution.

x is (…, D); α and σ, numbers or tensors, broadcast against it; everything is of x's dtype.
"""

import torch


def mixture(x, alpha, sigma, k=None, *, weights, means, stds):
    """Estimates for a mixture of Gaussians, weights (K,), means and stds (K, D), or only for its component k.

    k is an int, or a tensor of ints that broadcasts against x without its last axis.
    """
    means, stds, log_weights = means.to(x), stds.to(x), weights.to(x).log()
    if k is not None:
        return _component(x, alpha, sigma, means[k], stds[k])[:2]
    means, stds, log_weights = (v.view(len(v), *(1,) * (x.ndim - 1), -1) for v in (means, stds, log_weights))
    x0, eps, log_density = _component(x, alpha, sigma, means, stds)  # (K, …, D)
    share = (log_weights + log_density.sum(-1, keepdim=True)).softmax(0)
    return (share * x0).sum(0), (share * eps).sum(0)


def gaussian(x, alpha, sigma, *, mean, variances, axes):
    """Estimates for a Gaussian with `variances` (D,) along the columns of `axes` (D, D), from `eigh(covariance)`."""
    along = (x - alpha * mean.to(x)) @ axes.to(x) / (alpha**2 * variances.to(x) + sigma**2)
    return mean.to(x) + alpha * (variances.to(x) * along) @ axes.to(x).T, sigma * along @ axes.to(x).T


def autoregression(coefficients, length):
    """Covariance (length, length), float64, of the stationary AR(2) x_i = a·x_{i−1} + b·x_{i−2} + z, z ~ N(0, 1)."""
    a, b = coefficients
    lags = [(1 - b) / ((1 + b) * ((1 - b) ** 2 - a**2))]  # Yule–Walker
    lags.append(lags[0] * a / (1 - b))
    for _ in range(2, length):
        lags.append(a * lags[-1] + b * lags[-2])
    at = torch.arange(length)
    return torch.tensor(lags, dtype=torch.float64)[(at[:, None] - at).abs()]


def _component(x, alpha, sigma, mean, std):
    signal = alpha * std**2
    variance = alpha * signal + sigma**2
    off = x - alpha * mean
    surprise = off / variance
    return mean + signal * surprise, sigma * surprise, -0.5 * (surprise * off + torch.as_tensor(variance).log())
