"""`prepare --shard I/N` in array jobs, and `--merge`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.data.preparing.prepare import Shard, merge_shards, prepare, prepare_shard
from signal_diffusion.errors import UserError
from tests.data.preparing.options import OPTIONS
from tests.data.preparing.test_prepare import bids, contents, eeg, ten_subjects, write_eeg  # noqa: F401  # fixtures


def read_shards(recordings: Path, output: Path, *numbers: int, count: int = 3, **changes: object) -> list[int]:
    options = replace(OPTIONS, **changes)  # type: ignore[arg-type]
    return [prepare_shard([recordings], output, options, Shard(number, count))[0] for number in numbers]


def units(output: Path) -> Iterator[Path]:
    return output.with_name(f".{output.name}.units").iterdir()


def test_shards_are_merged_to_the_bytes_of_one_process(bids: Path, tmp_path: Path) -> None:  # noqa: F811
    prepare([bids], tmp_path / "one", OPTIONS)
    assert read_shards(bids, tmp_path / "out", 3, 1, 2) == [6, 7, 7]
    assert not (tmp_path / "out").exists()
    merge_shards([bids], tmp_path / "out", OPTIONS)
    assert contents(tmp_path / "out") == contents(tmp_path / "one")
    assert {path.name for path in tmp_path.iterdir()} == {"one", "out", "ten_subjects"}


@pytest.mark.parametrize(
    "changes",
    [
        {"reject_above": "auto"},
        {"events": "left=A", "tmin": -0.5, "tmax": 1.548, "baseline": (-0.5, 0.0)},
        {"label": "annotation", "representation": "timeseries"},
    ],
    ids=["auto", "events", "annotations"],
)
def test_whatever_a_unit_holds_survives_its_file(changes: dict[str, object], tmp_path: Path) -> None:
    import mne

    for number in range(4):
        raw = mne.io.RawArray(1e-6 * eeg(number, 16), mne.create_info(["Fz", "Cz", "Pz"], 125.0, "eeg"), verbose=False)
        raw.set_annotations(mne.Annotations([1.0 + number, 8.0], [5.0, 6.0], ["A", "B"]))
        folder = tmp_path / "in" / f"p{number}"
        folder.mkdir(parents=True)
        mne.export.export_raw(folder / "one.edf", raw, physical_range=(-300, 300), verbose="ERROR")
    prepare([tmp_path / "in"], tmp_path / "one", options := replace(OPTIONS, **changes))  # type: ignore[arg-type]
    read_shards(tmp_path / "in", tmp_path / "out", 1, 2, count=2, **changes)
    merge_shards([tmp_path / "in"], tmp_path / "out", options)
    assert contents(tmp_path / "out") == contents(tmp_path / "one")


def test_missing_shards_are_named_in_one_line(bids: Path, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(UserError, match=r"merge: no shard of .* is there; run this command with --shard 1/N to N/N"):
        merge_shards([bids], tmp_path / "out", OPTIONS)
    read_shards(bids, tmp_path / "out", 1, 3, 4, count=5)
    with pytest.raises(UserError, match=r"merge: 8 of 20 recordings have not been read .*--shard 2/5, 5/5$") as error:
        merge_shards([bids], tmp_path / "out", OPTIONS)
    assert len(error.value.lines) == 1


def test_shards_of_different_numbers_are_said_in_one_line_unless_nothing_is_missing(
    bids: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    read_shards(bids, tmp_path / "out", 1, count=3)
    read_shards(bids, tmp_path / "out", 2, count=4)
    with pytest.raises(UserError, match=r"merge: 9 of 20 .* of different numbers were read \(1/3, 2/4\)") as error:
        merge_shards([bids], tmp_path / "out", OPTIONS)
    assert len(error.value.lines) == 1
    read_shards(bids, tmp_path / "out", 1, 2, count=2)
    merge_shards([bids], tmp_path / "out", OPTIONS)


def test_a_repeated_shard_reads_only_what_is_missing(bids: Path, tmp_path: Path) -> None:  # noqa: F811
    read_shards(bids, tmp_path / "out", 2)
    kept, lost = sorted(path for path in units(tmp_path / "out") if path.suffix == ".json")[:2]
    before = kept.stat().st_mtime_ns, kept.stat().st_ino
    lost.unlink()  # as if a kill had come between the signals and the document
    read_shards(bids, tmp_path / "out", 2)
    assert lost.exists() and (kept.stat().st_mtime_ns, kept.stat().st_ino) == before


def test_a_shard_of_changed_files_or_other_options_does_not_count(bids: Path, tmp_path: Path) -> None:  # noqa: F811
    read_shards(bids, tmp_path / "out", 1, 2, 3)
    with pytest.raises(UserError, match=r"merge: 20 of 20 recordings"):
        merge_shards([bids], tmp_path / "out", replace(OPTIONS, reference="none"))
    first = bids / "sub-00" / "eeg" / "sub-00_task-rest_eeg.edf"
    write_eeg(first, eeg(99))
    os.utime(first, ns=(1, 1))
    with pytest.raises(UserError, match=r"merge: 1 of 20 recordings .* repeat --shard 1/3$"):
        merge_shards([bids], tmp_path / "out", OPTIONS)


def test_a_bad_file_is_an_error_of_its_shard_and_can_be_mended_or_skipped(bids: Path, tmp_path: Path) -> None:  # noqa: F811
    bad = bids / "sub-00" / "eeg" / "sub-00_task-rest_eeg.edf"
    content = bad.read_bytes()
    bad.write_bytes(b"")
    assert read_shards(bids, tmp_path / "out", 2, 3) == [7, 6]
    with pytest.raises(UserError, match=r"sub-00_task-rest_eeg\.edf: the file is empty"):
        read_shards(bids, tmp_path / "out", 1)
    skipping = replace(OPTIONS, skip_bad=True)
    read_shards(bids, tmp_path / "skipped", 1, 2, 3, skip_bad=True)
    assert merge_shards([bids], tmp_path / "skipped", skipping) == prepare([bids], tmp_path / "one", skipping)
    bad.write_bytes(content)
    read_shards(bids, tmp_path / "out", 1)
    merge_shards([bids], tmp_path / "out", OPTIONS)


def test_more_shards_than_recordings_are_no_error(bids: Path, tmp_path: Path) -> None:  # noqa: F811
    assert read_shards(bids, tmp_path / "out", 30, count=30) == [0]


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3"])
def test_a_shard_is_one_of_so_many(text: str) -> None:
    with pytest.raises(UserError, match="expected NUMBER/COUNT"):
        Shard.parse(text)


def test_the_command_reads_shards_and_merges(bids: Path, tmp_path: Path) -> None:  # noqa: F811
    words = ["prepare", str(bids), "--output", str(tmp_path / "out"), "--channels", "Fz,Cz,Pz", "--window", "256"]
    for number in (1, 2):
        result = CliRunner().invoke(app, [*words, "--shard", f"{number}/2"], catch_exceptions=False)
        assert f"shard {number}/2: 10 of 20 recordings are read" in result.output
    assert "train on it" in CliRunner().invoke(app, [*words, "--merge"], catch_exceptions=False).output
    with pytest.raises(UserError, match="--merge: merges all shards once they are read"):
        CliRunner().invoke(app, [*words, "--merge", "--shard", "1/2"], catch_exceptions=False)
