"""Requests for long recordings: how long they are, and what conditions they have when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from signal_diffusion.config import schema
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.errors import UserError, print_warning
from signal_diffusion.experiment.conditions import attributes_of
from signal_diffusion.models.conditioning.attributes import Attribute, Conditioning
from signal_diffusion.sampling.given_windows import MAX_DRAWS
from signal_diffusion.sampling.long.blocks import Block, blocks_of
from signal_diffusion.sampling.long.continuing import Continuation, continuations
from signal_diffusion.sampling.long.timeline import Timeline, read_timeline
from signal_diffusion.sampling.request_options import CAPTION, RequestOptions, build_request, unembedded
from signal_diffusion.sampling.requests import Request
from signal_diffusion.sampling.untrained_values import untrained_values

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MAX_DURATION", "RecordingRequest", "build_recording_request"]

MAX_DURATION = 86_400.0
"""s. People record a day at most in one file (sleep, monitoring of epilepsy); of 64 electrodes at 256 Hz it has
5.3 GiB."""


@dataclass(frozen=True, kw_only=True)
class RecordingRequest:
    """A request for N recordings."""

    request: Request
    """Number of each recording, and its conditions where the timeline does not set them."""
    blocks: tuple[Block, ...]
    """In order, without gaps, from the first sample to the last."""
    window: int
    """Samples of a window."""
    timeline: Timeline | None

    @property
    def samples(self) -> int:
        """Length of each recording."""
        return self.blocks[-1].stop

    @cached_property
    def windows(self) -> list[Continuation]:
        """The windows of a recording, in order."""
        return continuations([block.stop for block in self.blocks], self.window)

    def conditions(self, window: Continuation, recordings: Sequence[int]) -> Conditioning:
        """The conditions of a window of some recordings."""
        cond = self.request.take(recordings).cond
        codes = self.blocks[window.block].codes
        changed = {name: values.expand(len(recordings)) for name, values in codes.items()}
        return replace(cond, attributes={**cond.attributes, **changed})


def build_recording_request(
    wanted: RequestOptions,
    experiment: schema.Experiment,
    card: DatasetCard,
    *,
    duration: float | None,
    timeline: Path | pd.DataFrame | None,
) -> tuple[RecordingRequest, list[str]]:
    """The request, and the captions to pass to `load_trained`, in that order; see `build_request`.

    Without a duration, recordings end with the timeline. The model must generate windows of signals.

    Raises
    ------
    UserError
        If the model does not support the request, or the duration and the timeline do not match.
    """
    assert card.window is not None and card.sampling_rate is not None
    if experiment.generation.sampling.num_samples > MAX_DRAWS:
        raise UserError(f"--num {experiment.generation.sampling.num_samples}: expected at most {MAX_DRAWS} recordings")
    request, captions = build_request(wanted, experiment, card)
    names = tuple(request.cond.attributes)
    read = None if timeline is None else read_timeline(timeline, names)
    samples = _samples(duration, read, card.window, card.sampling_rate)
    rows = read.rows if read else ()
    if read and (both := set(read.attributes) & wanted.values.keys()):
        raise UserError(f"{read.source}: sets {min(both)}, and so does another option; use only one of the two")
    if CAPTION in (read.attributes if read else ()):
        captions = list(dict.fromkeys([*captions, *filter(None, (row.values[CAPTION] for row in rows))]))
    caption = unembedded(captions) if CAPTION in names else None
    attributes = attributes_of(experiment.model.conditioning, card, experiment.data.columns, caption)
    used = [each for each in attributes if read and each.name in read.attributes]
    blocks = blocks_of(rows, used, samples, card.sampling_rate)
    found = RecordingRequest(request=request, blocks=blocks, window=card.window, timeline=read)
    _warn_of_untrained(found, used, card, experiment.data)
    return found, captions


def _samples(duration: float | None, timeline: Timeline | None, window: int, sfreq: float) -> int:
    """Samples of a recording; a `UserError` if the duration is none, or not that of the timeline."""
    end = timeline.rows[-1].end if timeline else 0.0
    seconds = end if duration is None else duration
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise UserError(f"--duration {seconds!r}: expected seconds")
    where = f"{timeline.source}: ends at {end:g} s" if timeline and duration is None else f"--duration {seconds:g}"
    samples = round(seconds * sfreq)
    if samples < window:
        raise UserError(f"{where}; expected at least a window of the model, {window / sfreq:g} s")
    if seconds > MAX_DURATION:
        raise UserError(f"{where}; expected at most a day, {MAX_DURATION:g} s; make several recordings with --num")
    if timeline and round(end * sfreq) > samples:
        row = timeline.rows[-1]
        raise UserError(
            f"{row.where}: ends at {end:g} s, after --duration {seconds:g}; use a longer one, or leave it out"
        )
    return samples


def _warn_of_untrained(
    found: RecordingRequest, attributes: Sequence[Attribute], card: DatasetCard, data: schema.Data
) -> None:
    if not attributes:
        return
    codes = {each.name: torch.cat([block.codes[each.name] for block in found.blocks]) for each in attributes}
    request = Request(cond=Conditioning(codes), noise=tuple(range(len(found.blocks))))
    for line in untrained_values(request, attributes, card, data):
        print_warning(line)
