import pytest
from pydantic import TypeAdapter

from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_experiment
from signal_diffusion.models.dit import DiT, DiTArchitecture
from signal_diffusion.models.registry import BACKBONES, build

TINY = '{"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "patch_size": [4, 2]}'


def test_a_backbone_is_built_from_its_name_and_table():
    architecture = TypeAdapter(BACKBONES["dit"].architecture).validate_json(TINY)

    model = build("dit", architecture, shape=(1, 8, 8))

    assert isinstance(model, DiT)
    assert model.num_tokens == 8


def test_an_unknown_backbone_is_refused():
    with pytest.raises(UserError, match="expected one of dit"):
        build("dyt", DiTArchitecture(), shape=(1, 8, 8))


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("dit", "num_attention_heads=3 attention_head_dim=9", "× attention_head_dim = 27: expected a multiple of 4"),
        ("hourglass", "depths=[2,2]", "numbers of levels differ: depths 2, widths 3"),
        ("localmamba", "dims=[64,128]", "numbers of levels differ: depths 4, dims 2"),
        ("sd35", "sample_size=1", "sample_size: 1, expected at least the patch_size"),
        ("unet", "channel_multipliers=[1,2]", "use_attention has 3 levels and channel_multipliers 2"),
    ],
)
def test_contradictory_sizes_are_reported_when_the_file_is_read(name, numbers, message, tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(f'[data]\nsource = "synthetic"\n[model]\nname = "{name}"\n')

    with pytest.raises(UserError, match=message) as caught:
        load_experiment(path, [f"model.architecture.{number}" for number in numbers.split()])

    assert caught.value.lines[0].startswith(f"{path}: [model] architecture: ")
