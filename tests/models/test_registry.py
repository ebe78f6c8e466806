import pytest
from pydantic import TypeAdapter

from signal_diffusion.errors import UserError
from signal_diffusion.models.dit import DiT, DiTArchitecture
from signal_diffusion.models.registry import BACKBONES, build

TINY = '{"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "patch_size": [4, 2]}'


def test_a_backbone_is_built_by_name_from_its_table():
    architecture = TypeAdapter(BACKBONES["dit"].architecture).validate_json(TINY)

    model = build("dit", architecture, shape=(1, 8, 8))

    assert isinstance(model, DiT)
    assert model.num_tokens == 8


def test_an_unknown_backbone_is_refused():
    with pytest.raises(UserError, match="expected one of dit"):
        build("dyt", DiTArchitecture(), shape=(1, 8, 8))
