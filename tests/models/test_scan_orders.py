from typing import get_args

import pytest
import torch

from signal_diffusion.models.scan_orders import Direction, inverse_order, scan, scan_order, unscan

DIRECTIONS = get_args(Direction)
SIZES = [(1, 1), (1, 9), (9, 1), (2, 2), (3, 5), (5, 3), (7, 7), (8, 15), (13, 4), (20, 31), (29, 8)]


def orders(directions, height, width):
    order = torch.stack([scan_order(direction, height, width) for direction in directions])
    return order, inverse_order(order)


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("h", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]),
        ("v", [0, 5, 10, 1, 6, 11, 2, 7, 12, 3, 8, 13, 4, 9, 14]),
        ("w2", [0, 1, 5, 6, 2, 3, 7, 8, 4, 9, 10, 11, 12, 13, 14]),
        ("w7", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]),
    ],
)
def test_orders_of_a_grid_of_three_rows_of_five(direction, expected):
    assert scan_order(direction, 3, 5).tolist() == expected
    assert scan_order(f"{direction}_flip", 3, 5).tolist() == expected[::-1]


def test_windows_of_seven_at_a_border_are_smaller():
    order = scan_order("w7", 8, 9).tolist()

    assert order[:8] == [0, 1, 2, 3, 4, 5, 6, 9]
    assert order[49:63] == [7, 8, 16, 17, 25, 26, 34, 35, 43, 44, 52, 53, 61, 62]
    assert order[63:] == [63, 64, 65, 66, 67, 68, 69, 70, 71]


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_unscan_undoes_scan_in_every_direction(direction, height, width):
    tokens = torch.randn(2, 3, height * width)
    order, inverse = orders([direction], height, width)

    scanned = scan(tokens, order, inverse)

    assert sorted(order[0].tolist()) == list(range(height * width))
    assert torch.equal(scanned[:, 0], tokens[..., order[0]])
    assert torch.equal(unscan(scanned, order, inverse), tokens)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_unscan_sums_all_directions_in_the_order_of_the_grid(height, width):
    tokens = torch.randn(2, 3, height * width, dtype=torch.float64)
    order, inverse = orders(DIRECTIONS, height, width)
    weights = torch.arange(1.0, 9, dtype=torch.float64)

    total = unscan(scan(tokens, order, inverse) * weights[:, None, None], order, inverse)

    torch.testing.assert_close(total, 36 * tokens)


@pytest.mark.parametrize("function", [scan, unscan])
def test_gradients_equal_finite_differences(function):
    order, inverse = orders(["v", "w2_flip", "h_flip"], 3, 5)
    shape = (2, 2, 15) if function is scan else (2, 3, 2, 15)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(lambda x: function(x, order, inverse), x)
    assert torch.autograd.gradgradcheck(lambda x: function(x, order, inverse), x)


def test_orders_on_the_meta_device_are_not_cached_for_others():
    with torch.device("meta"):
        order = scan_order("w2", 17, 19)

    assert order.device.type == "meta"
    assert scan_order("w2", 17, 19).device.type == "cpu"
