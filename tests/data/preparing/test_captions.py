import pytest

from signal_diffusion.data.preparing.captions import caption_of, check_template, default_template, values_of
from signal_diffusion.errors import UserError

TEMPLATE = default_template("image")


@pytest.mark.parametrize(
    ("values", "caption"),
    [
        (
            {"health": "healthy", "age": 73.0, "gender": "female"},
            "an EEG spectrogram of a healthy 73 year old female subject",
        ),
        ({"health": None, "age": 18.0, "label": "rest"}, "an EEG spectrogram of an 18 year old subject, rest"),
        ({"age": 80.0}, "an EEG spectrogram of an 80 year old subject"),
        ({"age": 11.5, "gender": "male"}, "an EEG spectrogram of an 11.5 year old male subject"),
        ({"age": 110.0}, "an EEG spectrogram of a 110 year old subject"),
        ({"health": "unwell"}, "an EEG spectrogram of an unwell subject"),
        ({}, "an EEG spectrogram of a subject"),
    ],
)
def test_missing_values_are_left_out(values: dict, caption: str):
    assert caption_of(TEMPLATE, values) == caption


def test_braces_and_brackets_in_values_are_kept():
    assert caption_of("{label}, {site}", {"label": "a[0]", "site": "x"}) == "a[0], x"
    assert caption_of("a(n)[ {site}] room", {"site": "{odd}"}) == "a {odd} room"


def test_a_value_outside_brackets_may_be_missing():
    assert caption_of("EEG of {gender} people", {"gender": None}) == "EEG of people"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{sex}", "unknown name sex; use only age, gender"),
        ("{age", "not a valid template"),
        ("{age:.1f}", "are not supported"),
        ("[{age}", "unbalanced or nested brackets"),
    ],
)
def test_an_invalid_template_is_a_one_line_error(template: str, complaint: str):
    with pytest.raises(UserError, match=complaint):
        check_template(template, ["gender", "age"])


def test_the_default_template_is_valid():
    check_template(default_template("signal"), ["health", "age", "gender", "label"])
    assert caption_of(default_template("signal"), {"label": "rest"}) == "an EEG recording of a subject, rest"


NAMES = {"health": ["healthy", "unwell"], "gender": ["female", "male"], "label": ["rest", "task, eyes (open)"]}


@pytest.mark.parametrize(
    "values",
    [
        {"health": "healthy", "age": 73.0, "gender": "female", "label": "rest"},
        {"health": "unwell", "label": "task, eyes (open)"},
        {"age": 11.5, "gender": "male"},
        {"age": 18.0},
        {},
    ],
)
@pytest.mark.parametrize("template", [TEMPLATE, "[{label}:] {gender}[ of {age}][ ({label}, {health})]"])
def test_the_values_of_a_caption_are_those_that_it_was_made_from(template: str, values: dict):
    caption = caption_of(template, values)
    found = values_of(template, caption, NAMES)

    assert caption_of(template, found) == caption
    if template == TEMPLATE:
        assert found == {name: f"{value:g}" if name == "age" else value for name, value in values.items()}


@pytest.mark.parametrize("caption", ["", "a sleepy woman", "an EEG spectrogram of a furry subject, rest"])
def test_other_captions_have_no_values(caption: str):
    assert values_of(TEMPLATE, caption, NAMES) == {}
