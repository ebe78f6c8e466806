"""EEGNet, trained on a CPU within a minute or two.

Lawhern et al., Journal of Neural Engineering 15, 2018; the network is that of braindecode.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.utility.examples import Examples
from signal_diffusion.evaluation.utility.people import class_of_people, people_of_share
from signal_diffusion.evaluation.utility.tasks import Task
from signal_diffusion.evaluation.windows import Windows

if TYPE_CHECKING:
    import torch

__all__ = ["TrainedEEGNet", "longest_seconds", "train_eegnet"]

SECONDS = 4.0
"""Longest piece that the network sees; training takes a random one of each window, prediction averages over all."""
BATCH_SIZE = 64
LEARNING_RATE = 1e-3
MAX_EPOCHS = 30
EPOCH = 512
"""Windows of an epoch at most, so that no arm takes more steps because it has more windows."""
PATIENCE = 5
"""Epochs without a smaller loss on the people held out, after which training stops."""
HELD_OUT = 0.2
"""Share of the people of the first source on whom training is stopped …"""
LEAST_PEOPLE = 4
"""… if it has as many people; otherwise training takes `EPOCHS_WITHOUT` epochs."""
EPOCHS_WITHOUT = 10


@dataclass(frozen=True, kw_only=True)
class TrainedEEGNet:
    """A trained network: called with windows, it predicts their targets."""

    network: torch.nn.Module
    scale: np.ndarray
    """Standard deviation of each electrode of the training windows, µV, (1, C, 1)."""
    length: int
    """Samples of a piece that the network sees."""
    mean: float
    """Of the numbers to predict."""
    spread: float
    """Standard deviation of the numbers to predict; 0 for classes."""

    def __call__(self, features: Features) -> np.ndarray:
        """Probability of each class, (N, classes), or the number, (N,)."""
        found = self._outputs(self.network, features)
        return found[:, 0].numpy() * self.spread + self.mean if self.spread else found.softmax(-1).numpy()

    def penultimate(self, features: Features) -> np.ndarray:
        """What the last layer is given, averaged over the pieces of each window, (N, D)."""
        from torch import nn

        *layers, _ = self.network.children()
        return self._outputs(nn.Sequential(*layers, nn.Flatten()), features).numpy()

    def _outputs(self, network: torch.nn.Module, features: Features) -> torch.Tensor:
        import torch

        return _outputs(network, torch.from_numpy(features.windows.signals / self.scale), self.length)


def train_eegnet(train: Examples, task: Task, seed: int) -> TrainedEEGNet:
    """Train EEGNet on the signals divided by the standard deviation of each electrode.

    The same seed gives the same network on the same machine; the global random state is left as it was.
    """
    import mne
    import torch

    signals = train.stack(lambda features: features.windows.signals)
    fitted, held_out = _held_out_rows(train, task, seed)
    scale = signals[fitted].std((0, 2), keepdims=True) + 1e-6
    mean, spread = (train.targets.mean(), train.targets.std() + 1e-6) if task.is_number else (0.0, 0.0)
    targets = (train.targets - mean) / spread if task.is_number else train.targets
    length, sfreq = _length(train.parts[0].windows), train.parts[0].windows.sfreq

    # braindecode warns by way of MNE of a default that it will change
    with torch.random.fork_rng(devices=[]), mne.use_log_level("ERROR"):
        torch.manual_seed(seed)
        network = _network(signals.shape[1], task, length, sfreq)
        network = _optimised(
            network,
            torch.from_numpy(signals / scale),
            torch.from_numpy(targets).to(torch.float32 if task.is_number else torch.int64),
            torch.from_numpy(train.balanced_weights(is_number=task.is_number)).float(),
            (fitted, held_out, length),
            np.random.default_rng(seed),
        )
    return TrainedEEGNet(network=network, scale=scale, length=length, mean=float(mean), spread=float(spread))


def longest_seconds(train: Examples, task: Task) -> float:
    """How long a training takes on this machine if it is not stopped early, s, from a few steps."""
    import torch

    windows = train.parts[0].windows
    length = _length(windows)
    batch = min(BATCH_SIZE, len(train))
    steps = -(-min(EPOCH, len(train)) // batch)
    with torch.random.fork_rng(devices=[]):
        network = _network(len(windows.ch_names), task, length, windows.sfreq)
        x = torch.randn(batch, len(windows.ch_names), length)
        for _ in range(3):  # the first ones are slower
            start = time.perf_counter()
            network(x).square().mean().backward()
            of_step = time.perf_counter() - start
            _outputs(network, x, length)
            of_batch = time.perf_counter() - start - of_step
            network.train()
    tested = HELD_OUT * len(train) / batch * (windows.signals.shape[-1] // length)
    return MAX_EPOCHS * (steps * of_step + tested * of_batch)


def _network(electrodes: int, task: Task, length: int, sfreq: float) -> Any:
    from braindecode.models import EEGNet

    network = EEGNet(n_chans=electrodes, n_outputs=max(1, len(task.classes)), n_times=length, sfreq=sfreq)
    network.conv_temporal.forward = partial(_temporal, network.conv_temporal)
    return network


def _length(windows: Windows) -> int:
    """Samples of a piece."""
    return min(windows.signals.shape[-1], round(SECONDS * windows.sfreq))


def _held_out_rows(train: Examples, task: Task, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and rows of people of the first source to stop on, who are not trained on."""
    first, people = train.is_first, train.people
    class_of = class_of_people(people[first], train.targets[first], task)
    if len(class_of) < LEAST_PEOPLE:
        return np.arange(len(train)), np.arange(0)
    of_held_out = np.isin(people, people_of_share(class_of, HELD_OUT, seed))
    return np.flatnonzero(~of_held_out), np.flatnonzero(of_held_out & first)


