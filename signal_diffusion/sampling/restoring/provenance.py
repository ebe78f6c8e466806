"""What `restored.json` says about how a recording was restored."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from signal_diffusion.data.recordings.reading import Reading
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.sampling.provenance import provenance_of, settings_of
from signal_diffusion.sampling.request_options import RequestOptions
from signal_diffusion.sampling.requests import Request
from signal_diffusion.sampling.restoring.plan import Plan
from signal_diffusion.sampling.trained import Trained

__all__ = ["about_restoration"]


def about_restoration(
    trained: Trained,
    request: Request,
    conditions: RequestOptions,
    recording: Recording,
    reading: Reading,
    plan: Plan,
) -> dict[str, Any]:
    """What `restored.json` says about how a recording was restored."""
    settings = settings_of(trained, request)
    del settings["electrodes"], settings["num_samples"]  # of `sample`
    written = {} if plan.ratio == 1 else {"written_sampling_rate": plan.recorded_sfreq}  # of FIF and EDF, not the npz
    preprocessing = {key: trained.card.preprocessing.get(key) for key in ("band", "notch", "reference")}
    return {
        "recording": recording.path.name,
        "recording_sha256": _sha256(recording.path) if recording.path.is_file() else None,  # some are folders
        "signals_blake2b": reading.digest,
        "restored_electrodes": plan.restored,
        "given_electrodes": plan.given,
        "left_out": asdict(plan.left_out),
        "gaps_seconds": plan.gaps,
        "extended_seconds": plan.extension / plan.sfreq,
        "sampling_rate": plan.sfreq,
        **written,
        **preprocessing,
        "draws": len(request),
    } | provenance_of(trained, settings, conditions.named())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
