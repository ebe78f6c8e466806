"""Folders that may be conditions or groups with people inside: `pre/p01`, `post/p01`; `alpha/anna`, `beta/anna`."""

from __future__ import annotations

import logging
import re
import shlex
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from signal_diffusion.errors import UserError, listed

__all__ = ["NO_PERSON", "refuse_conditions"]

logger = logging.getLogger(__name__)

NO_PERSON = re.compile(  # folders by session or kind of data
    r"(ses|task|acq|run)-.*|(sess?|session|run|task|trial|block|visit|day|night)[ _-]?\d+|eeg", re.IGNORECASE
)
_CONDITION = re.compile(  # folders by condition or group
    r"pre|post|before|after|baseline|follow[ _-]?up|rest(ing)?|task|active|sham|e[oc]|(eyes?[ _-]?)?(open|closed?)|"
    r"(healthy[ _-]?)?controls?|healthy|hc|patients?|cases?|normal|abnormal|male|female|train(ing)?|val(idation)?|test",
    re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"(?!(rec|recording|file|part|seg|segment|eeg|data|set|take)[ _-]?\d)[A-Za-z]+[ _-]?\d+", re.IGNORECASE
)
_RECORDED = """
eeg ecg eog emg erp raw data signal signals record recording recordings file export exported output filtered clean
cleaned processed preprocessed original montage
session run trial block test train exam experiment measurement paradigm part segment start end first last
rest resting relax relaxed relaxing relaxation baseline eye eyes open opened close closed eo ec
awake wake sleep sleeping nap night day morning noon afternoon evening
task tasks pre post before after during left right up down hand hands foot feet fist fists both tongue finger
motor imagery mi me movement execution math maths arithmetic counting reading writing typing reasoning memory nback
back attention stroop flanker oddball go nogo auditory audio visual video videos image images picture pictures face
faces house houses word words object objects music silence noise song speech story film movie game gaming driving
walk walking sit sitting stand standing run running active passive real sham control placebo drug
stress stressed calm happy sad neutral fear anger positive negative valence arousal emotion meditation breathing
hyperventilation hv photic stimulation stim stimulus flicker ssvep target nontarget standard deviant
congruent incongruent easy hard low medium high normal abnormal healthy patient seizure ictal interictal preictal
"""
_NO_NAMES = frozenset(_RECORDED.split())  # words in names of files that say what was recorded, not who


def refuse_conditions(base: Path, inside: Mapping[str, Collection[str]]) -> None:
    """Raise a `UserError` if folders seem to be conditions or groups, or may be as well as people.

    `inside` is folder → names of what is in it, files or folders. Folders with a number in their names are people.
    Folders are conditions by their names, or if more numbered names are inside than there are folders. They may be
    conditions if several names that could be those of people are in several folders; a single one is warned about.
    """
    if len(inside) < 2 or any(re.search(r"\d", folder) for folder in inside):
        return
    names = sorted(name for found in inside.values() for name in found)
    numbers = [match[0] for name in names if not NO_PERSON.fullmatch(name) and (match := _NUMBERED.match(name))]
    numbered = len(numbers) == len(names)
    folders = listed(sorted(inside))
    if all(map(_CONDITION.fullmatch, inside)) or (numbered and len(set(numbers)) > len(inside)):
        pattern = r"^[^/]+/([A-Za-z]+[ _-]?\d+)" if numbered else r"^[^/]+/([^/._ -]+)"
        raise UserError(
            f"{base}: folders {folders} seem to be conditions or groups, not {len(inside)} people; if so "
            "use --label folder (the folder is the label, what is inside is the person) or "
            f"--subject-pattern {shlex.quote(pattern)}, or --subject-from folder if each folder is a person"
        )
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if not all(map(_may_be_a_person, names)) or 2 * len(repeated) < len(set(names)):
        return
    if len(repeated) == 1:
        logger.warning(
            "%s: folders %s are taken as %d people; if the person is %s, use --label folder",
            base, folders, len(inside), repeated[0],
        )  # fmt: skip
        return
    raise UserError(
        f"{base}: folders {folders} contain the same names, {listed(repeated)}; if these names are the people use "
        "--label folder (the folder is the label) or --subject-pattern '^[^/]+/([^/.]+)', or --subject-from folder if "
        "each folder is a person"
    )


def _may_be_a_person(name: str) -> bool:
    words = [word.lower() for word in re.split(r"[\W_]+", name) if word]
    return all(word.isalpha() and word not in _NO_NAMES for word in words)
