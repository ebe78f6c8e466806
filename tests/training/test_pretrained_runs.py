"""Runs that start from weights in diffusers' layout."""

import shutil
import tomllib

import pytest
import torch
from diffusers import SD3Transformer2DModel, UNet2DModel

from signal_diffusion.config.sources import written_keys
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.inspection import inspect
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.experiment.resolving import resolve
from signal_diffusion.sampling.trained import load_trained
from signal_diffusion.training.diffusion import train

from .runs import largest_difference, tensors_of

EXPERIMENT = """
[compute]
device = "cpu"
[data.paths]
root = "{root}"
[data.loading]
batch_size = 4
max_train_examples = 16
[model]
name = "sd35"
pretrained = "{pretrained}"
[model.diffusion]
method = "rectified_flow"
[model.conditioning]
type = "class"
[training]
max_steps = 2
mixed_precision = "no"
[training.ema]
update_every = 1
[training.checkpointing]
interval = 1
[training.validation]
enabled = false
[training.visualization]
enabled = false
[logging]
tensorboard = false
"""


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline's folder with a tiny transformer for images of one channel, in half precision."""
    torch.manual_seed(0)
    network = SD3Transformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        caption_projection_dim=16,
        joint_attention_dim=12,
        pooled_projection_dim=10,
        num_layers=1,
        patch_size=16,
        in_channels=1,
        out_channels=1,
        sample_size=64,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    network.to(torch.bfloat16).save_pretrained(tmp_path / "pipeline" / "transformer")
    (tmp_path / "pipeline" / "model_index.json").write_text('{"_class_name": "StableDiffusion3Pipeline"}')
    return tmp_path / "pipeline"


@pytest.fixture
def config(pipeline, synthetic_dataset, tmp_path):
    """An experiment that starts from the pipeline and has no [model.architecture]."""
    path = tmp_path / "experiment.toml"
    path.write_text(EXPERIMENT.format(root=synthetic_dataset, pretrained=pipeline))
    return path


def transformer_of(tensors):
    """The tensors of diffusers' network in a checkpoint."""
    return {name: tensor for name, tensor in tensors.items() if name.startswith("model.network.")}


def test_training_starts_from_the_pretrained_weights_in_float32(config, pipeline, tmp_path):
    slow = ("training.optimizer.learning_rate=1e-9", "training.max_steps=1")

    train(config, output_dir=tmp_path / "run", overrides=slow)

    tensors = transformer_of(tensors_of(tmp_path / "run" / "checkpoint-1"))
    expected = SD3Transformer2DModel.from_pretrained(pipeline / "transformer", torch_dtype=torch.float32).state_dict()
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    for name in ("proj_out.weight", "pos_embed.proj.weight", "transformer_blocks.0.attn.to_q.weight"):
        torch.testing.assert_close(tensors[f"model.network.{name}"], expected[name], rtol=0, atol=1e-7)


def test_a_run_resumes_and_samples_without_the_pretrained_folder(config, pipeline, tmp_path):
    train(config, output_dir=tmp_path / "whole")
    train(config, output_dir=tmp_path / "parts", overrides=("training.max_steps=1",))
    shutil.rmtree(pipeline)

    train(config, output_dir=tmp_path / "parts", resume="latest")

    checkpoint = tmp_path / "parts" / "checkpoint-2"
    assert largest_difference(tmp_path / "whole" / "checkpoint-2", checkpoint) == 0
    trained = load_trained(checkpoint)
    assert trained.experiment.model.architecture.num_layers == 1
    assert trained.model.network.proj_out.weight.abs().sum() > 0


def test_a_checkpoint_of_another_run_is_passed_over_although_the_file_has_no_architecture(config, tmp_path, capsys):
    train(config, output_dir=tmp_path / "run", overrides=("training.max_steps=1",))
    train(config, output_dir=tmp_path / "other", overrides=("training.max_steps=3", "compute.seed=9"))
    shutil.copytree(tmp_path / "other" / "checkpoint-3", tmp_path / "run" / "checkpoint-3")

    train(config, output_dir=tmp_path / "run", resume="latest")

    printed = capsys.readouterr().out
    assert "checkpoint-3 was trained with 9; it may be of another run; trying an earlier one" in printed
    assert "[model.architecture]" not in printed
    assert (tmp_path / "run" / "checkpoint-2").is_dir()


def test_the_architecture_is_written_into_the_checkpoints_experiment(config, tmp_path):
    train(config, output_dir=tmp_path / "run", overrides=("training.max_steps=1",))

    for path in (tmp_path / "run", tmp_path / "run" / "checkpoint-1"):
        table = tomllib.loads((path / "config.toml").read_text())["model"]["architecture"]
        assert (table["num_layers"], table["patch_size"], table["joint_attention_dim"]) == (1, 16, 12)


