"""Fill the template of the page: verdicts, metrics with their definitions, inputs, and figures.

Not `mne.Report`: each of its pages has a megabyte of scripts and the time at which it was made, its table of contents
takes half of a phone, and verdicts and tables would have to be HTML of our own that it does not escape.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from signal_diffusion.escaping import for_terminal
from signal_diffusion.evaluation.measurement import QUESTIONS
from signal_diffusion.evaluation.page.pictures import pictures
from signal_diffusion.evaluation.report import AS_GOOD, Estimate, Report, Result, Verdict
from signal_diffusion.evaluation.text import by_scale, number

__all__ = ["VERDICTS", "render"]

TEMPLATE = Path(__file__).with_name("report.html.jinja")
VERDICTS: Mapping[Verdict, tuple[str, str]] = {
    "as real": ("✓", "as good as real"),
    "unclear": ("?", "unclear"),
    "differs": ("✗", "differs from real"),
    "missing": ("–", "not available"),
}
"""Verdict → a mark and words, so that it does not depend on colour."""
GAINS: Mapping[Verdict, str] = {"as real": "helps", "unclear": "no effect shown", "differs": "harms"}
"""The words for a gain."""


def render(report: Report) -> str:
    """The page: one HTML file without scripts, with everything in it; the same text for the same report."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_printable
    )
    environment.filters |= {"number": number, "parts": _parts}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        report=report,
        sets=_sets(report),
        by_scale=list(by_scale(report)),
        questions=QUESTIONS,
        verdicts=VERDICTS,
        gains=GAINS,
        as_good=AS_GOOD,
        pictures=pictures(report),
    )


def _printable(value: Any) -> Any:
    """Text without control characters; recordings may have any in their labels."""
    return for_terminal(value) if type(value) is str else value


def _parts(result: Result) -> dict[str, Mapping[str, Estimate]]:
    """The parts that a metric has, by what they are."""
    parts = {"label": result.classes, "band": result.bands, "electrode": result.electrodes}
    return {name: estimates for name, estimates in parts.items() if estimates}


def _sets(report: Report) -> list[dict[str, Any]]:
    """The windows that were compared: role, name, and numbers."""
    groups = report.groups
    found = {"real": groups.real, "synthetic": groups.synthetic, "floor (other people)": groups.other}
    return [
        {
            "role": role,
            "name": features.windows.name,
            "used": len(features),
            "given": len(features.root),
            "people": len(features.windows.people) or None,
        }
        for role, features in found.items()
        if features is not None
    ]
