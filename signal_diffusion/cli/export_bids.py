"""`signal-diffusion export-bids`: write samples or a dataset as a BIDS derivative."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from signal_diffusion.cli.progress import progress_bars

__all__ = ["export_bids"]


def export_bids(
    source: Annotated[
        Path,
        typer.Argument(metavar="SAMPLES|DATASET", help="Folder that `sample` wrote (with samples.npz), or a dataset."),
    ],
    output: Annotated[Path, typer.Option(help="Folder to write; must not exist yet.")],
) -> None:
    """Write samples or a dataset as a BIDS derivative: EDF files with events, channels, positions and participants."""
    from signal_diffusion.data import bids

    with progress_bars() as progress:
        summary = bids.export_bids(source, output, progress)
    print(
        f"{output}: {len(summary.people)} subjects, {summary.recordings} recordings, {summary.windows} windows, "
        f"{summary.seconds:.0f} s"
    )
    for note in summary.notes:
        print(f"  note: {note}")
    print("read the first one with mne-bids:")
    print(f"  paths = mne_bids.find_matching_paths({str(output)!r}, suffixes='eeg', extensions='.edf')")
    print("  raw = mne_bids.read_raw_bids(paths[0])")
