import math

import pytest
import torch

from signal_diffusion.errors import UserError
from signal_diffusion.models.conditioning.attributes import Caption, Categorical, Conditioning, Numeric
from signal_diffusion.models.conditioning.embeddings import ConditioningEmbedding, TimestepEmbedding

ATTRIBUTES = [
    Categorical("label", ("relaxed", "alert")),
    Categorical("gender", ("F", "M")),
    Numeric("age", 40.0, 15.0),
]
NULL = Conditioning({"label": torch.tensor([-1]), "gender": torch.tensor([-1]), "age": torch.tensor([math.nan])})


def conditions():
    return Conditioning(
        {
            "label": torch.tensor([0, 1, 0, 1]),
            "gender": torch.tensor([1, -1, 0, 0]),
            "age": torch.tensor([25.0, 60.0, math.nan, 41.0]),
        }
    )


@pytest.fixture
def embedding():
    torch.manual_seed(0)
    return ConditioningEmbedding(ATTRIBUTES, 16)


def test_dropping_puts_the_null_in_every_attribute_of_the_masked_rows_alone():
    dropped = conditions().drop(torch.tensor([True, False, False, True]))

    assert dropped.attributes["label"].tolist() == [-1, 1, 0, -1]
    assert dropped.attributes["gender"].tolist() == [-1, -1, 0, -1]
    assert dropped.attributes["age"].isnan().tolist() == [True, False, True, True]


@pytest.mark.parametrize("rows", [slice(1, 3), torch.tensor([1, 2]), torch.tensor([False, True, True, False])])
def test_rows_are_taken_from_all_attributes(rows):
    some = conditions()[rows]

    assert len(some) == 2
    assert some.attributes["label"].tolist() == [1, 0]
    assert some.attributes["gender"].tolist() == [-1, 0]


def test_conditions_of_an_unconditional_model_can_be_handled_like_others():
    nothing = Conditioning()

    assert len(nothing) == 0
    assert nothing.drop(torch.ones(3, dtype=torch.bool)).to("cpu")[:2].attributes == {}


def test_dropped_in_training_is_null_in_sampling_and_missing_in_the_data(embedding):
    dropped = embedding(conditions().drop(torch.ones(4, dtype=torch.bool)))

    assert torch.equal(dropped, embedding(NULL).expand(4, -1))


@pytest.mark.parametrize(("name", "value"), [("label", 0), ("gender", 0), ("age", 40.0), ("age", 0.0)])
def test_the_first_label_and_the_mean_are_not_the_null(embedding, name, value):
    known = Conditioning({**NULL.attributes, name: torch.tensor([value])})

    assert not torch.allclose(embedding(known), embedding(NULL))


def test_each_attribute_has_a_null_of_its_own(embedding):
    rows = [layer(NULL.attributes[name]) for name, layer in zip(embedding.names, embedding.embeddings, strict=True)]

    assert not any(torch.allclose(rows[i], rows[j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    torch.testing.assert_close(embedding(NULL), rows[0] + rows[1] + rows[2])


def test_every_parameter_has_a_gradient_though_nothing_or_everything_is_dropped(embedding):
    full = Conditioning({"label": torch.tensor([1]), "gender": torch.tensor([0]), "age": torch.tensor([30.0])})

    for cond in [full, NULL]:
        embedding.zero_grad()
        embedding(cond).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in embedding.parameters())


def test_the_normaliser_of_a_number_is_saved_with_the_weights(embedding):
    other = ConditioningEmbedding([*ATTRIBUTES[:2], Numeric("age", 7.0, 1.0)], 16)
    other.load_state_dict(embedding.state_dict(), strict=True)

    assert torch.equal(other(conditions()), embedding(conditions()))


def test_a_number_is_taken_in_natural_units(embedding):
    years = ConditioningEmbedding([Numeric("age", 40.0, 15.0)], 16)
    months = ConditioningEmbedding([Numeric("age", 480.0, 180.0)], 16)
    months.load_state_dict({**years.state_dict(), **{k: v for k, v in months.state_dict().items() if "mlp" not in k}})

    in_years = years(Conditioning({"age": torch.tensor([18.0, 61.0])}))
    in_months = months(Conditioning({"age": torch.tensor([216.0, 732.0])}))

    torch.testing.assert_close(in_years, in_months)


def test_an_attribute_that_the_model_needs_has_to_be_there(embedding):
    with pytest.raises(ValueError, match="without gender, age; found: label"):
        embedding(Conditioning({"label": torch.tensor([0])}))


@pytest.mark.parametrize("std", [0.0, math.nan, -1.0])
def test_an_attribute_that_never_varies_is_refused(std):
    with pytest.raises(UserError, match="age"):
        Numeric("age", 40.0, std)


def captions(*texts: str) -> Caption:
    """Embeddings that follow from the texts alone."""
    pooled = torch.stack([torch.randn(12, generator=torch.Generator().manual_seed(sum(map(ord, t)))) for t in texts])
    return Caption("caption", texts, pooled[:, None].expand(-1, 3, -1), pooled)


def test_the_null_of_a_caption_is_the_empty_caption():
    torch.manual_seed(0)
    embedding = ConditioningEmbedding([captions("", "a man", "a woman")], 16)
    null, empty, man = (embedding(Conditioning({"caption": torch.tensor([index])})) for index in (-1, 0, 1))

    assert torch.equal(null, empty) and not torch.allclose(null, man)


def test_a_caption_is_known_by_its_words_and_not_by_its_place_among_others():
    torch.manual_seed(0)
    trained = ConditioningEmbedding([captions("", "a child", "a man", "a woman")], 16)
    sampling = ConditioningEmbedding([captions("", "a woman")], 16)
    sampling.load_state_dict(trained.state_dict(), strict=True)

    before, after = (
        embedding(Conditioning({"caption": torch.tensor([row])})) for embedding, row in [(trained, 3), (sampling, 1)]
    )
    assert torch.equal(before, after)


def test_captions_have_a_say_from_the_first_step_however_large_their_embeddings_are():
    torch.manual_seed(0)
    caption = captions(*("", *(str(number) for number in range(50))))
    loud = Caption("caption", caption.texts, caption.tokens, 1000 * caption.pooled + 500)
    variances = [
        ConditioningEmbedding([each], 64)(Conditioning({"caption": torch.arange(51)})).var().item()
        for each in (caption, loud)
    ]

    assert variances == pytest.approx([1.0, 1.0], rel=0.3)


def test_attributes_are_dropped_by_masks_of_their_own():
    dropped = conditions().drop_each({"age": torch.tensor([True, False, False, False]), "label": torch.ones(4).bool()})

    assert dropped.attributes["label"].tolist() == [-1, -1, -1, -1]
    assert dropped.attributes["gender"].tolist() == [1, -1, 0, 0]
    assert dropped.attributes["age"].isnan().tolist() == [True, False, True, False]


def test_times_are_told_apart_at_a_thousandth():
    torch.manual_seed(0)
    embedded = TimestepEmbedding(32)(torch.tensor([0.0, 0.001, 0.5, 0.501, 1.0]))

    distances = torch.cdist(embedded, embedded) + torch.eye(5)
    assert (distances > 1e-3).all()
