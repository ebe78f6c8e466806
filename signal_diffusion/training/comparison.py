"""Samples that are generated at each validation, compared with validation examples.

`spectral_distance` is a log-spectral distance that every representation with a spectrum has: levels in dB are averaged
over the examples, electrodes and times of each side (`Representation.mean_spectrum`), and the distance is the root mean
square difference of the two spectra over the frequencies from 1 to 45 Hz. It needs no phase, and ignores differences
between electrodes. The metrics of `window_metrics` need signals in microvolts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
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
from signal_diffusion.models.conditioning.attributes import Conditioning
from signal_diffusion.randomness import Purpose, derived_seed
from signal_diffusion.training.sampling import gathered, own_numbers
from signal_diffusion.training.validation import in_eval_mode
from signal_diffusion.training.window_metrics import NAMES, WindowMetrics, rows_of_people, windows_in

__all__ = ["Comparison"]

LOWEST, HIGHEST = 1.0, 45.0
"""Hz, both included."""
BATCH = 64
"""Examples whose spectra are computed together."""
NO_SIGNALS = "{} examples of this dataset cannot be turned into microvolts"


class Comparison:
    """Generates the same number of samples each time, from the same noise, with conditions of validation examples.

    Sample i depends only on the weights and (seed, i), not on the number of processes; its noise differs from that of
    the previews and of later sampling. The reference is the examples that the validation loss is computed on.
    """

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
        self._seed = derived_seed(Purpose.COMPARISON, seed)
        self._generator = generator.without_guide(guidance_scale=guidance_scale, seed=self._seed)
        rows = evenly_spaced(len(examples), table.num_examples)
        x, values = examples[rows]
        chosen = torch.linspace(0, len(x) - 1, self._count).long()
        self._cond = Conditioning({name: column[chosen] for name, column in values.items()})
        self._reference = _mean_levels(x, representation)
        self._has_signals = representation.inverse != "none"
        self._windows: WindowMetrics | None = None  # on the first process
        self.notes: list[str] = []
        """Lines about metrics that cannot be computed."""
        missing = dict.fromkeys(NAMES, NO_SIGNALS.format(representation.name))
        if self._has_signals:
            missing = self._measure(examples, rows, training, accelerator, card)
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
        own = own_numbers(self._count, accelerator)
        with in_eval_mode(model):
            samples = self._generator.generate(model, self._cond[torch.tensor(own)], own, on_evaluation=poll)
        try:
            with self._generator.decoder_in_memory():
                examples = gathered(self._generator, own, samples, accelerator, count=self._count)
        except UserError as error:  # raised on all processes
            accelerator.print(f"warning: no metrics of generated samples: {error}")
            return {}
        difference = _mean_levels(examples, self._representation) - self._reference
        distance = {"spectral_distance": difference.square().mean().sqrt().item()}
        return distance | self._in_microvolts(examples, accelerator)

    def _measure(
        self,
        examples: Examples,
        rows: Sequence[int],
        training: Examples,
        accelerator: Accelerator,
        card: DatasetCard,
    ) -> dict[str, str]:
        """Prepare the metrics in µV on the first process; returns those that cannot be computed, and why, on all."""
        missing: list[dict[str, str]] = []
        with raise_on_all_processes():
            if accelerator.is_main_process:
                few = [rows[index] for index in evenly_spaced(len(rows), MOST_WINDOWS)]
                real = windows_in(examples, few, self._representation, card, seed=self._seed)
                people = max(1, len(real.people))
                others = rows_of_people(training, people, most=self._count, seed=self._seed)
                other = windows_in(training, others, self._representation, card, seed=self._seed)
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
            signals = self._representation.to_signals(examples, self._seed, range(self._count))
            own = [self._windows(signals)]
        [found] = gather_object(own)
        if found is None:
            accelerator.print("warning: some generated samples are not finite, or far too large: no metrics of them")
            return {}
        return {f"{GENERATED}{name}": value for name, value in found.items()}


def _mean_levels(x: Tensor, representation: Representation) -> Tensor:
    """Levels of the mean spectrum of examples (N, C, H, W) from 1 to 45 Hz: (F,) float64, dB re 1 µV."""
    total: Tensor | float = 0.0
    for part in x.split(BATCH):
        spectrum = representation.mean_spectrum(part)
        inside = (spectrum[0] >= LOWEST) & (spectrum[0] <= HIGHEST) if spectrum else torch.zeros(0)
        if spectrum is None or not inside.any():
            raise UserError(
                "[training.validation] num_generated: these examples have no spectrum from "
                f"{LOWEST:g} to {HIGHEST:g} Hz to compare; expected 0"
            )
        total = total + len(part) * spectrum[1][inside].double()
    assert isinstance(total, Tensor)
    return total / len(x)
