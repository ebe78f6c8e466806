"""What Parquet files state about their signals is used, and refused if it is wrong or contradictory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from signal_diffusion.errors import UserError
from tests.data.foreign.folders import (
    ABOUT,
    SPLITS,
    opened,
    root_of,
    signals,
    write_signals,
)


def test_parquet_may_state_rate_and_electrodes(tmp_path: Path) -> None:
    about = {b"ch_names": b'["Fz", "Cz", "Pz"]', b"sampling_rate": b"250.0"}
    (tmp_path / "root").mkdir()
    for split in SPLITS:
        table = pa.table({"signal": signals().tolist()}).replace_schema_metadata(about)
        pq.write_table(table, tmp_path / "root" / f"{split}.parquet")
    _, card, _ = opened(paths=root_of(tmp_path / "root"), representation="timeseries")
    assert (card.sampling_rate, card.channels) == (250.0, ("Fz", "Cz", "Pz"))
    with pytest.raises(UserError, match="100 Hz, but the dataset says 250 Hz"):
        opened(paths=root_of(tmp_path / "root"), representation="timeseries", sampling_rate=100.0)


@pytest.mark.parametrize("other", ["train-1.parquet", "validation.parquet"])
@pytest.mark.parametrize(
    ("about", "complaint"),
    [
        ({"sampling_rate": 256}, "sampling_rate 256, but "),
        ({"ch_names": ["Fz", "Pz", "Cz"]}, "ch_names ['Fz', 'Pz', 'Cz'], but "),
        ({"ch_names": ["Fz", "Fz", "Cz"]}, "expected a list of unique names"),
        ({"ch_names": [1, 2, 3]}, "expected a list of unique names"),
        ({"ch_names": b"Fz,Cz,Pz"}, "state ch_names 'Fz,Cz,Pz'; expected a list of unique names"),
        ({"sampling_rate": "250"}, "state sampling_rate '250'; expected a number above 0, in Hz"),
        ({"sampling_rate": b"NaN"}, "state sampling_rate nan; expected a number above 0, in Hz"),
        ({"sampling_rate": 0}, "state sampling_rate 0; expected a number above 0, in Hz"),
        ({"sampling_rate": True}, "state sampling_rate True; expected a number above 0, in Hz"),
        ({"sampling_rate": b"\xff"}, "expected a number above 0, in Hz"),
        ({"unit": "V"}, "state unit 'V'; expected 'µV'"),
    ],
)
def test_invalid_or_conflicting_signal_metadata_is_an_error(
    about: dict[str, Any], complaint: str, other: str, tmp_path: Path
) -> None:
    for name in ("train-0.parquet", "validation.parquet"):
        write_signals(tmp_path / "root" / name, ABOUT)
    write_signals(tmp_path / "root" / other, about)
    with pytest.raises(UserError) as caught:
        opened(paths=root_of(tmp_path / "root"), representation="timeseries")
    assert f"{other}: " in str(caught.value) and complaint in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_files_without_signal_metadata_use_that_of_the_others(tmp_path: Path) -> None:
    write_signals(tmp_path / "root" / "train-0.parquet", {})
    write_signals(tmp_path / "root" / "train-1.parquet", {"huggingface": b"[]"})
    write_signals(tmp_path / "root" / "validation.parquet", ABOUT)
    _, card, _ = opened(paths=root_of(tmp_path / "root"), representation="timeseries")
    assert (card.sampling_rate, card.channels) == (250.0, ("Fz", "Cz", "Pz"))
