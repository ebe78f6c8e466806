import pytest
import torch

from signal_diffusion.models.levels import (
    AdaRMSNorm,
    GatedFeedForward,
    RMSNorm,
    TokenMerge,
    TokenSplit,
    merge_tokens,
    split_tokens,
)


def randomised(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def tokens(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("height", "width", "factor"), [(4, 6, (2, 2)), (5, 6, (1, 2)), (6, 7, (3, 1))])
def test_split_undoes_merge(height, width, factor):
    x = tokens(2, height, width, 3)

    merged = merge_tokens(x, factor)

    assert merged.shape == (2, height // factor[0], width // factor[1], 3 * factor[0] * factor[1])
    assert torch.equal(split_tokens(merged, factor), x)


def test_a_merged_token_is_its_rectangle_row_by_row():
    x = torch.arange(24).reshape(1, 4, 6, 1)

    merged = merge_tokens(x, (2, 3))

    assert merged[0, 1, 0].tolist() == [12, 13, 14, 18, 19, 20]


def test_merge_and_split_are_linear_in_each_rectangle():
    x, skip = tokens(2, 4, 6, 8), tokens(2, 4, 6, 5)
    merge, split = randomised(TokenMerge(8, 7, (2, 2))), randomised(TokenSplit(7, 5, (2, 2)))

    merged = merge(x)
    found = split(merged, skip)

    corner = torch.cat([x[:, 2, 4], x[:, 2, 5], x[:, 3, 4], x[:, 3, 5]], dim=1)
    torch.testing.assert_close(merged[:, 1, 2], corner @ merge.projection.weight.T)
    parts = (merged[:, 1, 2] @ split.projection.weight.T).reshape(2, 4, 5)
    torch.testing.assert_close(found[:, 3, 4], skip[:, 3, 4] + split.share * (parts[:, 2] - skip[:, 3, 4]))


def test_a_split_initially_averages_skip_and_split():
    x, skip = tokens(1, 2, 3, 4), tokens(1, 2, 6, 5)
    split = TokenSplit(4, 5, (1, 2))

    expected = (skip + split_tokens(split.projection(x), (1, 2))) / 2

    torch.testing.assert_close(split(x, skip), expected)


def test_ada_rms_norm_is_initially_plain_and_then_scaled_by_the_condition():
    x, condition = tokens(2, 3, 4, 8).double(), tokens(2, 6).double()
    norm = AdaRMSNorm(8, 6).double()
    plain = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    first = norm(x, condition)
    randomised(norm)
    scale = 1 + condition @ norm.scale.weight.T

    torch.testing.assert_close(first, plain)
    torch.testing.assert_close(norm(x, condition)[1], plain[1] * scale[1])


@pytest.mark.parametrize("norm", [lambda x: AdaRMSNorm(8, 6)(x, torch.zeros(2, 6)), RMSNorm(8)])
def test_a_norm_computes_in_float32_and_returns_bfloat16(norm):
    x = tokens(2, 3, 4, 8).bfloat16()

    found = norm(x)

    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), norm(x.float()), rtol=2**-8, atol=0)


def test_the_gated_feed_forward_is_geglu_and_initially_zero():
    x = tokens(2, 3, 4, 8).double()
    feed_forward = GatedFeedForward(8, 12).double()

    first = feed_forward(x)
    randomised(feed_forward)
    value, gate = (x @ feed_forward.up.weight.T).split(12, dim=-1)
    gelu = gate * (1 + torch.erf(gate / 2**0.5)) / 2

    assert torch.equal(first, torch.zeros_like(x))
    torch.testing.assert_close(feed_forward(x), (value * gelu) @ feed_forward.down.weight.T)
