"""Options that several tests prepare their recordings of three electrodes with."""

from signal_diffusion.data.preparing.options import PrepareOptions

__all__ = ["OPTIONS", "UNCHANGED"]

OPTIONS = PrepareOptions(channels="Fz,Cz,Pz", window=256)
UNCHANGED = PrepareOptions(
    representation="timeseries", channels="Fz,Cz,Pz", reference="none", band=(0.5, 45.0), rate=125.0
)
"""Time series that can be compared with what was recorded: no reference, and a wide band."""
