"""Utility that is measured in units of work, in other processes, has the bytes of one process."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from signal_diffusion.cli.evaluate_utility import utility
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.utility import trials
from signal_diffusion.evaluation.utility.measuring import measure_utility
from signal_diffusion.evaluation.utility.result import Utility
from signal_diffusion.evaluation.utility.trials import Workers
from tests.evaluation.killed_while_training import KilledWhileTraining
from tests.evaluation.test_utility import REAL, TRAIN, doubled, few_arms  # noqa: F401  # the last one is a fixture

pytest.importorskip("braindecode")


def measured(workers: Workers | None = None, classifiers: tuple[str, ...] = ("logreg",), **options: object) -> Utility:
    how = {"classifiers": classifiers, "seeds": 1, "workers": workers, **options}
    return measure_utility(TRAIN, REAL, doubled(TRAIN), **how)  # type: ignore[arg-type]


def bytes_of(found: Utility, folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in found.save(folder)]


@pytest.mark.usefixtures("few_arms")
def test_units_that_read_the_windows_from_a_file_make_the_same_bytes_and_leave_no_file(tmp_path: Path) -> None:
    expected = bytes_of(measured(seeds=2), tmp_path / "expected")
    work = tmp_path / "work"
    assert bytes_of(measured(Workers(1, None, work), seeds=2), tmp_path / "found") == expected
    assert not list(work.iterdir())


@pytest.mark.usefixtures("few_arms")
def test_the_result_does_not_depend_on_the_number_of_threads_and_leaves_it(tmp_path: Path) -> None:
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(bytes_of(measured(classifiers=("logreg", "riemann")), tmp_path / str(count)))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.usefixtures("few_arms")
def test_a_unit_whose_dask_worker_was_killed_is_done_again_and_the_bytes_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distributed = pytest.importorskip("distributed", reason="needs the extra `cluster`")
    how = {"classifiers": ("logreg", "riemann", "eegnet"), "quick": True}
    expected = bytes_of(measured(**how), tmp_path / "expected")  # type: ignore[arg-type]
    (tmp_path / "attempts").mkdir()
    monkeypatch.setattr(trials, "run_unit", KilledWhileTraining(tmp_path / "attempts", (0, 0.25)))
    done: list[int] = []
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        workers = Workers(1, cluster.scheduler_address, tmp_path / "work")
        found = measured(workers, **how, on_fit=lambda count, total: done.append(count))  # type: ignore[arg-type]

    assert bytes_of(found, tmp_path / "found") == expected
    attempts = Counter(path.name.rpartition(" ")[0] for path in (tmp_path / "attempts").iterdir())
    assert attempts["0 0.25"] == 2
    assert len(attempts) == 3 and attempts.total() <= 3 + 2  # and a result that the worker was not asked for yet
    assert done == list(range(1, 3 * 7 + 1)) and not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cluster": "node"}, "expected the address of a Dask scheduler"),
        ({"cluster": "tcp://node:1", "workers": 2}, "--workers has no effect with --cluster tcp://node:1"),
    ],
)
def test_options_that_conflict_are_refused_first(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        utility(tmp_path / "none", tmp_path / "out", **options)  # type: ignore[arg-type]
