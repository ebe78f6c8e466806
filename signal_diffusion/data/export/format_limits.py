"""What FIF and EDF files cannot hold: names, labels, and numbers of samples that MNE fails to write or to read back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from signal_diffusion.errors import UserError

__all__ = ["EDF_LARGEST_MICROVOLTS", "check_limits"]

EDF_LARGEST_MICROVOLTS = 9_999_999
"""The header has eight characters for the limits of the range, one of them the sign."""
_EDF_NAME = 16  # largest number of characters in a channel's label
_EDF_RESERVED = ("EDF Annotations", "BDF Annotations")
_FIF_SAMPLES = 2**31  # the time of an event is an int32


def check_limits(
    format: str,
    channels: Sequence[str],
    sampling_rate: float,
    labels: Iterable[str] = (),
    samples: int = 0,
    *,
    where: str = "",
    advice: str = "",
) -> None:
    """Raise a `UserError` that names the first channel, label or number that a file of this format cannot hold.

    `samples` is the number of samples per channel of all windows together; 0 = unknown. The message begins with
    `where` ("" = the option --format) and ends with `advice` ("" = another format).
    """
    where = where or f"--format {format}"
    if format not in ("fif", "edf"):
        return
    complaints = [
        *(("channel", name, _about_channel(format, name)) for name in channels),
        *(("label", name, _about_label(format, name)) for name in labels),
    ]
    for kind, name, complaint in complaints:
        if complaint:
            raise UserError(f"{where}: {kind} {name} {complaint}; {advice or 'use parquet or npz'}")
    if format == "edf" and not float(sampling_rate).is_integer():
        advice = advice or "use fif or parquet"
        raise UserError(f"{where}: EDF needs a whole number of Hz, found {sampling_rate:g} Hz; {advice}")
    if format == "fif" and samples >= _FIF_SAMPLES:
        raise UserError(
            f"{where}: {samples:,} samples per channel are more than FIF's events can count, {_FIF_SAMPLES - 1:,};"
            " use parquet or npz, or sample less at once"
        )


def _about_channel(format: str, name: str) -> str:
    if not name.isascii():
        return f"has characters that are not ASCII, which {format.upper()} cannot store"
    if format == "edf" and len(name) > _EDF_NAME:
        return f"has more than {_EDF_NAME} characters, EDF's limit"
    if format == "edf" and (name in _EDF_RESERVED or not name.isprintable()):
        return "is a name that EDF reserves, or has control characters"
    return ""


def _about_label(format: str, name: str) -> str:
    if format == "edf":
        return "" if name.isprintable() else "has control characters, which EDF cannot store"
    # MNE writes other characters as `&#…;`, and reads `;` as the end of a label.
    is_latin = all(ord(character) < 256 for character in name)
    return "" if is_latin and ";" not in name else "has characters that MNE cannot read back from FIF"
