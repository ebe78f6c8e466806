"""A perceptual loss of the x0 that a prediction implies: of signals their spectra, of images LPIPS.

LPIPS (Zhang et al., https://arxiv.org/abs/1801.03924) compares features of a network that was trained on photographs.
Its weights come from a local folder.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.diffusion.methods import Method
from signal_diffusion.errors import UserError, listed
from signal_diffusion.evaluation.reconstruction import mean_over_electrodes
from signal_diffusion.known import Known
from signal_diffusion.training.stft_loss import check_window, stft_loss
from signal_diffusion.untrusted import read_tensors

__all__ = ["Perceptual", "perceptual_of"]

NETWORKS = ("alex", "squeeze", "vgg")
"""Of LPIPS; the file of weights is named after one."""


@dataclass(frozen=True, kw_only=True)
class Perceptual:
    """weight · α²/(α² + σ²) · distance(x0, x0 of the prediction): the weight at no noise, and 0 at pure noise."""

    weight: float
    distance: Callable[[Tensor, Tensor], Tensor]
    """Of the second examples from the first, in the units of the dataset: (B, C, H, W) each, to (B,)."""

    def __call__(
        self, method: Method, xt: Tensor, prediction: Tensor, x0: Tensor, t: Tensor, known: Known | None = None
    ) -> Tensor:
        """The loss of each example, (B,); `known` values are those of x0."""
        found, _ = method.split(xt, prediction, t)
        if known is not None:
            found = known.inserted(found)
        signal, noise = (each.square() for each in method.schedule(t))
        distance = self.distance(*map(method.normalisation.restored, (x0, found)))
        return self.weight * signal / (signal + noise) * distance

    def on(self, rows: Tensor) -> Perceptual:
        """The same for time series that have only some of the electrodes, (H,) bool: flat ones are no part of it."""

        def filled(x: Tensor) -> Tensor:
            full = x.new_zeros(*x.shape[:2], len(rows), x.shape[3])
            full[:, :, rows] = x
            return full

        return replace(self, distance=lambda x, y: self.distance(filled(x), filled(y)))


def perceptual_of(training: schema.Training, representation: Representation, device: torch.device) -> Perceptual | None:
    """The loss that [training] describes; None if its weight is 0.

    Raises
    ------
    UserError
        If windows are too short, or LPIPS is not installed, its weights are missing or wrong, or images are too small.
    """
    if not training.perceptual:
        return None
    if isinstance(representation, TimeSeries):
        check_window("[training] perceptual", representation.window)
        return Perceptual(weight=training.perceptual, distance=partial(_of_signals, representation))
    network = _lpips(Path(training.perceptual_weights)).to(device)
    distance = partial(_of_images, network)
    try:
        distance(*torch.zeros(2, 1, *representation.shape, device=device))
    except RuntimeError:
        raise UserError(
            f"[training] perceptual: images of {representation.shape[1]} × {representation.shape[2]} pixels are too "
            "small for this network of LPIPS; use vgg, or 0"
        ) from None
    return Perceptual(weight=training.perceptual, distance=distance)


def _of_signals(signals: TimeSeries, x: Tensor, y: Tensor) -> Tensor:
    before, after = signals.to_signal(x), signals.to_signal(y)  # µV (B, electrodes, window)
    return mean_over_electrodes(stft_loss(before, after), before)


def _of_images(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    x, y = (each.float().expand(-1, 3, -1, -1) for each in (x, y))  # grey to colour
    return network(x, y).flatten()


def _lpips(folder: Path) -> nn.Module:
    """LPIPS with the weights in a folder, frozen."""
    key = "[training] perceptual_weights"
    found = [name for name in NETWORKS if (folder / f"{name}.safetensors").is_file()]
    if len(found) != 1:
        names = listed([f"{name}.safetensors" for name in NETWORKS])
        raise UserError(f"{key}: {folder} has {len(found) or 'none'} of {names}; expected one of them")
    try:
        import lpips  # optional, and slow to import
    except ImportError:
        missing = "[training] perceptual: the package lpips is not installed; run `uv sync --extra perceptual`"
        raise UserError(missing) from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")  # of an older way to call it
        network = lpips.LPIPS(net=found[0], pretrained=False, pnet_rand=True, verbose=False)
    path = folder / f"{found[0]}.safetensors"
    saved = read_tensors(path, "make the file again, as docs/training.md says")
    own = dict(network.named_parameters()) | dict(network.named_buffers())  # the last layers once, of their two names
    wrong = [name for name, weight in own.items() if name not in saved or saved[name].shape != weight.shape]
    if wrong:
        raise UserError(f"{key}: {path} does not have these weights of LPIPS's {found[0]}: {listed(wrong)}")
    network.load_state_dict({name: saved[name] for name in own}, strict=False)
    return network.requires_grad_(False).eval()
