"""A run without TensorBoard goes on, and its metrics and previews on a full disk are lines that name the file."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from signal_diffusion.disks import FullDiskError
from signal_diffusion.training.images import draw_or_warn
from signal_diffusion.training.metrics_file import MetricsFile, read_rows
from signal_diffusion.training.outputs import TENSORBOARD, Outputs, tensorboard_writer
from signal_diffusion.training.tracking import Tracker
from tests.small_disk import SIZE, fill

LOST = "warning: TensorBoard: {}; the run goes on without it"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("no\nwriter")])
def test_after_an_error_nothing_more_is_written_and_one_line_says_so(error: Exception) -> None:
    lines: list[str] = []
    written: list[int] = []
    outputs = Outputs(lines.append)
    outputs.open(TENSORBOARD, lambda: written)

    def fail(out: list[int]) -> None:
        raise error

    for write in (lambda out: out.append(1), fail, lambda out: out.append(2)):
        outputs.write(TENSORBOARD, write)
    assert written == [1] and lines == [LOST.format(" ".join(str(error).split()))]


def test_a_tensorboard_that_cannot_be_opened_is_one_line_and_metrics_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "logs").write_text("a file")
    tracker = Tracker(tmp_path, tmp_path / "logs", active=True, first_step=0, last_step=2, resumed=False)
    tracker.metrics(1, {"train/loss": 0.5})
    tracker.close()
    assert read_rows(tmp_path / "metrics.jsonl") == [{"step": 1, "train/loss": 0.5}]
    assert capsys.readouterr().err.count("the run goes on without it") == 1


def test_an_error_in_tensorboards_thread_is_one_line_without_a_traceback(
    small_disk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # restored after the test
    lines: list[str] = []
    outputs = Outputs(lines.append)
    outputs.open(TENSORBOARD, lambda: tensorboard_writer(small_disk / "logs", purge_step=0))
    fill(small_disk)
    for _ in range(2):
        outputs.write(TENSORBOARD, lambda out: out.add_text("long", "x" * SIZE))
        outputs.write(TENSORBOARD, lambda out: out.flush())
    outputs.write(TENSORBOARD, lambda out: out.close())
    assert lines == [LOST.format("[Errno 28] No space left on device")]
    assert not capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="writes to a pipe without a reader")
def test_a_run_goes_on_when_nobody_reads_its_output_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stderr", pipe)
        monkeypatch.setattr(sys, "stdout", pipe)
        tracker = Tracker(tmp_path, None, active=True, first_step=0, last_step=1, resumed=False)
        tracker.message("stopped by SIGINT at step 0")
        print("warning: as other modules print it", file=sys.stderr, flush=True)
        tracker.conclude(["paused at step 0 of 1"])
        tracker.close()


def test_metrics_on_a_full_disk_name_the_file_and_leave_no_half_of_a_row(small_disk: Path) -> None:
    path = small_disk / "metrics.jsonl"
    metrics = MetricsFile(path, last_step=-1)
    metrics.write({"step": 1, "loss": 0.25})
    fill(small_disk)
    long = {"step": 2} | {f"{number:04}": 0.5 for number in range(1000)}
    with pytest.raises(FullDiskError, match=r"metrics.jsonl: cannot write metrics: the disk is full \(needs 12.7"):
        metrics.write(long)
    metrics.close()
    assert read_rows(path) == [{"step": 1, "loss": 0.25}]


def test_a_preview_on_a_full_disk_is_a_warning_and_leaves_no_part(small_disk: Path) -> None:
    lines: list[str] = []
    path = small_disk / "step-00000001.png"

    assert not draw_or_warn({path: lambda path: path.write_bytes(bytes(2 * SIZE))}, 1, lines.append)

    [line] = lines
    assert line.startswith(f"warning: no preview at step 1: {path}: cannot write the image: the disk is full (")
    assert line.endswith("; the run goes on") and not path.exists()
    assert draw_or_warn({path: lambda path: path.write_bytes(b"")}, 2, lines.append) and len(lines) == 1


def test_a_folder_in_the_place_of_the_metrics_is_an_error_that_names_it_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.mkdir()
    with pytest.raises(IsADirectoryError, match=r"metrics\.jsonl"):
        MetricsFile(path, last_step=3)
    assert list(tmp_path.iterdir()) == [path]
