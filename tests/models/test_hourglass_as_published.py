"""Predictions equal those of the authors' own implementation, if it is installed."""

import importlib
import importlib.util
import re
import sys
import types

import pytest
import torch

from signal_diffusion.models.attention.neighbourhood import neighbourhood_attention
from tests.models.test_hourglass import inputs, remove_positions, tiny


def k_diffusion_transformer(monkeypatch):
    """k-diffusion's module of the same network, without its package's other imports; from 0.2 or the repository."""
    found = importlib.util.find_spec("k_diffusion")
    if found is None or importlib.util.find_spec("einops") is None:
        pytest.skip("could not find k_diffusion and einops")
    folder = found.submodule_search_locations[0]
    for name, path in (("k_diffusion", folder), ("k_diffusion.models", f"{folder}/models")):
        package = types.ModuleType(name)
        package.__path__ = [path]
        monkeypatch.setitem(sys.modules, name, package)
    layers = types.ModuleType("k_diffusion.layers")
    layers.FourierFeatures = ZeroFeatures
    monkeypatch.setitem(sys.modules, "k_diffusion.layers", layers)
    sys.modules["k_diffusion"].layers = layers
    monkeypatch.setenv("K_DIFFUSION_USE_COMPILE", "0")
    if importlib.util.find_spec("k_diffusion.models.image_transformer_v2") is None:
        pytest.skip("k_diffusion has no image_transformer_v2: expected 0.2 or newer")
    module = importlib.import_module("k_diffusion.models.image_transformer_v2")
    natten = types.SimpleNamespace(has_fused_na=lambda: True, functional=types.SimpleNamespace(na2d=na2d))
    monkeypatch.setattr(module, "natten", natten)
    return module


class ZeroFeatures(torch.nn.Module):
    """Replaces k-diffusion's time embedding: ours is passed as its `mapping_cond`."""

    def __init__(self, in_features, out_features):
        super().__init__()
        self.out_features = out_features

    def forward(self, x):
        return x.new_zeros(*x.shape[:-1], self.out_features)


def na2d(q, k, v, kernel_size, scale):
    """NATTEN's function, with its layout (B, H, W, heads, d)."""
    q, k, v = (x.permute(0, 3, 1, 2, 4) for x in (q, k, v))
    return neighbourhood_attention(q, k, v, (kernel_size, kernel_size), scale=scale).permute(0, 2, 3, 1, 4)


K_DIFFUSION_NAMES = {
    r"^patch_embedding\.projection": "patch_in.proj",
    r"^output_norm\.weight": "out_norm.scale",
    r"^output\.weight": "patch_out.proj.weight",
    r"^mapping\.input_norm\.weight": "mapping.in_norm.scale",
    r"^mapping\.output_norm\.weight": "mapping.out_norm.scale",
    r"^mapping\.norms\.(\d)\.weight": r"mapping.blocks.\1.norm.scale",
    r"^mapping\.layers\.(\d)\.(up|down)": r"mapping.blocks.\1.\2_proj",
    r"^(down|up)\.": r"\1_levels.",
    r"^middle\.": "mid_level.",
    r"\.projection\.": ".proj.",
    r"\.share$": ".fac",
    r"\.attention_norm\.scale": ".self_attn.norm.linear",
    r"\.qkv": ".self_attn.qkv_proj",
    r"\.attention_output": ".self_attn.out_proj",
    r"\.log_scale": ".self_attn.scale",
    r"\.feed_forward_norm\.scale": ".ff.norm.linear",
    r"\.feed_forward\.(up|down)": r".ff.\1_proj",
}


def k_diffusion_weights(model):
    """The weights of `model` under the names of k-diffusion, which stores scales, not their logarithms."""
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith(("time_embedding", "conditioning", "places")):
            continue
        value = value.exp() if name.endswith("log_scale") else value
        for ours, theirs in K_DIFFUSION_NAMES.items():
            name = re.sub(ours, theirs, name)
        weights[name] = value
    return weights


@pytest.mark.parametrize("kernel_sizes", [(0, 0, 0), (7, 3, 0)])
def test_predictions_equal_those_of_k_diffusion(monkeypatch, kernel_sizes):
    reference = k_diffusion_transformer(monkeypatch)
    widths, depths, shape = (16, 32, 48), (2, 1, 2), (3, 32, 48)
    model = tiny(shape=shape, widths=widths, depths=depths, kernel_sizes=kernel_sizes, attention_head_dim=16).double()
    attentions = [
        reference.NeighborhoodAttentionSpec(16, kernel) if kernel else reference.GlobalAttentionSpec(16)
        for kernel in kernel_sizes
    ]
    levels = [
        reference.LevelSpec(depth, width, 3 * width, kind, 0.0)
        for depth, width, kind in zip(depths, widths, attentions, strict=True)
    ]
    mapping = reference.MappingSpec(2, 24, 72, 0.0)
    theirs = reference.ImageTransformerDenoiserModelV2(levels, mapping, 3, 3, (2, 2), mapping_cond_dim=24).double()
    remove_positions(model)
    missing, unexpected = theirs.load_state_dict(k_diffusion_weights(model), strict=False)
    torch.nn.init.eye_(theirs.mapping_cond_in_proj.weight)
    x, t, cond = inputs(shape)
    x, t = x.double(), t.double()

    expected = theirs(x, t, mapping_cond=model.time_embedding(t) + model.conditioning(cond))

    assert unexpected == []
    assert {name.split(".")[-2] for name in missing} <= {
        "time_in_proj",
        "aug_in_proj",
        "mapping_cond_in_proj",
        "pos_emb",
    }
    torch.testing.assert_close(model(x, t, cond), expected, rtol=1e-5, atol=1e-6)