def _optimised(
    network: torch.nn.Module,
    signals: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    rows: tuple[np.ndarray, np.ndarray, int],
    random: np.random.Generator,
) -> torch.nn.Module:
    """Train by AdamW; the network of the epoch with the smallest loss on the rows held out."""
    import torch

    fitted, held_out, length = rows
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE)
    best, least, since = copy.deepcopy(network.state_dict()), float("inf"), 0
    for _ in range(MAX_EPOCHS if len(held_out) else EPOCHS_WITHOUT):
        network.train()
        order = random.permutation(fitted)[:EPOCH]
        for batch in np.array_split(order, -(-len(order) // BATCH_SIZE)):
            starts = random.integers(0, signals.shape[-1] - length + 1, len(batch))
            pieces = [signals[row, :, start : start + length] for row, start in zip(batch, starts, strict=True)]
            loss = _loss(network(torch.stack(pieces)), targets[batch], weights[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        if len(held_out):
            found = _loss(_outputs(network, signals[held_out], length), targets[held_out], weights[held_out]).item()
            since = 0 if found < least else since + 1
            if since == 0:
                best, least = copy.deepcopy(network.state_dict()), found
            if since == PATIENCE:
                break
    if len(held_out):
        network.load_state_dict(best)
    return network.eval()


def _temporal(convolution: torch.nn.Conv2d, signals: torch.Tensor) -> torch.Tensor:
    """The same convolution in time, (B, 1, C, L) → (B, F, C, L'), of each electrode as a signal of its own.

    Forwards and backwards it takes 0.1 s of a CPU instead of 0.5 s for 64 windows of 19 × 500; the backward pass of
    convolutions was three quarters of the time of a step.
    """
    import torch.nn.functional as F  # noqa: N812 (the usual name)

    found = F.conv1d(signals.flatten(0, 2)[:, None], convolution.weight[:, :, 0], padding=convolution.padding[1])
    return found.unflatten(0, (len(signals), -1)).transpose(1, 2)


def _loss(outputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    import torch.nn.functional as F  # noqa: N812 (the usual name)

    each = (
        F.mse_loss(outputs[:, 0], targets, reduction="none")
        if targets.is_floating_point()
        else F.cross_entropy(outputs, targets, reduction="none")
    )
    return (each * weights).sum() / weights.sum()


def _outputs(network: torch.nn.Module, signals: torch.Tensor, length: int) -> torch.Tensor:
    """Mean output of the network over the pieces of each window, (N, outputs)."""
    import torch

    network.eval()
    with torch.no_grad():
        pieces = signals.unfold(-1, length, length)  # (N, C, pieces, length)
        found = [
            torch.stack([network(batch[:, :, piece]) for piece in range(batch.shape[2])]).mean(0)
            for batch in pieces.split(BATCH_SIZE)
        ]
    return torch.cat(found)
