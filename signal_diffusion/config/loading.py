"""Reads an experiment from a TOML file and overrides; reports all mistakes of a file at once, one line each.

`sources` reads the file, and translates older layouts.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from signal_diffusion.config import schema
from signal_diffusion.config.autoencoder_tables import AUTOENCODER, AutoencoderExperiment
from signal_diffusion.config.dotted import dotted
from signal_diffusion.config.offer import Offer
from signal_diffusion.config.rules.checking import check as check_rules
from signal_diffusion.config.schema import Experiment
from signal_diffusion.config.sources import CONFIG_NAME, Problem, Source, line_of, source_of
from signal_diffusion.config.validating import parse_experiment, unknown_names, validated
from signal_diffusion.errors import UserError, log_once

__all__ = ["WrongKindError", "check_keys", "is_autoencoder_file", "read_autoencoder_experiment", "read_experiment"]

logger = logging.getLogger(__name__)
AnyExperiment = TypeVar("AnyExperiment", Experiment, AutoencoderExperiment)


class WrongKindError(UserError):
    """The file is of a diffusion model and not of an autoencoder as expected, or the other way round."""


def read_experiment(path: Path, offer: Offer, overrides: Sequence[str] = ()) -> Experiment:
    """Read an experiment file.

    Parameters
    ----------
    path
        TOML file in the layout of `schema`, or a file of an older layout.
    offer
        The backbones, representations, methods, predictions, samplers and time grids that a file may name.
    overrides
        `table.key=value` pairs that override the file; values are TOML, or else plain text.

    Raises
    ------
    UserError
        With one line per mistake: unknown keys, wrong types, values out of range, conflicting settings.
    WrongKindError
        If the file is of an autoencoder.
    """
    source = source_of(path, overrides)
    if _name(source.tables) == AUTOENCODER:
        raise WrongKindError(f"{path}: is an autoencoder experiment; expected a diffusion experiment")

    def parse(tables: dict[str, Any]) -> tuple[Experiment | None, list[Problem]]:
        return parse_experiment(tables, offer)

    def check(experiment: Experiment) -> Iterator[tuple[str, str]]:
        yield from offer.check(experiment)
        yield from offer.check_schedule(experiment) if source.translation is None else ()

    experiment = _checked(source, parse, check)
    if source.translation:
        for key, message in offer.check_schedule(experiment):
            log_once(logger, line_of(source, Problem(tuple(key.split(".")), message)))
    return experiment


def read_autoencoder_experiment(
    path: Path, backbones: Collection[str], representations: Collection[str], overrides: Sequence[str] = ()
) -> AutoencoderExperiment:
    """Read the experiment file of an autoencoder for one of the `representations`.

    Raises
    ------
    UserError
        With one line per mistake, as `read_experiment`.
    WrongKindError
        If the file is of a diffusion model: it names one of the `backbones`, or no model.
    """
    source = source_of(path, overrides)
    if (name := _name(source.tables)) is None or name in backbones:
        found = f"found {name!r}" if name else "found none"
        raise WrongKindError(
            f"{path}: is a diffusion experiment; expected an autoencoder experiment, with [model] name = "
            f"{AUTOENCODER!r}, {found}"
        )

    def parse(tables: dict[str, Any]) -> tuple[AutoencoderExperiment | None, list[Problem]]:
        experiment, problems = validated(AutoencoderExperiment, tables, ())
        return experiment, [*problems, *unknown_names(tables, {("data", "representation"): representations})]

    def check(experiment: AutoencoderExperiment) -> Iterator[tuple[str, str]]:
        for each in source.translation.expected if source.translation else ():
            yield each.key, "is determined by the dataset; remove it"

    return _checked(source, parse, check)


def check_keys(path: Path, overrides: Sequence[str] = ()) -> None:
    """Check what the tables themselves tell about a file: unknown keys, wrong types and values out of range.

    Takes a fraction of a second, while names and architectures can only be checked after importing PyTorch. The reading
    functions check all of this again.

    Raises
    ------
    UserError
        With one line per mistake.
    """
    source = source_of(path, overrides)
    kind = AutoencoderExperiment if _name(source.tables) == AUTOENCODER else Experiment
    problems = [*source.problems, *validated(kind, _without(source.tables, source.problems), ())[1]]
    if problems:
        source.warn()
        raise UserError(*(line_of(source, problem) for problem in problems))


def is_autoencoder_file(path: Path, overrides: Sequence[str] = ()) -> bool:
    """Whether an experiment file is of an autoencoder."""
    return _name(source_of(path, overrides).tables) == AUTOENCODER


def _name(tables: Mapping[str, Any]) -> str | None:
    """The `[model] name`; None if it is missing, "" if it is not a string."""
    model = tables.get("model", {})
    name = model.get("name") if isinstance(model, dict) else ""
    return name if name is None or isinstance(name, str) else ""


def _checked(
    source: Source,
    parse: Callable[[dict[str, Any]], tuple[AnyExperiment | None, list[Problem]]],
    check: Callable[[AnyExperiment], Iterable[tuple[str, str]]],
) -> AnyExperiment:
    """The experiment, or a `UserError` with all problems: those of single keys, of combinations, and of `check`."""
    tables = source.tables
    source.warn()
    problems = [*source.problems]
    experiment, found_here = parse(_without(tables, problems))
    problems += found_here
    if problems:  # without these keys, the rest of the file may have further mistakes
        experiment, further = parse(_without(tables, problems))
        problems += [problem for problem in further if problem not in problems]
    written = set(dict(dotted(_without(tables, problems))))
    found: list[tuple[str, str]] = []
    if experiment is not None:
        mistaken = {".".join(problem.location) for problem in problems}
        found += check_rules(experiment, written, mistaken, {".".join(key) for key in source.overridden})
        found += () if problems else check(experiment)
    first = dict(reversed(found))  # one line per key
    problems += [Problem(tuple(key.split(".")), first.pop(key)) for key, _ in found if key in first]
    if experiment is None or problems:
        raise UserError(*(line_of(source, problem) for problem in problems))
    _warn_of_unused_epochs(source, experiment.training)
    return experiment


def _warn_of_unused_epochs(source: Source, training: schema.Training) -> None:
    """Warn if `epochs` is given next to `max_steps`, which decides; not if only `max_steps` is from --set: a trial."""
    overridden = {key for key in ("epochs", "max_steps") if ("training", key) in source.overridden}
    is_todays = source.translation is None and source.path.name != CONFIG_NAME  # older files are told in their warning
    in_file = is_todays and "epochs" in source.tables.get("training", {})
    if training.max_steps is None or overridden == {"max_steps"} or not (in_file or overridden):
        return
    message = f"{training.epochs} has no effect, because max_steps = {training.max_steps} decides; remove one of them"
    log_once(logger, line_of(source, Problem(("training", "epochs"), message)))


def _without(tables: dict[str, Any], problems: Sequence[Problem]) -> dict[str, Any]:
    """The tables without the keys that have problems."""
    kept = copy.deepcopy(tables)
    for problem in problems:
        table: Any = kept
        for part in problem.location[:-1]:
            if not isinstance(table.get(part), dict):  # the problem is in an element of a list, or a whole table
                break
            table = table[part]
        else:
            part = problem.location[-1]
        table.pop(part, None)
    return kept
