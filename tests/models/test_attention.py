import math

import pytest
import torch

from signal_diffusion.models.attention import attention


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2)]
)
def test_attention_is_the_softmax_of_scaled_products(dtype, tolerance):
    q, k, v = torch.randn(3, 2, 3, 17, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.softmax(q @ k.mT / math.sqrt(8), dim=-1) @ v

    found = attention(q.to(dtype), k.to(dtype), v.to(dtype))

    assert (found.double() - expected).norm() < tolerance * expected.norm()
