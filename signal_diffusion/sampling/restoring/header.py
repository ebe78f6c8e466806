"""What a recording has by its header, and the model for its electrodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from signal_diffusion.data.recordings.channels import channel_names, find_channels, missing_channels
from signal_diffusion.data.recordings.edf import channel_rates
from signal_diffusion.data.recordings.opening import errors_naming, open_recording
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.source import rate_ratio
from signal_diffusion.errors import UserError, listed
from signal_diffusion.sampling.montages import with_montage
from signal_diffusion.sampling.restoring.montage import montage_of
from signal_diffusion.sampling.restoring.options import RestoreOptions
from signal_diffusion.sampling.restoring.plan import Plan, plan_of
from signal_diffusion.sampling.trained import Trained

if TYPE_CHECKING:
    import mne

__all__ = ["planned"]


def planned(trained: Trained, recording: Recording, options: RestoreOptions) -> tuple[Trained, Plan]:
    """What is given of a recording and what is restored, from its header; and the model for these electrodes.

    A model that knows electrodes by place takes all electrodes of the recording that have a position, and those that
    are to be added.

    Raises
    ------
    UserError
        If the recording cannot be read as the model's training data were, or by the rules of `plan_of`.
    """
    card = trained.card
    if not {"band", "reference"} <= card.preprocessing.keys():
        raise UserError(
            "the model's card does not say how its recordings were filtered and referenced, so others cannot be read "
            "the same way; use a model whose dataset `prepare` made from recordings"
        )
    with errors_naming(recording.path):
        raw = open_recording(recording)
        if trained.experiment.model.conditioning.electrodes == "position":
            trained = with_montage(trained, montage_of(raw, card, options))
        plan = plan_of(raw, trained.card, options)
        plan = replace(plan, recorded_sfreq=_common_rate(recording.path, raw, plan))
        reference = card.preprocessing["reference"]
        if missing := missing_channels(_references(reference), raw):
            raise UserError(
                f"no channel {listed(missing)}, to which the model's data were referenced ({reference}); use a "
                "recording with it"
            )
    return trained, plan


def _references(reference: str) -> tuple[str, ...]:
    return () if reference in ("average", "none") else channel_names(reference)


def _common_rate(path: Path, raw: mne.io.BaseRaw, plan: Plan) -> float:
    """The rate of the electrodes, Hz; the model's if it is nearly that.

    Raises a `UserError` if one is below the model's, or differs from the others.
    """
    rates = channel_rates(path, raw) or [float(raw.info["sfreq"])] * len(raw.ch_names)
    own = {name: rates[index] for name, index in zip(plan.given, find_channels(plan.given, raw), strict=True)}
    most = max(own.values())
    if most < plan.sfreq * (1 - 1e-4):
        raise UserError(
            f"sampling rate {most:g} Hz is below the model's {plan.sfreq:g} Hz; use a recording with at least that"
        )
    if other := [name for name, rate in own.items() if rate != most]:
        raise UserError(f"{listed(other)}: recorded at other rates than {most:g} Hz; name them with --bad")
    return plan.sfreq if rate_ratio(plan.sfreq, most) == 1 else most
