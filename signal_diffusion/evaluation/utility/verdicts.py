"""Gains as results of a report, which answer its question on use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from signal_diffusion.evaluation.features import Features, Unavailable
from signal_diffusion.evaluation.measurement import Measurement, Metric
from signal_diffusion.evaluation.report import Estimate, Report, Result, Verdict
from signal_diffusion.evaluation.utility.result import Effect, Row, Utility, effect_of, sentence_of

__all__ = ["with_utility"]

VERDICTS: Mapping[Effect, Verdict] = {
    "synthetic data help": "as real",
    "synthetic data harm": "differs",
    "no effect shown": "unclear",
    "no interval": "unclear",
}


def with_utility(report: Report, found: Utility) -> Report:
    """The report with the gain of each classifier, which decides on use, and with the curves on its page."""
    gains = (_result(found, found.gain(name)) for name in found.classifiers)
    return dataclasses.replace(report, results=(*report.results, *gains), utility=found)


def _result(found: Utility, row: Row) -> Result:
    metric = Metric(
        name=f"gain-{found.task}-{row.classifier}",
        title=f"Gain, {found.task}, {row.classifier}",
        unit=found.score_title,
        question="use",
        better="larger",
        definition=f"{found.score_title} of {row.classifier} for {found.task}, trained on real windows and as many "
        "synthetic ones and tested on people who were not trained on, minus that of the same trained on the real "
        "windows only; negative = worse. As good as real if its 95 % interval over people and seeds is above 0, "
        "different if it is below 0.",
        compute=_not_from_features,
    )
    words = sentence_of(row).removeprefix(f"{row.classifier}: ")
    if row.gain is None:
        return Result(metric=metric, missing=words)
    total = Estimate(value=row.gain, floor=None, ratio=None)
    return Result(metric=metric, total=total, missing=words, decided=VERDICTS[effect_of(row)])


def _not_from_features(real: Features, synthetic: Features) -> Measurement:
    raise Unavailable("gains are measured by training on more than two sets of windows")
