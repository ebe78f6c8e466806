"""Read the headers of all recordings before any signal: which electrodes they lack, and where electrodes are."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from signal_diffusion.data.recordings.channels import is_constant, missing_channels
from signal_diffusion.data.recordings.opening import errors_naming, open_recording
from signal_diffusion.data.recordings.positions import digitised_positions, mean_positions, standard_positions
from signal_diffusion.data.recordings.recording import Recording, names_of
from signal_diffusion.errors import UserError, listed

__all__ = ["Headers", "check_missing", "read_headers", "without_constant"]

logger = logging.getLogger(__name__)

_TABLE_ROWS = (
    1000  # enough to tell electrodes from time and counters; parsing a whole CSV takes longer than filtering it
)


@dataclass(frozen=True, kw_only=True)
class Headers:
    """What the headers of the recordings say together."""

    missing: dict[str, list[str]]
    """Recording → electrodes that it lacks; recordings that cannot be opened are not in it."""
    channels_of_first: list[str]
    """Channels of the first recording that lacks an electrode."""
    lost: list[str]
    """Subjects of whom every recording lacks an electrode."""
    positions: dict[str, list[float]]
    """Electrode → x, y, z on the unit sphere, without electrodes of unknown position."""
    positions_from: str | None
    """`recordings` if all of them have positions, otherwise `standard_1005`; None if no position is known."""
    constant: list[str]
    """Channels that are constant in all recordings, as far as these were read: the start of tables, other arrays, and
    epochs."""


def read_headers(
    recordings: Sequence[Recording], ch_names: Sequence[str], progress: Callable[[str, int, int], None]
) -> Headers:
    """Open every recording; those that cannot be opened are left out, for reading them reports why."""
    missing: dict[str, list[str]] = {}
    channels_of_first: list[str] = []
    complete: set[str] = set()
    digitised = []
    constant = set(ch_names)
    for number, (name, recording) in enumerate(zip(names_of(recordings), recordings, strict=True)):
        progress("reading headers", number, len(recordings))
        try:
            with errors_naming(recording.path):
                raw = open_recording(recording, table_rows=_TABLE_ROWS)
        except UserError:
            continue
        constant = {name for name in constant if is_constant(name, raw)}
        if lacking := missing_channels(ch_names, raw):
            channels_of_first = channels_of_first or list(raw.ch_names)
            missing[name] = lacking
        else:
            complete.add(recording.subject)
        digitised.append(None if lacking else digitised_positions(ch_names, raw))
    progress("reading headers", len(recordings), len(recordings))
    subjects = dict.fromkeys(recording.subject for recording in recordings)
    known = [positions for positions in digitised if positions is not None]
    own = bool(known) and len(known) == len(digitised)
    positions = mean_positions(known) if own else standard_positions(ch_names)
    return Headers(
        missing=missing,
        channels_of_first=channels_of_first,
        lost=[subject for subject in subjects if subject not in complete] if missing else [],
        positions=positions,
        positions_from=("recordings" if own else "standard_1005") if positions else None,
        constant=[name for name in ch_names if name in constant and digitised],
    )


def without_constant(ch_names: Sequence[str], headers: Headers, recordings: Sequence[Recording]) -> tuple[str, ...]:
    """The channels of `--channels file` without constant ones, such as a column "Battery"; a warning names these.

    Reads whole tables if a channel is constant at the start of all. Raises `UserError` if no channel is left.
    """
    constant = list(headers.constant)
    for recording in recordings:
        if constant:
            with suppress(UserError), errors_naming(recording.path):
                raw = open_recording(recording)
                constant = [name for name in constant if is_constant(name, raw)]
    left = tuple(name for name in ch_names if name not in constant)
    if not left:
        raise UserError(f"--channels file: every channel is constant: {listed(ch_names)}; check the files")
    if constant:
        logger.warning(
            "--channels file: left out %s, constant in all recordings; to choose channels yourself, name them instead",
            listed(constant),
        )
    return left


def check_missing(headers: Headers, recordings: Sequence[Recording], *, missing: str, skip_bad: bool) -> None:
    """Name the recordings that lack electrodes: as an error, unless these are interpolated or absent, or they skipped.

    `missing` is that of `PrepareOptions`.
    """
    if not headers.missing or len(recordings) == 1:  # reading a single one says which channels it has
        return
    names = [f"{name} ({listed(lacking)})" for name, lacking in headers.missing.items()]
    found = f"{len(names)} of {len(recordings)} recordings lack electrodes: {listed(names)}"
    if missing != "refuse":
        every = list(headers.missing.values())
        if absent := [
            name for name in every[0] if len(every) == len(recordings) and all(name in each for each in every)
        ]:
            raise UserError(
                f"no recording has {listed(absent)}, so there is nothing real to learn; remove it from --channels"
            )
        logger.warning("%s; they are %s", found, "absent" if missing == "absent" else "interpolated")
        return
    subjects = f"{len(headers.lost)} subject{'' if len(headers.lost) == 1 else 's'}"
    lost = f"; {subjects} would be lost: {listed(headers.lost)}" if headers.lost else ""
    if skip_bad:
        logger.warning("%s; they are skipped%s", found, lost)
        return
    raise UserError(
        f"{found}{lost}; the first has {listed(headers.channels_of_first, 20)}; choose others with --channels, "
        "interpolate with --missing interpolate, keep them absent with --missing absent, or skip recordings with "
        "--skip-bad"
    )
