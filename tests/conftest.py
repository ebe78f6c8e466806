"""Fixtures that the tests share. No test uses the network or the user's caches.

Torch and the package are imported in the fixtures: the process that only hands out the tests needs neither.
"""

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Set before anything imports `datasets` or torch, which read these variables once.
os.environ["HF_HUB_OFFLINE"] = "1"
# With it, each of the hundreds of processes that tests start would compile torch and others again when it imports them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "PYTEST_XDIST_WORKER" in os.environ:  # parallel workers are faster with one core each
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # each more would be a process that imports torch
_CACHE = tempfile.TemporaryDirectory(prefix="signal-diffusion-tests-")
os.environ["HF_DATASETS_CACHE"] = os.environ["XDG_CACHE_HOME"] = _CACHE.name
os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{_CACHE.name}/hypothesis"
os.environ["MPLCONFIGDIR"] = f"{tempfile.gettempdir()}/signal-diffusion-tests-matplotlib"  # its list of fonts is slow

import pytest  # noqa: E402


def pytest_collectstart() -> None:
    gc.disable()  # what is imported stays until the end


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that need the fork server first, so that one worker runs them all and starts one server."""
    items.sort(key=lambda item: item.get_closest_marker("processes") is None)


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


def pytest_unconfigure() -> None:
    gc.unfreeze()  # what Python collects at its exit is otherwise reported as leaked


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The recordings of $SIGNAL_DIFFUSION_TEST_DATA; for tests marked `real_data`."""
    default = Path(__file__).parents[2] / "shared" / "data"
    root = Path(os.environ.get("SIGNAL_DIFFUSION_TEST_DATA", default))
    if not (root / "eegmat").is_dir():
        pytest.skip("no recordings: set $SIGNAL_DIFFUSION_TEST_DATA to a folder with eegmat/ and formats/")
    return root


@pytest.fixture(scope="session")
def cases(real_data: Path) -> Path:
    """Small recordings that were once read wrongly."""
    root = real_data.parent / "cases" / "recordings"
    if not root.is_dir():
        pytest.skip("no cases")
    return root


@pytest.fixture(scope="session")
def synthetic_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A db-only dataset of five synthetic subjects: 228 examples in train, 76 in validation, 76 in test."""
    from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic

    root = tmp_path_factory.mktemp("data") / "db-only"
    prepare_synthetic(root, "db-only", SyntheticOptions(num_subjects=5, num_windows=2))
    return root


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small dataset of each representation."""
    from signal_diffusion.data.preparing.prepare import SyntheticOptions, prepare_synthetic
    from signal_diffusion.data.representations.registry import REPRESENTATIONS

    roots = {name: tmp_path_factory.mktemp("data") / name for name in REPRESENTATIONS}
    for name, root in roots.items():
        prepare_synthetic(root, name, SyntheticOptions(num_subjects=3, num_windows=1))
    return roots


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw few figures on the page of a report; all take seconds, and are those of tests/evaluation/test_page.py."""
    from signal_diffusion.evaluation.page.pictures import PICTURES

    shown = {title: draw for title, draw in PICTURES.items() if title in ("Spectra", "Use to classifiers")}
    monkeypatch.setattr("signal_diffusion.evaluation.page.pictures.PICTURES", shown)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB that is really full when it is; skipped for users who cannot mount one."""
    from tests.small_disk import mounted

    with mounted(tmp_path / "disk") as disk:
        yield disk


TINY = """
[compute]
device = "cpu"
[data.paths]
root = "{root}"
[data.loading]
batch_size = 8
max_train_examples = 100
[model.architecture]
num_layers = 2
num_attention_heads = 2
attention_head_dim = 8
patch_size = [16, 16]
dropout_rate = 0.1
[model.diffusion]
method = "rectified_flow"
[model.conditioning]
type = "class"
[training]
max_steps = 15
mixed_precision = "no"
gradient_accumulation_steps = 2
log_interval = 4
[training.optimizer]
learning_rate = 1e-2
[training.ema]
update_every = 2
[training.checkpointing]
interval = 1
total_limit = 100
[training.validation]
interval = 4
num_examples = 24
[training.visualization]
enabled = false
[generation.sampling]
steps = 2
[logging]
tensorboard = false
"""


@pytest.fixture(autouse=True, scope="session")
def every_cpu_has_bf16() -> Iterator[None]:
    """Use bf16 on every CPU, in fixtures of a module too; on one without it, a run would use fp32 instead."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("signal_diffusion.training.device.cpu_has_bf16", lambda: True)
        yield


@pytest.fixture(autouse=True)
def fresh_accelerator() -> Iterator[None]:
    """Reset the state that Accelerate keeps for the life of a process after each test."""
    yield
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="session")
def experiment_file(synthetic_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment of 15 steps; an epoch of its 100 examples has 6 steps of 2 × 8 examples."""
    path = tmp_path_factory.mktemp("experiment") / "tiny.toml"
    path.write_text(TINY.format(root=synthetic_dataset))
    return path
