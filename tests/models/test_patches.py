"""Patches: cutting and joining are each other's inverse, and overlapping ones are cross-faded."""

import pytest
import torch

from signal_diffusion.models.patches import Patches


@pytest.mark.parametrize("size", [(4, 2), (1, 16), (8, 1)])
def test_joining_undoes_cutting(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 8, 16, generator=torch.Generator().manual_seed(0))
    patches = Patches(size)

    assert torch.equal(patches.join(patches.cut(x), x.shape), x)


@pytest.mark.parametrize("size", [(4, 2), (1, 16), (8, 1), (2, 8), (4, 5)])
def test_joining_overlapping_patches_undoes_cutting(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 8, 80, generator=torch.Generator().manual_seed(0))
    patches = Patches(size, overlap=True)

    torch.testing.assert_close(patches.join(patches.cut(x), x.shape), x)


def test_an_overlapping_patch_has_half_of_its_neighbours_and_zeros_outside() -> None:
    x = torch.arange(1.0, 13.0).reshape(1, 1, 1, 12)

    cut = Patches((1, 4), overlap=True).cut(x)

    assert cut[0].tolist() == [[0, 0, 1, 2, 3, 4, 5, 6], [3, 4, 5, 6, 7, 8, 9, 10], [7, 8, 9, 10, 11, 12, 0, 0]]


def test_patches_that_contradict_each_other_fade_into_each_other() -> None:
    patches = Patches((1, 8), overlap=True)
    levels = torch.tensor([0.0, 1.0, 3.0])[None, :, None].expand(1, 3, patches.num_values)

    joined = patches.join(levels, (1, 1, 1, 24))[0, 0, 0]

    assert joined[:4].tolist() == [0] * 4 and joined[-4:].tolist() == pytest.approx([3] * 4)
    assert (joined.diff() > -1e-6).all()  # to rounding
    border = joined[7:9]  # either side of the first border: near to half of each
    assert border.tolist() == pytest.approx([0.40, 0.60], abs=0.01)
    assert joined.diff().max() < 2 * 0.2  # otherwise, the second border would be a jump of 2


def test_without_overlap_the_same_patches_jump() -> None:
    levels = torch.tensor([0.0, 1.0, 3.0])[None, :, None].expand(1, 3, 8)

    assert Patches((1, 8)).join(levels, (1, 1, 1, 24)).diff().max() == 2