@pytest.mark.parametrize("value", [3, 24])  # the latter is the default
def test_a_key_that_contradicts_the_weights_is_refused(config, tmp_path, value):
    wrong = (f"model.architecture.num_layers={value}", "model.architecture.patch_size=16")

    with pytest.raises(UserError) as caught:
        train(config, output_dir=tmp_path / "run", overrides=wrong)
    with pytest.raises(UserError) as caught_by_check:
        inspect(resolve(load_experiment(config, wrong), written_keys(config, wrong)))

    [line] = caught.value.lines
    assert line.endswith(caught_by_check.value.lines[0])
    expected = f"[model.architecture] num_layers: {value}, but the pretrained model has 1; leave the key out"
    assert line == f"{config}: {expected}"
    assert not (tmp_path / "run").exists()


def test_the_run_directorys_own_experiment_trains_the_same_model(config, tmp_path):
    train(config, output_dir=tmp_path / "run", overrides=("training.max_steps=1",))

    again = tmp_path / "run" / "config.toml"
    train(again, output_dir=tmp_path / "again", overrides=("training.max_steps=1",))

    assert largest_difference(tmp_path / "run" / "checkpoint-1", tmp_path / "again" / "checkpoint-1") == 0


def test_another_run_starts_from_a_checkpoint_of_a_pretrained_run(config, tmp_path):
    train(config, output_dir=tmp_path / "first", overrides=("training.max_steps=1",))
    checkpoint = tmp_path / "first" / "checkpoint-1"
    overrides = (f"model.pretrained={checkpoint}", "training.max_steps=1", "training.optimizer.learning_rate=1e-9")
    first = tomllib.loads((checkpoint / "config.toml").read_text())["model"]["architecture"]
    sizes = tuple(f"model.architecture.{name}={value!r}".replace("()", "[]") for name, value in first.items())

    train(config, output_dir=tmp_path / "second", overrides=(*overrides, *sizes))

    before, after = (tensors_of(tmp_path / run / "checkpoint-1") for run in ("first", "second"))
    expected = before["ema.network.proj_out.weight"]
    torch.testing.assert_close(after["model.network.proj_out.weight"], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model.name=dit",), r"\[model\] pretrained: .*/pipeline is in diffusers' layout, which sd35, unet can start"),
        (("model.name=unet",), r"\[model\] pretrained: .*/pipeline: not in diffusers' layout; .* its subfolder unet/"),
        (("model.pretrained=nowhere",), r"\[model\] pretrained: nowhere: no such folder; expected .* a Hub id"),
        (
            ("model.pretrained=owner/name",),
            r"\[model\] pretrained: owner/name: is not a local folder, and could not be",
        ),
    ],
)
def test_unusable_pretrained_weights_are_refused_before_anything_is_written(config, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        train(config, output_dir=tmp_path / "run", overrides=overrides)

    assert len(caught.value.lines) == 1
    assert not (tmp_path / "run").exists()


def test_weights_for_latents_are_refused_for_images(config, pipeline, tmp_path):
    network = SD3Transformer2DModel(num_layers=1, num_attention_heads=1, attention_head_dim=8, caption_projection_dim=8)
    network.save_pretrained(pipeline / "transformer")

    with pytest.raises(
        UserError, match=r"the model takes 16 channels, but the examples have 1; set model.autoencoder.enabled"
    ):
        train(config, output_dir=tmp_path / "run")
    with pytest.raises(UserError, match="the model takes 16 channels"):
        inspect(resolve(load_experiment(config)))


def test_an_inspection_counts_the_pretrained_network(config, pipeline):
    network = SD3Transformer2DModel.from_pretrained(pipeline / "transformer")

    found = inspect(resolve(load_experiment(config)))

    conditioning = 3 * 12 + (
        12 * 10 + 10
    )  # embeddings of two classes and null, and their projection to the pooled embedding
    assert found.parameters == sum(parameter.numel() for parameter in network.parameters()) + conditioning
    assert found.tokens == 16


def test_a_unet_trains_from_its_own_folder(config, tmp_path):
    blocks = {"down_block_types": ("DownBlock2D",) * 4, "up_block_types": ("UpBlock2D",) * 4}
    network = UNet2DModel(in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(32,) * 4, **blocks)
    network.save_pretrained(tmp_path / "unet")
    overrides = ("model.name=unet", f"model.pretrained={tmp_path / 'unet'}", "training.max_steps=1")

    train(config, output_dir=tmp_path / "run", overrides=(*overrides, "training.optimizer.learning_rate=1e-9"))

    found = tensors_of(tmp_path / "run" / "checkpoint-1")["model.network.conv_out.weight"]
    torch.testing.assert_close(found, network.conv_out.weight.detach(), rtol=0, atol=1e-7)
