"""A trained model in Python: read, asked for samples, written as a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Caption
from signal_diffusion.sampling import export as exporting
from signal_diffusion.sampling.drawing import BatchSize, draw
from signal_diffusion.sampling.options import named_as_arguments, named_in_errors, override, whole_number
from signal_diffusion.sampling.request_options import build_request, request_options
from signal_diffusion.sampling.requests import Noise
from signal_diffusion.sampling.samples import Samples
from signal_diffusion.sampling.trained import Trained, load_trained, with_captions, with_options

__all__ = ["SignalDiffusionPipeline"]


class SignalDiffusionPipeline:
    """Samples of a trained model, those that `signal-diffusion sample` makes.

    Mistakes are a `UserError`, whose message is the command's with arguments for options.

    Examples
    --------
    >>> pipeline = SignalDiffusionPipeline.from_pretrained("runs/captions")  # doctest: +SKIP
    >>> samples = pipeline("an EEG of a relaxed woman", num=8, seed=1, guidance_scale=2.5)  # doctest: +SKIP
    >>> samples.signals, samples.ch_names, samples.sfreq  # doctest: +SKIP
    >>> pipeline.save_pretrained("exported")  # doctest: +SKIP
    """

    def __init__(self, trained: Trained) -> None:
        self.trained = trained
        """The model with its experiment, the dataset's card and all else that sampling takes."""

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, use_ema: bool | None = None, overrides: Sequence[str] = ()
    ) -> SignalDiffusionPipeline:
        """Read a model.

        Parameters
        ----------
        path
            A run's folder (its newest checkpoint, unless `generation.checkpoint` says another), a checkpoint's, one
            that `save_pretrained` wrote, or such a one on the Hub, "owner/name" or "owner/name@revision".
        use_ema
            Whether to take the averaged weights; None = as the experiment says. Exported models have one set alone.
        overrides
            Keys of the experiment, as `--set` takes them: "data.paths.root=DIR" for a dataset that was moved.

        Raises
        ------
        UserError
            Where there is none, it is damaged, or what it needs has gone or changed.
        """
        if isinstance(overrides, str) or not all(isinstance(each, str) for each in overrides):
            raise UserError(f'overrides: {overrides!r}; expected a list of texts, such as ["data.paths.root=DIR"]')
        told = [] if use_ema is None else [override("use_ema", use_ema)]
        with named_in_errors({"use_ema": "use_ema"} if told else {}, others="overrides"):
            return cls(load_trained(Path(path).expanduser(), [*overrides, *told]))

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
        seed: int | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        guidance_scale: float | None = None,
        batch_size: int | Literal["auto"] | None = None,
        **sampling: Any,
    ) -> Samples:
        """Draw samples; without conditions, of all classes in turn, or what the model makes of the null.

        Parameters
        ----------
        caption, label, attributes
            What all samples are to be, as the model was trained; attributes that are not named are left open.
        num
            How many; None = one.
        like
            A split of the run's dataset, whose conditions are drawn instead.
        windows
            So many whole windows of all electrodes in the place of `num`, where a sample is an electrode that the model
            knows by name: signals are (windows, electrodes, samples).
        noise
            Of a window's electrodes: "shared" (None) or "independent".
        seed, steps, sampler, guidance_scale, **sampling
            Keys of [generation.sampling] for this call; None = as the experiment says. Sample i of a seed and a
            condition is always the same.
        batch_size
            Samples at a time, which changes them by rounding alone; None or "auto" = as many as fit.

        Raises
        ------
        UserError
            For what the model does not know, or a value that a key does not take.
        """
        fitting = batch_size is None or (isinstance(batch_size, str) and batch_size == "auto")
        size = None if fitting else whole_number("batch_size", batch_size)
        if "num_samples" in sampling:
            raise UserError("num_samples: is `num` here; expected num=…")
        options = {"seed": seed, "steps": steps, "sampler": sampler, "guidance_scale": guidance_scale, **sampling}
        with named_as_arguments():
            wanted = request_options(
                attributes=attributes,
                label=label,
                caption=caption,
                like=like,
                num=num,
                windows=windows,
                noise=noise,
            )
            trained = self._with(options | {"num_samples": 1 if num is None else whole_number("num", num)})
            request, captions = build_request(wanted, trained.experiment, trained.card)
            trained = self._held(trained, captions)
            generator = trained.generator
            batch = BatchSize(size, shape=generator.shape, device=generator.device, most=len(request))
            return batch.fit(partial(draw, trained, request)).as_windows(request.electrodes)

    def save_pretrained(self, folder: str | Path, *, name: str = "") -> Path:
        """Write the model into a new folder that holds all it needs, and that `from_pretrained` reads anywhere.

        The model card calls it `name`, such as the Hub's "owner/name", or as the folder.

        Raises
        ------
        UserError
            Where the folder is there already.
        """
        return exporting.export(self.trained, Path(folder).expanduser(), name=name)

    def _with(self, options: Mapping[str, Any]) -> Trained:
        given = {key: value for key, value in options.items() if value is not None}
        if "use_ema" in given:
            raise UserError("use_ema: chooses the weights; give it to from_pretrained")
        with named_in_errors({key: key for key in given}):
            return with_options(self.trained, [override(key, value) for key, value in given.items()])

    def _held(self, trained: Trained, captions: list[str]) -> Trained:
        """With captions that it may not have been asked for before; their encoder is in memory meanwhile alone."""
        texts = [attribute.texts for attribute in self.trained.attributes if isinstance(attribute, Caption)]
        if not captions or texts == [("", *captions)]:
            return trained
        told = with_captions(trained, captions)
        [caption] = told.attributes
        assert isinstance(caption, Caption)
        if self.trained.guide is not None:  # which may be another one than this call's
            self.trained.guide.hold_captions(caption)
        self.trained = replace(self.trained, attributes=told.attributes)
        return told
