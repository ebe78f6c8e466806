"""Ages and sexes of the people recorded, from the rows of their subject tables."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from signal_diffusion.data.ages_and_sexes import SEX_COLUMNS, read_ages, read_sexes
from signal_diffusion.data.recordings.recording import Recording
from signal_diffusion.data.recordings.subjects import first_value

__all__ = ["with_ages_and_sexes"]

logger = logging.getLogger(__name__)


def with_ages_and_sexes(
    recordings: Sequence[Recording], *, skip_bad: bool = False
) -> tuple[list[Recording], list[str]]:
    """Read the columns age, sex and gender of all recordings' rows; returns the recordings, and notes for the card.

    Each note is also a warning. The columns sex and gender of `participant` become `female` and `male`; the first of
    them with a value is the recording's gender. Raises `UserError` for ages that cannot be read, unless `skip_bad`.
    """
    columns: dict[tuple[Path, str], dict[int, str]] = defaultdict(dict)
    for recording in recordings:
        for name, (table, line) in recording.places.items():
            if name.strip().lower() in ("age", *SEX_COLUMNS):
                columns[table, name][line] = recording.participant[name]
    read: dict[tuple[Path, str], Mapping[int, Any]] = {}
    notes = []
    for (table, name), values in columns.items():
        lines = sorted(values)
        if name.strip().lower() == "age":
            ages, found = read_ages(
                [(f"line {line}", values[line]) for line in lines],
                table=str(table),
                column=name,
                skip_bad=skip_bad,
                remedy="; correct them, empty the cells, or leave such ages out with --skip-bad",
            )
            read[table, name] = dict(zip(lines, ages, strict=True))
        else:
            categories, found = read_sexes(list(values.values()), column=name)
            read[table, name] = {line: categories[value] for line, value in values.items()}
        for note in found:
            logger.warning("%s: %s", table, note)
        notes += [f"{table.name}: {note}" for note in found]
    return [_with_values(recording, read) for recording in recordings], notes


def _with_values(recording: Recording, read: Mapping[tuple[Path, str], Mapping[int, Any]]) -> Recording:
    values = {
        name: read[table, name][line] for name, (table, line) in recording.places.items() if (table, name) in read
    }
    sexes = {name: value for name, value in values.items() if name.strip().lower() != "age"}
    newest = [recording.places[name][0] for name in sexes][-1:]  # a table of the user's comes after participants.tsv
    current = {name: value for name, value in sexes.items() if recording.places[name][0] in newest}
    age = first_value(values, ("age",))
    return replace(
        recording,
        gender=first_value(current, SEX_COLUMNS) or recording.gender,
        age=recording.age if age is None else age,
        participant={**recording.participant, **sexes},
    )
