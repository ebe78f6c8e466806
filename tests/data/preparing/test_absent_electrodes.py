"""`prepare --missing absent`: recordings with different electrodes in one dataset, and who may use it."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from signal_diffusion.data.amplitudes import Amplitudes
from signal_diffusion.data.card import CARD_NAME, DatasetCard
from signal_diffusion.data.dataset import MappedTensors, open_split
from signal_diffusion.data.montages import absent_electrodes, examples_with, main_montage, montages_of
from signal_diffusion.data.overview import describe, read_columns
from signal_diffusion.data.preparing.prepare import prepare
from signal_diffusion.data.representations.registry import representation_of
from signal_diffusion.data.representations.timeseries import TimeSeries
from signal_diffusion.data.stored_signals import open_signals
from signal_diffusion.data.verification.checks import check_dataset
from signal_diffusion.errors import UserError
from signal_diffusion.evaluation.reading import read_dataset, read_windows
from tests.data.preparing.absent import ELECTRODES, LACKS, OPTIONS, write_recordings
from tests.data.recordings.files import noise, staged, write_edf


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recordings(tmp_path_factory.mktemp("recordings") / "lab")


@pytest.fixture(scope="module")
def mixed(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "mixed"
    prepare([recordings], root, OPTIONS)
    return root


def examples(root: Path) -> dict[str, np.ndarray]:
    """The tensors of each recording, (windows, electrodes, samples)."""
    card, found = DatasetCard.load(root), {}
    for split in card.splits:
        x = MappedTensors(open_split(root, split, card).data.column("signal"), card.shape)
        names = read_columns(root, split, ["recording"])["recording"].to_numpy()
        found |= {name.removesuffix(".edf"): x[np.flatnonzero(names == name)][:, 0] for name in np.unique(names)}
    return found


def test_the_rows_of_absent_electrodes_are_nan_and_those_of_others_finite(mixed: Path) -> None:
    for name, x in examples(mixed).items():
        absent = [electrode in LACKS[name] for electrode in ELECTRODES]
        assert np.isnan(x[:, absent]).all() and np.isfinite(x[:, ~np.array(absent)]).all()


@pytest.mark.parametrize("reference", ["none", "average"])
def test_the_others_are_as_if_the_recording_was_prepared_without_the_absent_ones(
    recordings: Path, reference: str, tmp_path: Path
) -> None:
    path = recordings / "c" / "1.edf"
    whole, reading = staged(path, tmp_path / "a.npy", channels=ELECTRODES, absent=True, reference=reference)
    alone, _ = staged(path, tmp_path / "b.npy", channels=("Fz", "C3", "C4"), reference=reference)
    assert np.array_equal(whole[[0, 3, 4]], alone) and np.isnan(whole[[1, 2]]).all()
    assert reading.absent == ("Cz", "Pz")
    if reference == "average":
        assert np.abs(np.nansum(whole, axis=0)).max() < 1e-3


def test_the_card_counts_people_and_examples_of_each_montage(mixed: Path) -> None:
    card, found = DatasetCard.load(mixed), examples(mixed)
    people = {name: split for split, each in card.splits.items() for name in each["subjects"]}
    for montage in montages_of(card):
        own = [name for name, lacking in LACKS.items() if list(lacking) == montage["absent"]]
        for split in card.splits:
            names = [name for name in own if people[name[0]] == split]
            assert montage["subjects"][split] == len({name[0] for name in names})
            assert montage["examples"][split] == sum(len(found[name]) for name in names)
    assert [montage["absent"] for montage in montages_of(card)] == [[], ["Pz"], ["Cz", "Pz"]]
    assert absent_electrodes(card) == ["Cz", "Pz"]
    assert main_montage(card, [*card.splits]) == [*ELECTRODES]
    lines = [value for name, value in describe(card) if value.endswith(" examples")]
    assert lines[0].startswith("all 5: 4 subjects") and "3 of 5 electrodes, without Cz, Pz: 2 subjects" in lines[2]


def test_moments_are_those_of_the_windows_that_have_an_electrode(mixed: Path) -> None:
    card = DatasetCard.load(mixed)
    signals = representation_of(card)
    assert isinstance(signals, TimeSeries)
    train = [x for name, x in examples(mixed).items() if name[0] in card.splits["train"]["subjects"]]
    x = np.concatenate(train).astype(float) / signals.data_std  # z-scores
    assert np.nanmean(x, axis=(0, 2)) == pytest.approx(0, abs=2e-3)
    assert np.nanstd(x, axis=(0, 2)) == pytest.approx(1, abs=2e-3)
    assert np.nanmax(np.abs(x)) == pytest.approx(signals.limit, rel=1e-3)
    assert card.amplitudes["0.5"] == pytest.approx(np.median(np.abs(signals.std[0] * x[np.isfinite(x)])), rel=0.2)


def test_recordings_that_lack_nothing_give_the_same_dataset_to_the_byte(tmp_path: Path) -> None:
    for seed in range(3):
        write_edf(tmp_path / "in" / f"{seed}.edf", noise([*ELECTRODES], seed=seed))
    cards = [
        prepare([tmp_path / "in"], tmp_path / missing, replace(OPTIONS, missing=missing))
        for missing in ("absent", "refuse")
    ]
    same = [replace(card, command="", made_from="") for card in cards]
    assert same[0] == same[1] and same[0].files and not montages_of(cards[0])


def test_the_command_says_who_lacks_what(recordings: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        prepare([recordings], tmp_path / "out", OPTIONS)
    assert "3 of 7 recordings lack electrodes: c/1.edf (Cz, Pz), d/2.edf (Pz), e/1.edf (Cz, Pz); they are absent" in (
        caplog.text
    )


def test_a_dataset_that_cannot_be_trained_on_is_refused_in_one_line(recordings: Path, tmp_path: Path) -> None:
    def refused(complaint: str, inputs: Path = recordings, **changes: object) -> None:
        with pytest.raises(UserError, match=complaint) as caught:
            prepare([inputs], tmp_path / "out", replace(OPTIONS, **changes))
        assert caught.value.lines[1:] in ((), ("nothing was written; skip such files with --skip-bad",))
        assert not (tmp_path / "out").exists()

    refused("absent electrodes are for --representation timeseries, found db-only", representation="db-only")
    refused("no recording has Oz, so there is nothing real to learn", channels="Fz,C3,C4,Oz")
    refused("c/1.edf: has only Fz of Fz, Cz, Pz, expected at least 2 with --reference average", channels="Fz,Cz,Pz")
    refused("c/1.edf: has none of Cz, Pz, expected at least 1", channels="Cz,Pz", reference="none")
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["c", "e"], "validation": ["a", "b", "d", "f"]}))
    refused(
        "no training recording has Cz, Pz, so there is nothing to learn", splits_from=splits, splits=(0.8, 0.1, 0.1)
    )
    write_edf(tmp_path / "odd" / "1.edf", noise(["Fz", "Cz", "X1"]))
    write_edf(tmp_path / "odd" / "2.edf", noise(["Fz", "Cz"], seed=1))
    refused("know electrodes by position, and X1 has none", tmp_path / "odd", channels="Fz,Cz,X1")


def complaints(root: Path) -> dict[str, tuple[str, ...]]:
    return {each.name: each.complaints for each in check_dataset(root) if each.complaints}


def test_data_check_knows_which_electrodes_may_be_absent(mixed: Path, tmp_path: Path) -> None:
    assert not complaints(mixed)

    def changed(edit: Callable[[list[dict[str, Any]]], object]) -> dict[str, tuple[str, ...]]:
        root = shutil.copytree(mixed, tmp_path / "changed", dirs_exist_ok=True)
        entries = json.loads((mixed / CARD_NAME).read_text())
        edit(entries["preprocessing"]["montages"])
        (root / CARD_NAME).write_text(json.dumps(entries))
        return complaints(root)

    [found] = changed(lambda montages: montages[2].update(absent=["Pz", "C3"]))["tensors"][:1]
    assert "or NaN on the electrodes that a montage of the card lacks, but" in found and "/1.edf" in found
    wrong = changed(lambda montages: montages[2]["examples"].update(train=1000))
    assert wrong.keys() == {"marginals"} and "1000 examples without Cz, Pz, found" in wrong["marginals"][0]
    assert "names X9" in changed(lambda montages: montages[1]["absent"].append("X9"))["representation"][0]


def test_whoever_needs_the_same_electrodes_in_all_windows_says_so(mixed: Path) -> None:
    with pytest.raises(
        UserError, match=r"some recordings of the dataset lack electrodes \(Cz, Pz\), .* --channels"
    ) as e:
        open_signals(mixed)
    assert len(e.value.lines) == 1


def test_the_windows_of_one_montage_are_read(mixed: Path) -> None:
    card, found = DatasetCard.load(mixed), examples(mixed)
    signals = representation_of(card)
    for read, names in (
        (read_windows(mixed), ELECTRODES),  # four of the seven recordings have all
        (read_dataset(mixed, None, electrodes=["C4", "Fz", "C3"]), ("Fz", "C3", "C4")),
    ):
        own = {name: x for name, x in found.items() if {*names} == {*ELECTRODES} - {*LACKS[name]}}
        rows = [ELECTRODES.index(name) for name in names]
        expected = np.concatenate(
            [signals.to_signal(torch.from_numpy(x)[:, None]).numpy()[:, rows] for x in own.values()]
        )
        assert read.ch_names == names and len(read) == examples_with(card, names, [*card.splits]) == len(expected)
        assert {*read.column("recording")} == {f"{name}.edf" for name in own}  # type: ignore[misc]
        assert sorted(read.signals.std((1, 2)).tolist()) == pytest.approx(sorted(expected.std((1, 2)).tolist()))
        assert read.name.endswith(f"windows, those with {len(names)} of 5 electrodes")
    with pytest.raises(UserError, match=r"train has no windows of just Fz, Pz, like those to compare with; prepare"):
        read_dataset(mixed, "train", electrodes=["Fz", "Pz"])


def test_spectra_and_amplitudes_ignore_absent_electrodes() -> None:
    random = torch.Generator().manual_seed(0)
    signals = 10 * torch.randn(6, 3, 256, generator=random)
    fitted = TimeSeries.fit([signals], sampling_rate=125, window=256)
    lacking = signals.clone()
    lacking[2:, 1] = torch.nan
    found = fitted.mean_spectrum(fitted.to_tensor(lacking))
    rows = fitted.mean_spectrum(fitted.to_tensor(signals))
    assert found is not None and rows is not None
    torch.testing.assert_close(found[1], rows[1], atol=1.5, rtol=0)
    lost = torch.full((1, 3, 256), torch.nan)
    assert fitted.mean_spectrum(fitted.to_tensor(torch.cat([lacking, lost])))[1].isnan().all()  # type: ignore[index]
    one, other = Amplitudes(), Amplitudes()
    one.add(lacking)
    other.add(torch.cat([signals[:, [0, 2]].flatten(0, 1), signals[:2, 1]]))
    assert one.quantiles() == other.quantiles()
