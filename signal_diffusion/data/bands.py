"""The frequency bands of EEG."""

from __future__ import annotations

__all__ = ["BANDS"]

BANDS = {"delta": (1, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30), "gamma": (30, 45)}
"""Frequency bands of EEG in Hz; the upper edge is excluded."""
