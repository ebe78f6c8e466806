"""Samples that are generated at each validation, compared with validation examples.

Every representation with a spectrum has a `spectral_distance`; the metrics of `window_metrics` need signals in
microvolts.
"""

from __future__ import annotations

from collections.abc import Callable

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from signal_diffusion.config import schema
from signal_diffusion.config.schema import GENERATED
from signal_diffusion.data.card import DatasetCard
from signal_diffusion.data.loaders import Examples, evenly_spaced
from signal_diffusion.data.representations.representation import Representation
from signal_diffusion.diffusion.generation import SampleGenerator
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
        examples: Examples,
        training: Examples,
        generator: SampleGenerator,
        representation: Representation,
        accelerator: Accelerator,
        *,
        card: DatasetCard,
        table: schema.Validation,
        guidance_scale: float,
        seed: int,
    ) -> None:
        """Measure the validation `examples`, which are data (C, H, W) even if the model works on latents.

        Raises
        ------
        UserError
            If they have no spectrum from 1 to 45 Hz, or `table.metric` cannot be computed.
        """
        self._representation, self._count = representation, table.num_generated
        self._samples = GeneratedSamples(
            examples, generator, representation, table=table, guidance_scale=guidance_scale, seed=seed
        )
        self._has_signals = representation.inverse != "none"
        self._windows: WindowMetrics | None = None  # on the first process
        self.notes: list[str] = []
        """Lines about metrics that cannot be computed."""
        missing = dict.fromkeys(NAMES, NO_SIGNALS.format(representation.name))
        if self._has_signals:
            missing = self._measure(examples, training, accelerator, card)
        for reason in dict.fromkeys(missing.values()):
            names = ", ".join(f"{GENERATED}{name}" for name in NAMES if missing.get(name) == reason)
            self.notes.append(f"num_generated: no {names}: {reason}")
        followed = table.metric.removeprefix(GENERATED)
        if followed in missing:
            raise UserError(
                f"[training.validation] metric: {table.metric!r} cannot be computed: {missing[followed]}; choose "
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

    def _measure(
        self,
        examples: Examples,
        training: Examples,
        accelerator: Accelerator,
        card: DatasetCard,
    ) -> dict[str, str]:
        """Prepare the metrics in µV on the first process; returns those that cannot be computed, and why, on all."""
        missing: list[dict[str, str]] = []
        with raise_on_all_processes():
            if accelerator.is_main_process:
                rows = self._samples.rows
                few = [rows[index] for index in evenly_spaced(len(rows), MOST_WINDOWS)]
                real = windows_in(examples, few, self._representation, card, seed=self._samples.seed)
                people = max(1, len(real.people))
                others = rows_of_people(training, people, most=self._count, seed=self._samples.seed)
                other = windows_in(training, others, self._representation, card, seed=self._samples.seed)
                self._windows = WindowMetrics(real, other, self._count)
                missing = [self._windows.missing]
                if (size := self._windows.size) < self._count:
                    self.notes.append(
                        f"num_generated: only {size} of {self._count} samples are compared in microvolts, since the "
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
            signals = self._representation.to_signals(examples, self._samples.seed, range(self._count))
            own = [self._windows(signals)]
        [found] = gather_object(own)
        if found is None:
            accelerator.print("warning: some generated samples are not finite, or far too large: no metrics of them")
            return {}
        return {f"{GENERATED}{name}": value for name, value in found.items()}
