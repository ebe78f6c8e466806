"""Restore a recording: read what is given, generate the rest window by window, and write it."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from signal_diffusion.data.publishing import atomic_folder
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.errors import print_warning
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.filling import fill
from signal_diffusion.sampling.given_windows import check_fills_windows, window_filler
from signal_diffusion.sampling.options import override
from signal_diffusion.sampling.request_options import RequestOptions, build_request
from signal_diffusion.sampling.requests import Request
from signal_diffusion.sampling.restoring.draws import draws_on_disk
from signal_diffusion.sampling.restoring.given import read_given
from signal_diffusion.sampling.restoring.header import planned
from signal_diffusion.sampling.restoring.options import RestoreOptions
from signal_diffusion.sampling.restoring.plan import Plan
from signal_diffusion.sampling.restoring.progress import EvaluationProgress, OnProgress
from signal_diffusion.sampling.restoring.provenance import about_restoration
from signal_diffusion.sampling.restoring.resampled import at_recorded_rate, given_at_recorded_rate
from signal_diffusion.sampling.restoring.result import Restoration
from signal_diffusion.sampling.restoring.writing import check_formats, write_restoration
from signal_diffusion.sampling.trained import Trained, with_options

__all__ = ["OnPlan", "restore", "restore_to_folder", "restored"]

OnPlan = Callable[[Plan], None]
"""Called with what is given and restored, before anything is generated."""


def restore(
    trained: Trained,
    recording: Recording,
    options: RestoreOptions,
    conditions: RequestOptions,
    on_progress: OnProgress = lambda done, total: None,
) -> Restoration:
    """Restore a recording; its draws are in a temporary folder, which is removed with the result. See `restored`."""
    folder = Path(tempfile.mkdtemp(prefix="signal-diffusion-restore-"))
    try:
        result = restored(trained, recording, options, conditions, folder, on_progress=on_progress)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(result.at_model_rate, shutil.rmtree, folder, ignore_errors=True)
    return result


def restore_to_folder(
    trained: Trained,
    recording: Recording,
    options: RestoreOptions,
    conditions: RequestOptions,
    output: Path,
    *,
    formats: Sequence[str] = ("fif",),
    on_plan: OnPlan = lambda plan: None,
    on_progress: OnProgress = lambda done, total: None,
) -> list[str]:
    """Restore a recording into the new folder `output`, complete or not at all; returns the names of its files.

    See `restored` and `write_restoration`. Errors name command-line options.
    """

    def checked(plan: Plan) -> None:
        check_formats(formats, plan)
        on_plan(plan)

    with atomic_folder(output, "the restored recording", replaces=False) as folder:
        work = folder / ".work"
        work.mkdir()
        result = restored(trained, recording, options, conditions, work, on_plan=checked, on_progress=on_progress)
        names = write_restoration(folder, result, formats, title=f"{recording.path.name} · {trained.checkpoint.name}")
        shutil.rmtree(work)
    return names


def restored(
    trained: Trained,
    recording: Recording,
    options: RestoreOptions,
    conditions: RequestOptions,
    folder: Path,
    *,
    on_plan: OnPlan = lambda plan: None,
    on_progress: OnProgress = lambda done, total: None,
) -> Restoration:
    """Restore a recording with files in `folder`; memory holds one window of all draws, and which values are known.

    The result is at the rate of the recording, the draws are generated at the model's.

    Conditions are those of all draws. Without any, they are left open if the model was trained for that
    (`model.conditioning.cfg_dropout`); otherwise the draws of a model of one category have its classes in turn.

    Raises
    ------
    UserError
        If the model has no signals, or the recording cannot be restored as the options say.
    """
    check_fills_windows(trained)
    trained, plan = planned(trained, recording, options)
    trained = with_options(trained, [override("num_samples", options.draws)])
    request = _request(trained, conditions)
    for line in _doubts(trained):
        print_warning(line)
    on_plan(plan)
    given, reading = read_given(recording, plan, trained.card, folder, units=options.units)
    known = plan.known(reading.num_samples)
    own = None
    if plan.ratio != 1:  # before anything is generated, so that errors come early
        own = given_at_recorded_rate(recording, plan, trained.card, folder, units=options.units)
    values = draws_on_disk(folder / "draws.npy", given, known, options.draws)
    generator = trained.generator
    batch = BatchSize(None, shape=generator.shape, device=generator.device, most=options.draws)
    progress = EvaluationProgress(on_progress, _evaluations(trained) * math.ceil(options.draws / batch.size))
    filler = window_filler(
        trained,
        lambda start: request.cond,
        range(options.draws),
        batch_size=batch.size,
        on_evaluation=progress.on_evaluation,
    )
    fill(values, known, generator.shape[-1], filler, on_window=progress.on_window)
    restoration = Restoration(
        plan=plan,
        card=trained.card,
        known=known,
        values=values,
        spans=reading.spans,
        about=about_restoration(trained, request, conditions, recording, reading, plan),
    )
    return restoration if own is None else at_recorded_rate(restoration, own)


def _evaluations(trained: Trained) -> int:
    """About how often the network is evaluated for a batch; some samplers take two for a step."""
    repeats = 1 if trained.generator.takes_known else trained.sampling.resampling_steps
    return trained.sampling.steps * repeats


def _request(trained: Trained, conditions: RequestOptions) -> Request:
    """The conditions of all draws."""
    request, _ = build_request(conditions, trained.experiment, trained.card)
    if conditions.values or not trained.experiment.model.conditioning.cfg_dropout:
        return request
    return replace(request, cond=request.cond.drop(torch.ones(len(request), dtype=torch.bool)))


def _doubts(trained: Trained) -> list[str]:
    """Lines about what makes the model less fit for this; a `UserError` if it cannot."""
    trained.generator.check_takes_given()
    lines = []
    if not trained.generator.takes_known:
        lines.append(
            f"{trained.checkpoint.name} was trained without [training.masking]: it restores by replacement, which is "
            f"weaker; more generation.sampling.resampling_steps (now {trained.sampling.resampling_steps}) fit better "
            "to what is given, and add up its errors"
        )
    if trained.card.tmin is not None:
        lines.append(
            f"{trained.checkpoint.name} was trained on windows around events; it takes every stretch for such a window"
        )
    return lines
