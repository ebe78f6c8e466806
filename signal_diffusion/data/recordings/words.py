"""Words in names of files and folders: those that look like a person, and those that say when or what was recorded."""

from __future__ import annotations

import re
from collections.abc import Collection

__all__ = [
    "CONDITION",
    "DATE",
    "GROUP",
    "NO_PERSON",
    "NUMBERED",
    "PART",
    "PERSON",
    "SESSION",
    "VISIT",
    "is_id",
    "is_visit",
    "may_be_a_person",
    "names_a_person",
    "says_what",
    "without_dates",
]  # fmt: skip

_DAY, _MONTH, _YEAR = r"(?:0[1-9]|[12]\d|3[01])", r"(?:0[1-9]|1[0-2])", r"(?:19|20)\d\d"
DATE = rf"(?<!\d)(?:{_YEAR}[-_. ]?{_MONTH}[-_. ]?{_DAY}|{_DAY}[-_. ]{_MONTH}[-_. ]{_YEAR})(?!\d)"
SESSION = r"(?:sess?|session|run|task|trial|block|visit|day|night)[ _-]?\d+"
NO_PERSON = re.compile(  # folders by session, date or kind of data
    rf"(ses|task|acq|run)-.*|{SESSION}|eeg|\d\d_tcp_\w+|"
    rf"{DATE}([ _T-]\d\d[-_.:h]?\d\d([-_.:m]?\d\d)?)?",
    re.IGNORECASE,
)
VISIT = re.compile(  # folders by visit, year, or short date (240131, 310124)
    r"(tp?|v|w|m|wk|week|month|year|wave|time(point)?|phase|follow[ _-]?up|exp(eriment)?|round|cond(ition)?)[ _-]?\d+|"
    rf"{_YEAR}([-_.]{_MONTH})?|\d\d{_MONTH}{_DAY}|{_DAY}{_MONTH}\d\d",
    re.IGNORECASE,
)
CONDITION = re.compile(  # folders by condition or group
    r"pre|post|before|after|baseline|follow[ _-]?up|rest(ing)?|task|active|sham|e[oc]|(eyes?[ _-]?)?(open|closed?)|"
    r"(healthy[ _-]?)?controls?|healthy|hc|patients?|cases?|normal|abnormal|male|female|"
    r"train(ing)?|val(idation)?|dev|test|eval(uation)?|first|second|third|"
    r"mon(day)?|tue(sday)?|wed(nesday)?|thu(rsday)?|fri(day)?|sat(urday)?|sun(day)?",
    re.IGNORECASE,
)
PART = re.compile(  # folders that hold a data set or a part of it
    r"edfs?|bdf|gdf|csv|mat|data([ _-]?sets?)?|data[ _-]?base|raw([ _-]?(data|eeg))?|eeg([ _-]?data)?|signals?|files?|"
    r"recordings?|records?|subjects?|participants?|people|all|train(ing)?|val(idation)?|dev|test|eval(uation)?|"
    r"(.*[_ -])?part[ _-]?\d+|(groups?|site|cohort|batch|lab|cent(er|re)|study|set|fold)[ _-]?\w{0,3}",
    re.IGNORECASE,
)
PERSON = re.compile(r"(sub|subj|subject|s|p|pat|patient|participant|person|vp|proband|id)[ _-]?\d+", re.IGNORECASE)
GROUP = re.compile(  # groups of people, before their numbers: CTL_01
    r"ctr?l|controls?|hc|pat|patients?|cases?|healthy|(ab)?normal|mdd|sc?z|adh?d|pd|td|mci|ftd", re.IGNORECASE
)
NUMBERED = re.compile(
    r"(?!(rec|recording|file|part|seg|segment|eeg|data|set|take)[ _-]?\d)[A-Za-z]+[ _-]?\d+", re.IGNORECASE
)
_RECORDED = """
eeg ecg eog emg erp raw data signal signals rec record recording recordings file export exported output filtered clean
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


def without_dates(name: str) -> str:
    """The name without dates, and without the separators around them at its ends."""
    return re.sub(DATE, "", name).strip("_-. ") if re.search(DATE, name) else name


def says_what(word: str) -> bool:
    """Whether a word says what was recorded, such as `rest`, rather than who."""
    return word.lower() in _NO_NAMES or CONDITION.fullmatch(word) is not None


def is_visit(name: str) -> bool:
    """Whether all words of a name say when or what was recorded: `T1`, `week4`, `session1_pre`, `part 2`."""
    if any(words.fullmatch(name) for words in (VISIT, PART, CONDITION, NO_PERSON)):
        return True
    return all(
        VISIT.fullmatch(word) or NO_PERSON.fullmatch(word) or says_what(word) for word in re.split(r"[_\-. ]+", name)
    )


def is_id(name: str) -> bool:
    """Whether a name is that of a person in form, `p01`, or a number of four digits or more that is no date."""
    return PERSON.fullmatch(name) is not None or (
        re.fullmatch(r"(?!00)\d{4,}", name) is not None and without_dates(name) != "" and not VISIT.fullmatch(name)
    )


def may_be_a_person(name: str) -> bool:
    """Whether a name consists of words that may be those of a person: `anna`, not `eyes open` or `a1`."""
    words = [word.lower() for word in re.split(r"[\W_]+", name) if word]
    return all(word.isalpha() and not says_what(word) for word in words)


def names_a_person(names: Collection[str]) -> bool:
    """Whether each of the names starts with letters and a number, and is no session, recording or part."""
    return all(
        not NO_PERSON.fullmatch(name) and not VISIT.fullmatch(name) and NUMBERED.match(name) is not None
        for name in names
    )
