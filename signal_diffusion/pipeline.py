"""A trained model in Python: load it, generate samples, and export it as a self-contained folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from signal_diffusion.config.types import MAX_BATCH_SIZE, MAX_SAMPLES
from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Caption
from signal_diffusion.sampling import export as exporting
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.drawing import generate_samples
from signal_diffusion.sampling.finite import finite_samples
from signal_diffusion.sampling.given_windows import check_fills_windows
from signal_diffusion.sampling.long.in_memory import recordings_in_memory
from signal_diffusion.sampling.long.recordings import Recordings
from signal_diffusion.sampling.long.request import build_recording_request
from signal_diffusion.sampling.montages import electrodes_named, with_electrodes
from signal_diffusion.sampling.options import (
    check_not_long,
    named_as_arguments,
    named_in_errors,
    override,
    whole_number,
)
from signal_diffusion.sampling.request_options import RequestOptions, build_request, request_options
from signal_diffusion.sampling.restoring.given import as_recording
from signal_diffusion.sampling.restoring.job import restore
from signal_diffusion.sampling.restoring.options import RestoreOptions
from signal_diffusion.sampling.restoring.result import Restoration
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained, load_trained, with_captions, with_options
from signal_diffusion.sampling.whole_windows import Noise

if TYPE_CHECKING:
    import pandas as pd
    from mne.io import BaseRaw

__all__ = ["SignalDiffusionPipeline"]


class SignalDiffusionPipeline:
    """A trained model that generates the same samples as `signal-diffusion sample`.

    Mistakes raise a `UserError` with the command's message, naming arguments instead of options.

    Examples
    --------
    >>> pipeline = SignalDiffusionPipeline.from_pretrained("runs/captions")  # doctest: +SKIP
    >>> samples = pipeline("an EEG of a relaxed woman", num=8, seed=1, guidance_scale=2.5)  # doctest: +SKIP
    >>> samples.signals, samples.ch_names, samples.sfreq  # doctest: +SKIP
    >>> [raw] = pipeline("an EEG of a relaxed woman", duration=60).to_raws()  # doctest: +SKIP
    >>> pipeline.save_pretrained("exported")  # doctest: +SKIP
    """

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        """The model with its experiment, the dataset's card and everything else that sampling needs."""

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, use_ema: bool | None = None, overrides: Sequence[str] = ()
    ) -> SignalDiffusionPipeline:
        """Load a model.

        Parameters
        ----------
        path
            Folder of a run (its newest checkpoint, unless `generation.checkpoint` names another), of a checkpoint, or
            of a model that `save_pretrained` wrote; or such a model on the Hub, "owner/name" or "owner/name@revision".
        use_ema
            Whether to use the averaged weights; None = as in the experiment. Exported models have only one set.
        overrides
            Keys of the experiment, as `--set` accepts them: "data.paths.root=DIR" for a dataset that was moved.

        Raises
        ------
        UserError
            If there is no model, it is damaged, or weights that it needs are missing or changed.
        """
        if isinstance(overrides, str) or not all(isinstance(each, str) for each in overrides):
            raise UserError(f'overrides: {overrides!r}; expected a list of strings, such as ["data.paths.root=DIR"]')
        weights = [] if use_ema is None else [override("use_ema", use_ema)]
        with named_in_errors({"use_ema": "use_ema"} if weights else {}, others="overrides"):
            return cls(load_trained(Path(path).expanduser(), [*overrides, *weights]))

    @overload
    def __call__(self, caption: str | None = None, *, duration: float, **options: Any) -> Recordings: ...

    @overload
    def __call__(
        self, caption: str | None = None, *, timeline: str | Path | pd.DataFrame, **options: Any
    ) -> Recordings: ...

    @overload
    def __call__(
        self, caption: str | None = None, *, duration: None = None, timeline: None = None, **options: Any
    ) -> Samples: ...

    def __call__(
        self,
        caption: str | None = None,
        *,
        num: int | None = None,
        label: str | None = None,
        attributes: Mapping[str, str | float] | None = None,
        like: str | None = None,
        windows: int | None = None,
        noise: Noise | None = None,
        electrodes: str | None = None,
        duration: float | None = None,
        timeline: str | Path | pd.DataFrame | None = None,
        batch_size: int | Literal["auto"] | None = None,
        **sampling: Any,
    ) -> Samples | Recordings:
        """Generate samples; without conditions, a model of one category generates its classes in turn.

        Parameters
        ----------
        caption, label, attributes
            Conditions of all samples; attributes that are not given are left open.
        num
            Number of samples; None = 1.
        like
            A split of the run's dataset, from which the conditions are sampled instead.
        windows
            Number of whole windows with all electrodes, instead of `num`; the model must generate single electrodes and
            be conditioned on `electrode`. Signals are then (windows, electrodes, samples).
        noise
            Noise of a window's electrodes: "shared" (None) or "independent".
        electrodes
            Electrodes of a model that knows them by position: "Fz,Cz", "10-20" or "10-10"; None = those that it was
            trained on. `sampling.montages.with_montage` takes electrodes at any positions.
        duration
            Length in seconds of `num` recordings, whose windows continue each other, instead of single windows.
        timeline
            Conditions of recordings over time: a table with onset, duration and trial_type, or a file of it; see
            `timeline.read_timeline`. Without `duration`, recordings end with it.
        batch_size
            Samples per batch, which changes samples only by rounding; None or "auto" = as many as fit.
        **sampling
            Keys of [generation.sampling] for this call, such as seed, steps, sampler and guidance_scale; None = as in
            the experiment. Sample i depends only on (seed, i) and its conditions.

        Raises
        ------
        UserError
            If the model does not know a condition, or a value is invalid.
        NotFiniteError
            If some samples have values that are not finite; its `samples` or `recordings` are the others.
        """
        fitting = batch_size is None or (isinstance(batch_size, str) and batch_size == "auto")
        size = None if fitting else whole_number("batch_size", batch_size, MAX_BATCH_SIZE)
        if "num_samples" in sampling:
            raise UserError("num_samples: use the argument num instead")
        is_long = duration is not None or timeline is not None
        with named_as_arguments():
            if is_long:
                check_not_long({"--windows": windows, "--noise": noise})
            wanted = request_options(
                attributes=attributes,
                label=label,
                caption=caption,
                like=like,
                num=num,
                windows=windows,
                noise=noise,
                electrodes=electrodes,
            )
            count = 1 if num is None else whole_number("num", num, MAX_SAMPLES)
            trained = self._with_options(sampling | {"num_samples": count})
            if is_long:
                return self._recordings(trained, wanted, duration, timeline, size)
            request, captions = build_request(wanted, trained.experiment, trained.card)
            trained = with_electrodes(self._with_captions(trained, captions), wanted.electrodes)
            generator = trained.generator
            batch = BatchSize(size, shape=generator.shape, device=generator.device, most=len(request))
            samples = batch.fit(partial(generate_samples, trained, request)).as_windows(request.electrodes)
            return finite_samples(trained, samples)

    def restore(
        self,
        recording: BaseRaw | str | Path,
        *,
        bad: Sequence[str] = (),
        bads_from_file: bool = False,
        add: Sequence[str] | None = None,
        to: str | Sequence[str] = (),
        gaps: Sequence[tuple[float, float]] = (),
        extend: float = 0.0,
        draws: int = 16,
        label: str | None = None,
        attributes: Mapping[str, str | float] | None = None,
        units: str | None = None,
        **sampling: Any,
    ) -> Restoration:
        """Restore electrodes and gaps of a recording, and continue it: the signals of `signal-diffusion restore`.

        The result is at the rate of the recording, and with `at_model_rate` at the model's.

        Parameters
        ----------
        recording
            An `mne.io.Raw`, or a file.
        bad
            Electrodes to restore although the recording has them.
        bads_from_file
            Whether to restore those that the recording marks as bad (`info["bads"]`) too. If it marks electrodes that
            `bad` does not name, this has to be set.
        add
            Of the electrodes that the recording lacks, those to restore; None = all that the model was trained on.
        to
            Restore every electrode of this montage that the recording lacks: "10-10", "10-20" or names.
        gaps
            Start and end of stretches to restore in all electrodes, s.
        extend
            Seconds to generate after the end.
        draws
            How often to generate what is missing, at least 2.
        label, attributes
            Conditions of all draws; attributes that are not given are left open.
        units
            Unit of the recording, if the file states a wrong one: V, mV, uV, nV.
        **sampling
            As in `__call__`, but guidance is off unless `guidance_scale` is given.

        Raises
        ------
        UserError
            If the model has no signals, or the recording cannot be restored as asked.
        """
        if "num_samples" in sampling:
            raise UserError("num_samples: use the argument draws instead")
        with named_as_arguments():
            options = RestoreOptions(
                bad=bad,
                bads_from_file=bads_from_file,
                add=add,
                to=electrodes_named(to, "--to") if isinstance(to, str) else to,
                gaps=gaps,
                extend=extend,
                draws=draws,
                units=units,
            )
            wanted = request_options(attributes=attributes, label=label)
            with as_recording(recording) as found:
                return restore(self._with_options({"guidance_scale": 1.0} | sampling), found, options, wanted)

    def save_pretrained(
        self, folder: str | Path, *, name: str = "", report: str | Path | None = None, half: bool = False
    ) -> Path:
        """Export the model as a new self-contained folder, which `from_pretrained` can load on any machine.

        Its model card has the name `name`, such as "owner/name" on the Hub, or the folder's. `report` is a folder that
        `signal-diffusion evaluate` wrote about this model: its JSON files are copied, with a summary in the card.
        `half` writes the weights in fp16.

        Raises
        ------
        UserError
            If the folder already exists, or the report is not of this model.
        """
        attached = None if report is None else Path(report).expanduser()
        return exporting.export(self.trained, Path(folder).expanduser(), name=name, report=attached, half=half)

    def _recordings(
        self,
        trained: Trained,
        wanted: RequestOptions,
        duration: float | None,
        timeline: str | Path | pd.DataFrame | None,
        batch_size: int | None,
    ) -> Recordings:
        check_fills_windows(trained)
        table = Path(timeline).expanduser() if isinstance(timeline, str | Path) else timeline
        request, captions = build_recording_request(
            wanted, trained.experiment, trained.card, duration=duration, timeline=table
        )
        trained = with_electrodes(self._with_captions(trained, captions), wanted.electrodes)
        return recordings_in_memory(trained, request, batch_size=batch_size)

    def _with_options(self, options: Mapping[str, Any]) -> Trained:
        given = {key: value for key, value in options.items() if value is not None}
        if "use_ema" in given:
            raise UserError("use_ema: selects the weights to load; pass it to from_pretrained")
        with named_in_errors({key: key for key in given}):
            return with_options(self.trained, [override(key, value) for key, value in given.items()])

    def _with_captions(self, trained: Trained, captions: list[str]) -> Trained:
        """The model with embedded captions; loads their encoder only while it embeds new ones."""
        texts = [attribute.texts for attribute in self.trained.attributes if isinstance(attribute, Caption)]
        if not captions or texts == [("", *captions)]:
            return trained
        captioned = with_captions(trained, captions)
        [caption] = captioned.attributes
        assert isinstance(caption, Caption)
        if self.trained.guide is not None:  # may differ from the guide of this call
            self.trained.guide.hold_captions(caption)
        self.trained = replace(self.trained, attributes=captioned.attributes)
        return captioned
