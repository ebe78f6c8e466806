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


def test_drop_sets_every_attribute_to_null_only_in_masked_rows():
    dropped = conditions().drop(torch.tensor([True, False, False, True]))

    assert dropped.attributes["label"].tolist() == [-1, 1, 0, -1]
    assert dropped.attributes["gender"].tolist() == [-1, -1, 0, -1]
    assert dropped.attributes["age"].isnan().tolist() == [True, False, True, True]


@pytest.mark.parametrize("rows", [slice(1, 3), torch.tensor([1, 2]), torch.tensor([False, True, True, False])])
def test_indexing_selects_rows_of_all_attributes(rows):
    some = conditions()[rows]

    assert len(some) == 2
    assert some.attributes["label"].tolist() == [1, 0]
    assert some.attributes["gender"].tolist() == [-1, 0]


def test_empty_conditions_support_all_operations():
    empty = Conditioning()

    assert len(empty) == 0
    assert empty.drop(torch.ones(3, dtype=torch.bool)).to("cpu")[:2].attributes == {}


def test_a_dropped_value_and_a_missing_value_have_the_same_embedding(embedding):
    dropped = embedding(conditions().drop(torch.ones(4, dtype=torch.bool)))

    assert torch.equal(dropped, embedding(NULL).expand(4, -1))


@pytest.mark.parametrize(("name", "value"), [("label", 0), ("gender", 0), ("age", 40.0), ("age", 0.0)])
def test_the_first_label_and_the_mean_differ_from_the_null(embedding, name, value):
    known = Conditioning({**NULL.attributes, name: torch.tensor([value])})

    assert not torch.allclose(embedding(known), embedding(NULL))


def test_each_attribute_has_its_own_null(embedding):
    rows = [layer(NULL.attributes[name]) for name, layer in zip(embedding.names, embedding.embeddings, strict=True)]

    assert not any(torch.allclose(rows[i], rows[j]) for i, j in [(0, 1), (0, 2), (1, 2)])
    torch.testing.assert_close(embedding(NULL), rows[0] + rows[1] + rows[2])


def test_every_parameter_has_a_gradient_if_nothing_or_everything_is_dropped(embedding):
    full = Conditioning({"label": torch.tensor([1]), "gender": torch.tensor([0]), "age": torch.tensor([30.0])})

    for cond in [full, NULL]:
        embedding.zero_grad()
        embedding(cond).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in embedding.parameters())


def test_the_mean_and_std_of_a_number_are_saved_with_the_weights(embedding):
    other = ConditioningEmbedding([*ATTRIBUTES[:2], Numeric("age", 7.0, 1.0)], 16)
    other.load_state_dict(embedding.state_dict(), strict=True)

    assert torch.equal(other(conditions()), embedding(conditions()))


def test_a_number_is_given_in_natural_units(embedding):
    years = ConditioningEmbedding([Numeric("age", 40.0, 15.0)], 16)
    months = ConditioningEmbedding([Numeric("age", 480.0, 180.0)], 16)
    months.load_state_dict({**years.state_dict(), **{k: v for k, v in months.state_dict().items() if "mlp" not in k}})

    in_years = years(Conditioning({"age": torch.tensor([18.0, 61.0])}))
    in_months = months(Conditioning({"age": torch.tensor([216.0, 732.0])}))

    torch.testing.assert_close(in_years, in_months)


def test_a_missing_attribute_is_an_error(embedding):
    with pytest.raises(ValueError, match="conditions lack gender, age; found: label"):
        embedding(Conditioning({"label": torch.tensor([0])}))


@pytest.mark.parametrize("std", [0.0, math.nan, -1.0])
def test_a_number_without_variance_is_refused(std):
    with pytest.raises(UserError, match="age"):
        Numeric("age", 40.0, std)


def captions(*texts: str) -> Caption:
    """Captions whose embeddings depend only on their texts."""
    pooled = torch.stack([torch.randn(12, generator=torch.Generator().manual_seed(sum(map(ord, t)))) for t in texts])
    return Caption("caption", texts, pooled[:, None].expand(-1, 3, -1), pooled)


def test_the_null_of_a_caption_is_the_empty_caption():
    torch.manual_seed(0)
    embedding = ConditioningEmbedding([captions("", "a man", "a woman")], 16)
    null, empty, man = (embedding(Conditioning({"caption": torch.tensor([index])})) for index in (-1, 0, 1))

    assert torch.equal(null, empty) and not torch.allclose(null, man)


def test_the_embedding_of_a_caption_does_not_depend_on_its_index():
    torch.manual_seed(0)
    trained = ConditioningEmbedding([captions("", "a child", "a man", "a woman")], 16)
    sampling = ConditioningEmbedding([captions("", "a woman")], 16)
    sampling.load_state_dict(trained.state_dict(), strict=True)

    before, after = (
        embedding(Conditioning({"caption": torch.tensor([row])})) for embedding, row in [(trained, 3), (sampling, 1)]
    )
    assert torch.equal(before, after)


def test_caption_embeddings_start_with_unit_variance_at_any_scale_of_the_encoder():
    torch.manual_seed(0)
    caption = captions(*("", *(str(number) for number in range(50))))
    loud = Caption("caption", caption.texts, caption.tokens, 1000 * caption.pooled + 500)
    variances = [
        ConditioningEmbedding([each], 64)(Conditioning({"caption": torch.arange(51)})).var().item()
        for each in (caption, loud)
    ]

    assert variances == pytest.approx([1.0, 1.0], rel=0.3)


def test_drop_each_uses_the_mask_of_each_attribute():
    dropped = conditions().drop_each({"age": torch.tensor([True, False, False, False]), "label": torch.ones(4).bool()})

    assert dropped.attributes["label"].tolist() == [-1, -1, -1, -1]
    assert dropped.attributes["gender"].tolist() == [1, -1, 0, 0]
    assert dropped.attributes["age"].isnan().tolist() == [True, False, True, False]


def test_times_a_thousandth_apart_have_distinct_embeddings():
    torch.manual_seed(0)
    embedded = TimestepEmbedding(32)(torch.tensor([0.0, 0.001, 0.5, 0.501, 1.0]))

    distances = torch.cdist(embedded, embedded) + torch.eye(5)
    assert (distances > 1e-3).all()
