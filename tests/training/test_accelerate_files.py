"""The files of config/accelerate: accelerate reads them, and its launcher tells training what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType
from accelerate.utils.launch import prepare_multi_gpu_env

from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.training.device import Sharding
from signal_diffusion.training.launching import _num_processes_in

FOLDER = Path(__file__).parents[2] / "config" / "accelerate"
FILES = {
    "cpu": DistributedType.MULTI_CPU,
    "one-gpu": DistributedType.NO,
    "one-node": DistributedType.MULTI_GPU,
    "several-nodes": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "zero2": DistributedType.FSDP,
}
SHARDING = {"fsdp2": Sharding(reshard_after_forward=True), "zero2": Sharding(reshard_after_forward=False)}


def test_there_is_a_test_of_each_file() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_accelerate_reads_the_file(name: str) -> None:
    found = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(found, ClusterConfig) and found.distributed_type == FILES[name]
    assert found.mixed_precision is None  # it is the experiment file's


@pytest.mark.parametrize("name", ["one-node", "several-nodes", "fsdp2", "zero2"])
def test_the_launcher_tells_training_how_to_shard(
    name: str, experiment_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--config_file", str(FOLDER / f"{name}.yaml"), "--num_processes", "8", "--main_process_port", "0"]
    arguments = launch_command_parser().parse_args([*words, "-m", "signal_diffusion.training.diffusion", "FILE"])
    arguments, *_ = _validate_launch_command(arguments)
    for variable, value in prepare_multi_gpu_env(arguments).items():
        monkeypatch.setenv(variable, value)
    assert Sharding.wanted(load_experiment(experiment_file)) == SHARDING.get(name)


def test_the_number_of_cpu_processes_is_read_from_the_launchers_file() -> None:
    launcher, file = ["python", "accelerate", "launch"], ["--config_file", str(FOLDER / "cpu.yaml")]
    assert _num_processes_in([*launcher, *file, "-m", "module"]) == 2
    assert _num_processes_in([*launcher, "--num_processes", "3", *file, "-m", "module"]) == 3
    assert _num_processes_in([*launcher, f"--config_file={FOLDER / 'cpu.yaml'}", "-m", "module"]) == 2
    assert _num_processes_in([*launcher, "--config_file", "missing.yaml", "-m", "module"]) is None
