"""What a command or a call asks for in words, as a request: checked against a checkpoint's tables before its weights
are read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.conditions import attributes_of
from signal_diffusion.models.conditioning.attributes import Caption
from signal_diffusion.sampling.dataset_conditions import values_like
from signal_diffusion.sampling.options import asked, said, whole_number
from signal_diffusion.sampling.requests import Noise, Request, asked_for, check_windows, of_windows, with_values

__all__ = ["RequestOptions", "build_request", "request_options"]

CAPTION = "caption"


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """Conditions and what they are for; how many samples is the experiment's to say."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Of all samples, by attribute; others are left open."""
    options: Collection[str] = ()
    """Attributes that were asked for by an option of their own, which mistakes name."""
    like: str = ""
    """Draw the conditions from this split instead."""
    windows: int | None = None
    """Whole windows to make, of all electrodes; None = single samples."""
    noise: Noise = "shared"
    """Of the electrodes of a window."""

    def __post_init__(self) -> None:
        if self.like and self.values:
            name, value = next(iter(self.values.items()))
            raise UserError(
                f"--like {self.like}: takes all conditions from the split, and {name} = {value} is asked for too; "
                "expected one of the two"
            )

    def named(self) -> dict[str, str]:
        """All that is asked for, in words."""
        special = {"like": self.like} if self.like else {}
        if self.windows:
            special |= {"windows": str(self.windows), "noise": self.noise}
        return {**self.values, **special}


def request_options(
    *,
    attributes: Mapping[str, str | float] | None = None,
    label: str | None = None,
    caption: str | None = None,
    like: str | None = None,
    num: int | None = None,
    windows: int | None = None,
    noise: str | None = None,
) -> RequestOptions:
    """What options of the command or arguments in Python say; None = not given.

    Raises
    ------
    UserError
        In the command's words, which `options.named_as_arguments` changes, if a value is invalid or options conflict.
    """
    if windows is not None:
        windows = whole_number("--windows", windows)
        if num is not None:
            raise UserError(
                f"--windows {windows}: makes as many samples as they have electrodes; leave out --num {num}"
            )
    elif noise is not None:
        raise UserError(f"--noise {noise}: is of the electrodes of --windows; leave it out")
    if noise not in (None, "shared", "independent"):
        raise UserError(f"--noise {noise}: expected shared or independent")
    options = {"label": label, "caption": caption}
    return RequestOptions(
        values=asked(attributes, label=label, caption=caption),
        options=[name for name, text in options.items() if text is not None],
        like=said("--like", like, without="conditions that are not drawn"),
        windows=windows,
        noise="independent" if noise == "independent" else "shared",
    )


def build_request(
    wanted: RequestOptions, experiment: schema.Experiment, card: DatasetCard
) -> tuple[Request, list[str]]:
    """The request, and the captions that the model has to be loaded with (`load_trained`), in their order there.

    Raises
    ------
    UserError
        Where the model cannot be asked for it, or the dataset is needed and has gone.
    """
    table, sampling = experiment.model.conditioning, experiment.generation.sampling
    num = wanted.windows or sampling.num_samples
    names = (
        (CAPTION,)
        if table.type == "caption"
        else tuple(each.name for each in attributes_of(table, card, experiment.data.columns))
    )
    drawn = {}
    if wanted.like:
        min_channels = 3 if card.shape[0] == 3 else 1  # grey images became RGB for such a model
        drawn = values_like(experiment, names, wanted.like, num, seed=sampling.seed, min_channels=min_channels)
    texts = drawn.get(CAPTION, [wanted.values.get(CAPTION)]) if table.type == "caption" else []
    captions = [text for text in dict.fromkeys(texts) if isinstance(text, str) and text]
    caption = _unembedded(captions) if table.type == "caption" else None
    attributes = attributes_of(table, card, experiment.data.columns, caption)
    if wanted.windows:
        check_windows(card, attributes, wanted.values)
    if wanted.like:
        request = with_values(attributes, drawn)
    else:
        request = asked_for(attributes, wanted.values, num, options=wanted.options)
    if wanted.windows:
        request = of_windows(request, attributes, card, wanted.noise)
    return request, captions


def _unembedded(captions: Sequence[str]) -> Caption:
    """The empty caption and others by their places, which are all that a request takes of them."""
    texts = ("", *captions)
    return Caption(CAPTION, texts, torch.empty(len(texts), 0, 0), torch.empty(len(texts), 0))
