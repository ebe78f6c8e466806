"""Turn options of a command or arguments in Python into a request, before the checkpoint's weights are loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError, print_warning
from signal_diffusion.experiment.conditions import attributes_of
from signal_diffusion.models.conditioning.attributes import Caption
from signal_diffusion.sampling.dataset_conditions import values_like
from signal_diffusion.sampling.montages import check_takes_montages, electrodes_named, montage_named
from signal_diffusion.sampling.options import option_text, requested_values, whole_number
from signal_diffusion.sampling.requests import (
    Request,
    request_rows,
    request_values,
)
from signal_diffusion.sampling.untrained_values import untrained_values
from signal_diffusion.sampling.whole_windows import Noise, check_windows, request_windows

__all__ = ["RequestOptions", "build_request", "request_options", "unembedded"]

CAPTION = "caption"
MAX_WINDOWS = 10**5
"""Windows of 100 electrodes are then as many samples as `generation.sampling.num_samples` may be."""


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """Requested conditions, and whether they are for single samples or whole windows; the experiment has the number."""

    values: Mapping[str, str] = field(default_factory=dict)
    """Values of all samples, by attribute; other attributes are left open."""
    options: Collection[str] = ()
    """Attributes that were set by their own option, which errors then name."""
    like: str = ""
    """Split from which the conditions are sampled instead."""
    windows: int | None = None
    """Number of whole windows, with all electrodes; None = single samples."""
    noise: Noise = "shared"
    """Noise of the electrodes of a window."""
    electrodes: str = ""
    """Electrodes of samples, as `electrodes_named` reads them; "" = those that the model was trained on."""

    def __post_init__(self) -> None:
        if self.like and self.values:
            name, value = next(iter(self.values.items()))
            raise UserError(
                f"--like {self.like}: takes all conditions from the split, but {name} = {value} is set too; use only "
                "one of the two"
            )

    def named(self) -> dict[str, str]:
        """All requested conditions as text, by option or attribute."""
        special = {"like": self.like} if self.like else {}
        if self.windows:
            special |= {"windows": str(self.windows), "noise": self.noise}
        if self.electrodes:
            special["electrodes"] = self.electrodes
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
    electrodes: str | None = None,
) -> RequestOptions:
    """Check options of the command or arguments in Python; None = not given.

    Raises
    ------
    UserError
        If a value is invalid or options conflict; it names options, which `options.named_as_arguments` changes.
    """
    if windows is not None:
        windows = whole_number("--windows", windows, MAX_WINDOWS)
        if num is not None:
            raise UserError(
                f"--windows {windows}: determines the number of samples, one per electrode; leave out --num {num}"
            )
    elif noise is not None:
        raise UserError(f"--noise {noise}: only applies to --windows; leave it out")
    if noise not in (None, "shared", "independent"):
        raise UserError(f"--noise {noise}: expected shared or independent")
    options = {"label": label, "caption": caption}
    return RequestOptions(
        values=requested_values(attributes, label=label, caption=caption),
        options=[name for name, text in options.items() if text is not None],
        like=option_text("--like", like, without="conditions that are not from a split"),
        windows=windows,
        noise="independent" if noise == "independent" else "shared",
        electrodes=option_text("--electrodes", electrodes, without="the electrodes that the model was trained on"),
    )


def build_request(
    wanted: RequestOptions, experiment: schema.Experiment, card: DatasetCard
) -> tuple[Request, list[str]]:
    """The request, and the captions to pass to `load_trained`, in that order.

    Prints a warning for each requested category or number of which the model was trained on no example.

    Raises
    ------
    UserError
        If the model does not support the request, or the dataset is needed but missing.
    """
    table, sampling = experiment.model.conditioning, experiment.generation.sampling
    num = wanted.windows or sampling.num_samples
    if wanted.electrodes:
        check_takes_montages(experiment)
        montage_named(electrodes_named(wanted.electrodes), card)
    names = (
        (CAPTION,)
        if table.type == "caption"
        else tuple(each.name for each in attributes_of(table, card, experiment.data.columns))
    )
    sampled = {}
    if wanted.like:
        sampled = values_like(experiment, names, wanted.like, num, seed=sampling.seed, before=card)
    texts = sampled.get(CAPTION, [wanted.values.get(CAPTION)]) if table.type == "caption" else []
    captions = [text for text in dict.fromkeys(texts) if isinstance(text, str) and text]
    caption = unembedded(captions) if table.type == "caption" else None
    attributes = attributes_of(table, card, experiment.data.columns, caption)
    if wanted.windows:
        check_windows(card, attributes, wanted.values)
    if wanted.like:
        request = request_rows(attributes, sampled)
    else:
        request = request_values(attributes, wanted.values, num, options=wanted.options)
    if wanted.windows:
        request = request_windows(request, attributes, card, wanted.noise)
    for line in untrained_values(request, attributes, card, experiment.data):
        print_warning(line)
    return request, captions


def unembedded(captions: Sequence[str]) -> Caption:
    """A caption attribute without embeddings: a request needs only the captions' indices."""
    texts = ("", *captions)
    return Caption(CAPTION, texts, torch.empty(len(texts), 0, 0), torch.empty(len(texts), 0))
