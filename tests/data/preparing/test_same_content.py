import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from signal_diffusion.data.preparing.prepare import prepare
from signal_diffusion.errors import UserError
from tests.data.preparing.options import OPTIONS
from tests.data.recordings.files import noise, write_edf


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Two people with one file each; the second file is a copy of the first one."""
    path = write_edf(tmp_path / "lab" / "anna" / "one.edf", noise(["Fz", "Cz", "Pz"]))
    (tmp_path / "lab" / "bert").mkdir()
    shutil.copy(path, tmp_path / "lab" / "bert" / "two.edf")
    return tmp_path / "lab"


def test_two_people_with_the_same_samples_are_refused_even_if_bad_files_are_skipped(lab: Path, tmp_path: Path):
    complaint = r"anna/one\.edf \(subject anna\) and bert/two\.edf \(subject bert\) have the same samples"
    with pytest.raises(UserError, match=complaint):
        prepare([lab], tmp_path / "out", replace(OPTIONS, skip_bad=True))
    assert not (tmp_path / "out").exists()


def test_a_copy_of_ones_own_recording_is_warned_about(lab: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (lab / "bert" / "two.edf").rename(lab / "anna" / "two.edf")
    with caplog.at_level(logging.WARNING):
        card = prepare([lab], tmp_path / "out", OPTIONS)
    assert "1 recordings have the same samples as another one of the same subject" in caplog.text
    assert "anna/two.edf (as anna/one.edf)" in caplog.text
    assert card.splits["train"]["subjects"] == ["anna"]


def test_the_same_silence_of_two_people_is_not_the_same_recording(lab: Path, tmp_path: Path):
    silence = noise(["Fz", "Cz", "Pz"])
    silence.apply_function(lambda values: 0 * values, verbose="ERROR")
    for name in ("carl", "dora"):
        write_edf(lab / name / "x.edf", silence)
    (lab / "bert" / "two.edf").unlink()
    card = prepare([lab], tmp_path / "out", OPTIONS)
    assert len(card.skipped) == 2
