import torch

from signal_diffusion.diffusion.guidance import classifier_free
from signal_diffusion.models.conditioning import Conditioning

COND = Conditioning({"label": torch.tensor([0, 1, 1])})
X = torch.linspace(-1, 1, 12).view(3, 4)
T = torch.tensor([0.1, 0.5, 0.9])


class Network:
    """Predicts (label + 2)·x + t, and so x + t for the null label, and counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, xt, t, cond):
        self.calls += 1
        return (cond.attributes["label"] + 2)[:, None] * xt + t[:, None]


def test_scale_1_is_the_conditional_model_to_the_bit_in_one_pass():
    network = Network()

    guided = classifier_free(network, COND, 1.0)(X, T)

    assert network.calls == 1
    assert torch.equal(guided, Network()(X, T, COND))


def test_scale_0_is_the_unconditional_model():
    guided = classifier_free(Network(), COND, 0.0)(X, T)

    assert torch.equal(guided, X + T[:, None])


def test_scale_overstates_the_difference_from_the_unconditional_model_in_two_passes():
    network = Network()

    guided = classifier_free(network, COND, 2.5)(X, T)

    assert network.calls == 2
    label = COND.attributes["label"][:, None]
    torch.testing.assert_close(guided, X + T[:, None] + 2.5 * (label + 1) * X)
