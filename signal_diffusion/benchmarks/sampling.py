"""The speed of sampling: our sampler, and diffusers' pipeline of a network of the same size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from signal_diffusion.benchmarks.counterparts import Counterpart, counterpart_of
from signal_diffusion.benchmarks.experiments import Case, case_of, rows_of_each
from signal_diffusion.benchmarks.machine import ceilings
from signal_diffusion.benchmarks.measuring import Row, Variant, compared
from signal_diffusion.benchmarks.report import Report
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.inspection import any_conditions
from signal_diffusion.experiment.network import method_on
from signal_diffusion.models.flops import forward_flops
from signal_diffusion.sampling.batch_size import BatchSize
from signal_diffusion.sampling.trained import Trained, load_trained

__all__ = ["sampling_report"]


def sampling_report(
    path: Path | None, overrides: Sequence[str], *, num: int, against_diffusers: bool, rounds: int
) -> Report:
    """Measure the generation of samples.

    Parameters
    ----------
    path
        An experiment file, whose network has fresh weights; or a model, as `sample` takes it; None = each backbone at
        its default size.

    Raises
    ------
    UserError
        If the experiment is wrong, there is no model, or diffusers has nothing like it.
    """

    def rows_of(file: Path) -> list[Row]:
        case = case_of(file, overrides, trains=False)
        against = counterpart_of(case) if against_diffusers else None
        return _rows(case.name, _untrained(case), num, against, rounds=rounds)

    def rows_of_model(folder: Path) -> list[Row]:
        if against_diffusers:
            raise UserError("--against diffusers: needs an experiment file, not a model")
        trained = load_trained(folder, overrides)
        return _rows(trained.checkpoint.name, trained, num, None, rounds=rounds)

    is_model = path is not None and not path.is_file() and path.suffix != ".toml"
    rows, notes = rows_of_each(path, rows_of_model if is_model else rows_of)
    return Report.of("sample", rows, notes)


def _rows(name: str, trained: Trained, num: int, against: Counterpart | None, *, rounds: int) -> list[Row]:
    """Rows of generating `num` samples, in batches as `sample` makes them.

    Latents are not decoded.
    """
    generator, sampling = trained.generator, trained.sampling
    device = torch.device(generator.device)
    model, cond = trained.model, any_conditions(trained.attributes, num)
    one = torch.zeros(1, *generator.network_shape)
    flops = forward_flops(model, one, cond[:1])
    model = model.to(device)
    guide = trained.guide.to(device) if trained.guide else None
    size = BatchSize(None, shape=generator.shape, device=device, most=num).size
    evaluated = 0

    def count(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        nonlocal evaluated
        evaluated += len(inputs[0])

    def generate() -> torch.Tensor:
        return generator.generate(model, cond, range(num), guide=guide, batch_size=size)

    handles = [network.register_forward_pre_hook(count) for network in {model, guide or model}]
    generate()
    for handle in handles:
        handle.remove()
    variants = [Variant(name="ours", call=generate, examples=num, flops=evaluated * flops)]
    if against:
        call = against.pipeline(device, num, steps=sampling.steps, guidance_scale=sampling.guidance_scale)
        passes = 1 + (sampling.guidance_scale > 1)
        theirs = num * sampling.steps * passes * against.flops
        variants.append(Variant(name="diffusers", call=call, examples=num, flops=theirs))
    case = f"{name}, {num} samples, {sampling.sampler}, {sampling.steps} steps, guidance {sampling.guidance_scale:g}"
    return compared(case, variants, ceilings(device, torch.float32), device=device, rounds=rounds)


def _untrained(case: Case) -> Trained:
    """The model of an experiment with fresh weights, which guides itself where it needs a guide."""
    resolved, experiment = case.resolved, case.experiment
    model, attributes = case.network()
    return Trained(
        checkpoint=Path(),
        experiment=experiment,
        card=resolved.dataset.card,
        representation=resolved.dataset.representation,
        attributes=tuple(attributes),
        method=method_on(experiment.model, resolved.dataset.card),
        model=model.eval(),
        averaged=False,
        autoencoder=resolved.autoencoder,
        guide=model,
    )
