"""Text from recordings is only text, in the terminal, in Markdown and in figures."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import mne
import numpy as np
import pytest
from typer.testing import CliRunner

from signal_diffusion.cli import app
from signal_diffusion.errors import UserError, print_warning, report_user_errors
from signal_diffusion.escaping import for_figure, for_markdown, for_terminal, markdown_code

LABEL = "<img src=x>|a\x1b[31m`$x_$"
IN_TERMINAL = LABEL.replace("\x1b", r"\x1b")
IN_MARKDOWN = r"&lt;img src=x&gt;\|a\\x1b\[31m\`$x\_$"


@pytest.mark.parametrize(
    ("text", "terminal"),
    [
        (LABEL, IN_TERMINAL),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\u202eabc\u2028", r"\u202eabc\u2028"),
        ("\udcff", r"\udcff"),
        ("Fpµ1 – Größe 電極", "Fpµ1 – Größe 電極"),  # text is kept
    ],
)
def test_terminals_get_one_line_without_control_characters(text: str, terminal: str) -> None:
    assert for_terminal(text) == terminal


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("eyes_open 12, rest 3", "eyes_open 12, rest 3"),
        ("_a_ *b* [c](d) `e` \\", r"\_a\_ \*b\* \[c\](d) \`e\` \\"),
        ("<b>&amp;|\n|", r"&lt;b&gt;&amp;amp;\|\\n\|"),
    ],
)
def test_markdown_gets_neither_markup_nor_html(text: str, markdown: str) -> None:
    assert for_markdown(text) == markdown


def test_a_code_span_has_more_backticks_than_its_text() -> None:
    assert markdown_code("prepare 'a b'") == "`prepare 'a b'`"
    assert markdown_code("a `b`` c\n") == "``` a `b`` c\\n ```"


def test_figures_show_dollars() -> None:
    assert for_figure("$x_$") == r"\$x_\$"


def test_errors_and_warnings_are_printed_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("signal_diffusion.anything")
    with pytest.raises(SystemExit), report_user_errors():
        record = logger.makeRecord(logger.name, logging.WARNING, "", 0, "label %s", (LABEL,), None)
        assert logging.lastResort is not None
        assert logging.lastResort.format(record) == f"label {IN_TERMINAL}"
        raise UserError(f"label {LABEL}")
    assert capsys.readouterr().err == f"error: label {IN_TERMINAL}\n"


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the labels `LABEL` and `rest`, from four people."""
    folder = tmp_path_factory.mktemp("escaping")
    rows = ["id,group"]
    for number in range(4):
        signal = 20e-6 * np.random.default_rng(number).standard_normal((2, 125 * 8))
        raw = mne.io.RawArray(signal, mne.create_info(["Fz", "Cz"], 125.0, "eeg"), verbose="ERROR")
        (folder / "in" / f"p{number}").mkdir(parents=True)
        raw.save(folder / "in" / f"p{number}" / "raw.fif", verbose="ERROR")
        rows.append(f"p{number},{'rest' if number % 2 else LABEL}")
    (folder / "people.csv").write_text("\n".join(rows) + "\n")
    options = ["--channels", "Fz,Cz", "--window", 512, "--subjects", folder / "people.csv", "--label", "group"]
    output = invoke("prepare", folder / "in", "--output", folder / "out", *options, "--splits", 0.5, 0.5, 0)
    assert IN_TERMINAL in output and "\x1b" not in output
    return folder / "out"


def test_a_hostile_label_is_text_in_the_readme_and_in_data_show(dataset: Path) -> None:
    readme = (dataset / "README.md").read_text()
    assert IN_MARKDOWN in readme and "<img" not in readme and "\x1b" not in readme
    shown = invoke("data", "show", dataset, "--balance", "label")
    assert f"label {IN_TERMINAL}" in shown and "\x1b" not in shown
    assert dataset.with_name("out.png").exists()


def test_a_hostile_label_is_text_in_an_exported_model_and_its_samples(
    dataset: Path, experiment_file: Path, tmp_path: Path
) -> None:
    from signal_diffusion.training.diffusion import train

    few = (
        "training.max_steps=2",
        "training.validation.enabled=false",
        "data.loading.batch_size=4",
        "data.loading.drop_last=false",
    )
    run = tmp_path / "run"
    train(experiment_file, output_dir=run, overrides=(f"data.paths.root={dataset}", *few))
    invoke("export", run, "--output", tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    text, _, rest = card.partition("```python")
    code, _, after = rest.partition("```\n")
    assert f"label ({IN_MARKDOWN}, rest)" in after and IN_MARKDOWN + " " in after.partition("| train |")[2]
    assert "<img" not in text + after and "\x1b" not in card and json.dumps(LABEL) in code
    invoke("sample", tmp_path / "model", "--label", LABEL, "--num", 2, "--output", tmp_path / "samples")
    assert json.loads((tmp_path / "samples" / "samples.json").read_text())["asked"] == {"label": LABEL}


def test_only_the_first_process_prints_a_warning_and_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        print_warning("label \x1b[31masleep\n: never trained")
    assert capsys.readouterr().err == "warning: label \\x1b[31masleep\\n: never trained\n"
