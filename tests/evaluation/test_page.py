"""The page of a report: complete, escaped, the same each time, and quiet in a browser."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.chromium import visit

if TYPE_CHECKING:
    from signal_diffusion.evaluation.report import Report
    from signal_diffusion.evaluation.windows import Windows

CH_NAMES = ("Fp<1>", "Fp2", "F3", "F4", "C3", "C4", "O1", "O2")
LABEL = "<img src=x onerror=alert(1)>"
NAME = "a\x1b[31m </title><script>alert(2)</script>"


def windows_of(people: str, seed: int, *, size: int = 84, name: str = "windows") -> Windows:
    """Random walks of six people, 4 s at 100 Hz, around an event."""
    from signal_diffusion.evaluation.windows import Windows

    random = np.random.default_rng(seed)
    places = random.standard_normal((len(CH_NAMES), 3))
    return Windows(
        signals=2 * np.cumsum(random.standard_normal((size, len(CH_NAMES), 400)), -1),
        sfreq=100.0,
        ch_names=CH_NAMES,
        columns={
            "subject": np.array([f"{people}{row % 6}" for row in range(size)]),
            "label": np.array([(LABEL, "rest")[row % 2] for row in range(size)]),
        },
        name=name,
        positions=dict(zip(CH_NAMES, places / np.linalg.norm(places, axis=1, keepdims=True), strict=True)),
        tmin=-0.5,
    )


@pytest.fixture(scope="module")
def report() -> Report:
    """All metrics; the first synthetic window is a copy of a training window."""
    from signal_diffusion.evaluation import comparison
    from signal_diffusion.evaluation.utility import eegnet

    train, synthetic = windows_of("t", 1), windows_of("s", 2, name=NAME)
    synthetic.signals[0] = train.signals[7]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(comparison, "DRAWS", 2)  # faster
        patched.setattr(eegnet, "MAX_EPOCHS", 2)
        return comparison.compare_windows(
            windows_of("r", 0), synthetic, train=train, controls=True, notes=["a note with <b> in it"]
        )


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    from signal_diffusion.evaluation.page.rendering import render

    return render(report)


class Parsed(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_names_every_metric_with_its_definition(page: str) -> None:
    from signal_diffusion.evaluation.metrics import METRICS

    text = Parsed(page).text
    metrics = [metric for metric in METRICS.values() if not metric.of_spectrograms]
    missing = [metric.name for metric in metrics if f"{metric.definition} " not in text]
    assert missing == []
    assert [metric.name for metric in metrics if f'id="{metric.name}"' not in page] == []


def test_the_page_begins_with_a_verdict_for_each_question(report: Report, page: str) -> None:
    from signal_diffusion.evaluation.measurement import QUESTIONS
    from signal_diffusion.evaluation.page.rendering import VERDICTS

    verdicts = Parsed(page[: page.index('id="metrics"')]).text
    assert [
        question
        for question, (verdict, _) in report.verdicts().items()
        if f"{VERDICTS[verdict][1]} {question.capitalize()}: {QUESTIONS[question]}" not in verdicts
    ] == []


def test_controls_are_beside_the_synthetic_windows(report: Report, page: str) -> None:
    from signal_diffusion.evaluation.text import number

    table = Parsed(page[page.index('id="controls"') : page.index('id="inputs"')]).text
    assert f"Metric {' '.join(report.controls)} synthetic".replace(" ", "") in table.replace(" ", "")
    row = [estimates["kurtosis"] for estimates in report.controls.values()]
    numbers = [number(each.ratio) for each in (*row, report["kurtosis"].total) if each]
    assert f"ΔKurt{''.join(numbers)}" in table.replace(" ", "")


def test_text_from_recordings_is_escaped(page: str) -> None:
    parsed = Parsed(page)
    assert {tag for tag, _ in parsed.elements} & {"script", "b", "iframe"} == set()
    assert [attributes for _, attributes in parsed.elements if any(name.startswith("on") for name in attributes)] == []
    assert all(text in parsed.text for text in (LABEL, "Fp<1>", r"a\x1b[31m </title><script>", "a note with <b> in it"))


def test_the_page_refers_to_nothing_outside_itself(page: str) -> None:
    referred = [
        value
        for _, attributes in Parsed(page).elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data")
    ]
    assert {str(value)[:5] if str(value).startswith("data:") else str(value)[:1] for value in referred} == {
        "data:",
        "#",
    }
    assert "url(" not in page and "@import" not in page


def test_every_figure_is_a_whole_image_with_a_caption(page: str) -> None:
    from signal_diffusion.evaluation.page.pictures import PICTURES

    sources = [attributes["src"] for tag, attributes in Parsed(page).elements if tag == "img"]
    assert len(PICTURES) == page.count("<figcaption>") - page.count("<figcaption></figcaption>")
    assert len(sources) == len(PICTURES) - 1  # utility was not measured
    for source in sources:
        kind, content = re.fullmatch(r"data:image/(svg\+xml|png);base64,(.*)", str(source)).groups()  # type: ignore[union-attr]
        if kind == "png":
            Image.open(io.BytesIO(base64.b64decode(content))).load()
        else:
            assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")


def test_a_copy_is_the_first_of_the_windows_beside_their_neighbours(report: Report) -> None:
    from signal_diffusion.evaluation.page.examples import likely_copies

    found, *others = likely_copies(report)
    synthetic, training = found.windows.values()
    assert np.array_equal(synthetic.signals, training.signals)
    assert found.title == "distance ratio 0.00"
    assert all(float(other.title.split()[-1]) > 0.5 for other in others)


def test_examples_of_a_pair_have_the_same_label(report: Report) -> None:
    from signal_diffusion.evaluation.page.examples import example_pairs

    pairs = example_pairs(report.groups, 3)
    labels = [{str(windows.column("label")[0]) for windows in pair.windows.values()} for pair in pairs]  # type: ignore[index]
    assert labels == [{LABEL}, {"rest"}, {LABEL}]


def test_figures_that_windows_do_not_have_are_left_out_with_the_reason() -> None:
    from signal_diffusion.evaluation.comparison import compare_windows
    from signal_diffusion.evaluation.page.rendering import render

    real, synthetic = (
        dataclasses.replace(windows_of("r", seed, size=10), columns={}, positions={}, tmin=None) for seed in (0, 1)
    )
    text = Parsed(render(compare_windows(real, synthetic, metrics=["lsd"]))).text
    assert "Left out: maps need the positions of at least 8 electrodes, not all on one circle." in text
    assert "Left out: the windows are not cut around events." in text
    assert "Left out: distances to training windows are not part of this report." in text
    assert "Left out: no metric has a ratio." in text
    assert "no floor: real windows have no column subject" in text


def test_save_writes_the_page_with_the_same_bytes_each_time(report: Report, page: str, tmp_path: Path) -> None:
    assert [file.name for file in report.save(tmp_path)] == ["report.json", "report.csv", "report.html"]
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_chromium_opens_and_prints_the_page_without_an_error_or_a_request(page: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    visited = visit(file, tmp_path)
    assert (visited.console, visited.requests) == ([], [])
    assert visited.pdf.startswith(b"%PDF") and len(re.findall(rb"/Type /Page\b", visited.pdf)) >= 3


def test_chromium_would_tell_of_errors_and_requests(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text("<img src='http://127.0.0.1:9/a.png'><img src='http://b.invalid/'><script>nothing()</script>")
    visited = visit(file, tmp_path)
    assert sorted(visited.requests) == ["http://127.0.0.1:9/a.png", "http://b.invalid/"]
    assert "nothing is not defined" in "".join(visited.console)


def test_the_page_may_not_ask_for_anything_even_if_it_had_a_link(page: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page.replace("<main>", "<main><img src='http://b.invalid/'>"), encoding="utf-8")
    visited = visit(file, tmp_path)
    assert visited.requests == []
    assert "Content Security Policy" in "".join(visited.console)
