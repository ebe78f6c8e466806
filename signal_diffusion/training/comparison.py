"""Samples that are generated at each validation, compared with validation examples.

Every representation with a spectrum has a `spectral_distance`; the metrics of `window_metrics` need signals in
microvolts.
"""

from __future__ import annotations

from collections.abc import Callable

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from signal_diffusion.config.schema import GENERATED
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import Examples, evenly_spaced
from signal_diffusion.errors import UserError, raise_on_all_processes
from signal_diffusion.evaluation.comparison import MOST_WINDOWS
from signal_diffusion.training.spectral_distance import GeneratedSamples
from signal_diffusion.training.window_metrics import NAMES, WindowMetrics, rows_of_people, windows_in

__all__ = ["Comparison"]

NO_SIGNALS = "{} examples of this dataset cannot be turned into microvolts"


class Comparison:
    """Compares `GeneratedSamples` with the examples that the validation loss is computed on."""

    def __init__(
        self,
        samples: GeneratedSamples,
        training: Examples,
        accelerator: Accelerator,
        *,
        card: DatasetCard,
        metric: str,
    ) -> None:
        """Measure the examples of `samples`, and training examples for the floors.

        Raises
        ------
        UserError
            If the `metric` that the run follows is one of generated samples and cannot be computed.
        """
        self._samples, self._representation = samples, samples.representation
        self._has_signals = self._representation.inverse != "none"
        self._windows: WindowMetrics | None = None  # on the first process
        self.notes: list[str] = []
        """Lines about metrics that cannot be computed."""
        missing = dict.fromkeys(NAMES, NO_SIGNALS.format(self._representation.name))
        if self._has_signals:
            missing = self._measure(training, accelerator, card)
        for reason in dict.fromkeys(missing.values()):
            names = ", ".join(f"{GENERATED}{name}" for name in NAMES if missing.get(name) == reason)
            self.notes.append(f"num_generated: no {names}: {reason}")
        followed = metric.removeprefix(GENERATED)
        if followed in missing:
            raise UserError(
                f"[training.validation] metric: {metric!r} cannot be computed: {missing[followed]}; choose "
                "another metric, or give it what it needs"
            )

    def __call__(self, model: nn.Module, accelerator: Accelerator, poll: Callable[[], None]) -> dict[str, float]:
        """Return `spectral_distance` in dB, and the metrics and floors of `window_metrics`, on every process.

        {} after a warning if the VAE cannot be reloaded. `poll` is called before each evaluation of the network and may
        raise. Neither the global random state nor the model's mode changes.
        """
        try:
            examples = self._samples(model, accelerator, poll)
        except UserError as error:  # raised on all processes
            accelerator.print(f"warning: no metrics of generated samples: {error}")
            return {}
        distance = {"spectral_distance": self._samples.spectral_distance(examples)}
        return distance | self._in_microvolts(examples, accelerator)

    def _measure(self, training: Examples, accelerator: Accelerator, card: DatasetCard) -> dict[str, str]:
        """Prepare the metrics in µV on the first process; returns those that cannot be computed, and why, on all."""
        missing: list[dict[str, str]] = []
        with raise_on_all_processes():
            if accelerator.is_main_process:
                samples, count, seed = self._samples, self._samples.count, self._samples.seed
                few = [samples.rows[index] for index in evenly_spaced(len(samples.rows), MOST_WINDOWS)]
                real = windows_in(samples.examples, few, self._representation, card, seed=seed)
                others = rows_of_people(training, max(1, len(real.people)), most=count, seed=seed)
                other = windows_in(training, others, self._representation, card, seed=seed)
                self._windows = WindowMetrics(real, other, count)
                missing = [self._windows.missing]
                if (size := self._windows.size) < count:
                    self.notes.append(
                        f"num_generated: only {size} of {count} samples are compared in microvolts, since the "
                        "validation examples, or those of as many training people, are no more"
                    )
                if self._windows.no_floors:
                    self.notes.append(f"num_generated: no floors: {self._windows.no_floors}")
        return gather_object(missing)[0]

    def _in_microvolts(self, examples: Tensor, accelerator: Accelerator) -> dict[str, float]:
        """The metrics of generated examples (N, C, H, W), computed by the first process, on every process."""
        if not self._has_signals:
            return {}
        own: list[dict[str, float] | None] = []
        if self._windows is not None:
            signals = self._representation.to_signals(examples, self._samples.seed, range(self._samples.count))
            own = [self._windows(signals)]
        [found] = gather_object(own)
        if found is None:
            accelerator.print("warning: some generated samples are not finite, or far too large: no metrics of them")
            return {}
        return {f"{GENERATED}{name}": value for name, value in found.items()}
