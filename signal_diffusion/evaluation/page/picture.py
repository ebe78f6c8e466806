"""A figure as the page embeds it, and what the figures of a page share: colours, labels and words."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from signal_diffusion.escaping import for_figure
from signal_diffusion.evaluation.features import Features
from signal_diffusion.evaluation.groups import Groups

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["KINDS", "MAX_LABELS", "STYLE", "Kind", "Picture", "by_label", "embedded", "in_figure", "left_out", "sizes"]

MAX_LABELS = 6
"""Labels that a figure shows at most."""
MAX_LENGTH = 28
"""Characters of a name in a figure at most."""
MAX_SVG = 600_000
"""Largest SVG, bytes: traces of many electrodes take megabytes."""
PNG_DPI, COLOURS = 200, 32
STYLE: Mapping[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text in the reader's fonts, which have more scripts than Matplotlib's
    "svg.hashsalt": "signal-diffusion",  # ids, which are random otherwise
    "savefig.dpi": 150,  # of images within a figure
}
"""Settings of Matplotlib for all figures."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How real or synthetic windows are drawn: told apart in grey too, by lightness and by line."""

    colour: str
    line: str


KINDS = {
    "real": Kind(colour="#12304f", line="-"),
    "synthetic": Kind(colour="#c8650a", line="--"),
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of the page."""

    title: str
    source: str = ""
    """`data:` URI; "" if the figure is left out."""
    inches: float = 0.0
    """Width."""
    caption: str
    """What is shown, of how many windows; or why the figure is left out."""


def embedded(figure: Figure) -> str:
    """The figure as a data URI with SVG, or PNG if that were too large; the same bytes for the same figure."""
    content, kind = _saved(figure, format="svg", metadata={"Date": None}), "svg+xml"
    if len(content) > MAX_SVG:
        content, kind = _few_colours(_saved(figure, format="png", dpi=PNG_DPI)), "png"
    return f"data:image/{kind};base64," + base64.b64encode(content).decode("ascii")


def _saved(figure: Figure, **options: Any) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, **options)
    return content.getvalue()


def _few_colours(png: bytes) -> bytes:
    """The image with a palette: a quarter of the size for lines."""
    content = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        palette = image.convert("RGB").quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        palette.save(content, "PNG", optimize=True)
    return content.getvalue()


def by_label(groups: Groups) -> dict[str, dict[str, Features]]:
    """Label → the real and synthetic windows with it, for labels that both have; all windows as "" without labels."""
    sets = {"real": groups.real, "synthetic": groups.synthetic}
    return {
        label: {kind: each.take(np.flatnonzero(each.windows.column("label") == label)) for kind, each in sets.items()}
        for label in _labels(groups)[:MAX_LABELS]
    } or {"": sets}


def in_figure(name: str) -> str:
    """A label or an electrode as a figure writes it: escaped, and not too long."""
    return for_figure(name if len(name) <= MAX_LENGTH else f"{name[: MAX_LENGTH - 1]}…")


def sizes(groups: Groups) -> str:
    """How many windows a figure is made of, as a sentence."""
    return f"{_size(groups.real)} real and {_size(groups.synthetic)} synthetic windows."


def left_out(groups: Groups) -> str:
    """A sentence about the labels that figures do not show; "" if they show all."""
    count = len(_labels(groups))
    return f" The first {MAX_LABELS} of {count} labels are shown." if count > MAX_LABELS else ""


def _labels(groups: Groups) -> list[str]:
    columns = [each.windows.column("label") for each in (groups.real, groups.synthetic)]
    known = [set() if column is None else set(column.tolist()) - {""} for column in columns]
    return sorted(known[0] & known[1])


def _size(features: Features) -> str:
    people = len(features.windows.people)
    return f"{len(features)}" + (f" (of {people} people)" if people else "")
