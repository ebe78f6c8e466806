"""Requests: parts of them keep the conditions and the noise of their samples."""

import pytest

from signal_diffusion.models.conditioning.attributes import Categorical
from signal_diffusion.sampling.requests import Request, request_values


@pytest.mark.parametrize("part", [lambda request: request[1:4], lambda request: request.take([1, 2, 3])])
def test_a_part_of_a_request_has_the_conditions_and_the_noise_of_its_samples(part) -> None:
    request = request_values([Categorical("label", ("alert", "relaxed"))], {}, 5)
    assert request.cond.attributes["label"].tolist() == [0, 1, 0, 1, 0]

    some: Request = part(request)

    assert some.cond.attributes["label"].tolist() == [1, 0, 1]
    assert some.noise == (1, 2, 3)
