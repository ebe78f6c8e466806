"""Recordings of people with different electrodes, and the dataset of them."""

from pathlib import Path

from signal_diffusion.data.preparing.options import PrepareOptions
from tests.data.recordings.files import noise, write_edf

__all__ = ["ELECTRODES", "LACKS", "OPTIONS", "write_recordings"]

ELECTRODES = ("Fz", "Cz", "Pz", "C3", "C4")
LACKS = {"a/1": (), "b/1": (), "c/1": ("Cz", "Pz"), "d/1": (), "d/2": ("Pz",), "e/1": ("Cz", "Pz"), "f/1": ()}
"""Name of each recording → electrodes that it lacks."""
OPTIONS = PrepareOptions(
    channels=",".join(ELECTRODES), window=256, representation="timeseries", missing="absent", splits=(0.7, 0.3, 0)
)


def write_recordings(root: Path) -> Path:
    """Write a folder of these recordings, of six people."""
    for seed, (name, lacking) in enumerate(LACKS.items()):
        own = [each for each in ("C4", "Fz", "Cz", "Pz", "Fp1", "C3") if each not in lacking]
        write_edf(root / f"{name}.edf", noise(own, seconds=9, seed=seed))
    return root
