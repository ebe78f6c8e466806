"""Membership: whether a model's own loss tells the examples that it was trained on from those of other people.

An attacker who has the weights and an example adds noise to it and looks how well the model removes it (Carlini et al.,
Extracting Training Data from Diffusion Models, USENIX Security 2023; Matsumoto et al., Membership Inference Attacks
against Diffusion Models, 2023). All examples get the same noise at the same times, so that only examples differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from signal_diffusion.data.loaders import Examples, evenly_spaced
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.randomness import Purpose, generator_for
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.processes import on_all_processes, processes_of
from signal_diffusion.sampling.separation import CONFIDENCE, Separation, separations
from signal_diffusion.sampling.trained import Trained
from signal_diffusion.training.latents import Encoding

__all__ = ["TIMES", "Candidates", "Membership", "membership"]

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Times of the noise; 0 is data and 1 is noise."""
NOISES = 2
"""Draws of noise at each time, of which the mean loss counts."""
MOST = 250
"""Largest number of examples of either kind."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Examples of which a model was trained on all or on none."""

    examples: Examples
    labels: np.ndarray
    """Label of each, (N,); all "" if unknown."""
    people: np.ndarray
    """Person of each, (N,); each example's own name if unknown."""

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.people)


@dataclass(frozen=True, kw_only=True)
class Membership:
    """How well the loss tells members from others, by its mean over all times and at each time."""

    total: Separation
    times: Mapping[float, Separation]
    members: int
    others: int
    """Number of examples that were compared."""
    member_people: int
    other_people: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {
            "times": {f"{t:g}": asdict(each) for t, each in self.times.items()},
            "noises": NOISES,
            "definition": "AUC with which the loss of single examples, with the same noise and time for all and their "
            "own conditions, tells training examples from as many of each label of people who were not trained on; "
            f"interval of {100 * CONFIDENCE:g} % by bootstrap over people.",
        }


def membership(
    trained: Trained,
    members: Candidates,
    others: Candidates,
    *,
    seed: int = 0,
    on_example: Callable[[int, int], None] = lambda done, total: None,
) -> Membership:
    """Compare the losses of examples that a model was trained on with those of others, as many of each label.

    All processes share the examples, and have the result. `on_example` is called with the number of examples that are
    done, and of all. Raises a `UserError` if no label is common, or memory does not suffice for one example.
    """
    chosen = _balanced(members.labels, others.labels)
    counts = [len(rows) for rows in chosen]
    joined = _losses(trained, [members.examples, others.examples], chosen, seed, on_example)  # (N, times)
    scores = -joined / joined.mean(0)
    is_member = np.repeat([True, False], counts)
    people = np.concatenate(
        [candidates.people[rows] for candidates, rows in zip((members, others), chosen, strict=True)]
    )
    total, *by_time = separations(np.column_stack([scores.mean(1), scores]), is_member, people)
    return Membership(
        total=total,
        times=dict(zip(TIMES, by_time, strict=True)),
        members=counts[0],
        others=counts[1],
        member_people=len(np.unique(people[is_member])),
        other_people=len(np.unique(people[~is_member])),
    )


def _balanced(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two sets with the same number of each label, at most `MOST` in all, spread evenly over each set."""
    labels = np.intersect1d(first, second)
    if not len(labels):
        raise UserError("--real: the training split and the split of other people have no label in common")
    both = [[np.flatnonzero(each == label) for each in (first, second)] for label in labels]
    counts = [min(map(len, rows)) for rows in both]
    share = min(1.0, MOST / max(1, sum(counts)))
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for rows, count in zip(both, counts, strict=True):
        for own, part in zip(rows, found, strict=True):
            part.append(own[evenly_spaced(len(own), max(1, round(share * count)))])
    first_rows, second_rows = (np.sort(np.concatenate(part)) for part in found)
    return first_rows, second_rows


def _losses(
    trained: Trained,
    sets: Sequence[Examples],
    chosen: Sequence[np.ndarray],
    seed: int,
    on_example: Callable[[int, int], None],
) -> np.ndarray:
    """Mean loss over the draws of noise of each chosen example of all sets at each time, (N, times)."""
    generator, total = trained.generator, sum(map(len, chosen))
    batch = BatchSize(None, shape=generator.network_shape, device=generator.device, most=max(map(len, chosen)))
    batches = [(each, rows[part]) for each, rows in zip(sets, chosen, strict=True) for part in batch.shared(len(rows))]
    before = np.cumsum([0, *(len(rows) for _, rows in batches)]).tolist()

    def of_batch(number: int) -> np.ndarray:
        on_example(before[number], total)
        return batch.fit(partial(_in_parts, trained, *batches[number], seed))

    found = on_all_processes(range(len(batches)), of_batch, processes_of(trained.experiment.compute))
    on_example(total, total)
    return np.concatenate(found)


def _in_parts(trained: Trained, examples: Examples, rows: np.ndarray, seed: int, *, batch_size: int) -> np.ndarray:
    starts = range(0, len(rows), batch_size)
    return np.concatenate([_batch_losses(trained, examples, rows[i : i + batch_size], seed) for i in starts])


@torch.no_grad()
def _batch_losses(trained: Trained, examples: Examples, rows: np.ndarray, seed: int) -> np.ndarray:
    method, device = trained.method, trained.generator.device
    model = trained.model.to(device)
    x, attributes = examples[rows.tolist()]
    x0, cond = x.to(device), Conditioning(attributes).to(device)
    if trained.autoencoder:
        autoencoder = trained.autoencoder.to(device)
        x0 = Encoding(autoencoder=autoencoder, cached=False, sample_posterior=False)(x0)
    x0 = method.normalisation.normalised(x0)
    losses = []
    for index, time in enumerate(TIMES):
        t = torch.full((len(x0),), time, device=device)
        for number in range(NOISES):
            random = generator_for(Purpose.MEMBERSHIP, seed, index, number)
            noise = torch.randn(x0.shape[1:], generator=random).to(device).expand_as(x0)
            losses.append(method.loss(model(method.add_noise(x0, noise, t), t, cond), x0, noise, t))
    return torch.stack(losses, 1).double().unflatten(1, (len(TIMES), NOISES)).mean(2).cpu().numpy()
