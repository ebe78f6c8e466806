"""Experiment files of all layouts with mistakes in them, as a hypothesis strategy.

`python -m tests.config.mutations NUMBER` checks so many of them, in 4 GiB of memory.
"""

from __future__ import annotations

import contextlib
import io
import re
import resource
import sys
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from signal_diffusion.cli.config_check import report
from signal_diffusion.config.writing import to_toml
from signal_diffusion.errors import UserError
from signal_diffusion.experiment.loading import load_any_experiment
from tests.config.older_files import FLAT_TOML, FLAT_YAML, GROUPED_YAML

ROOT = Path(__file__).parents[2]
LIMIT = 4 * 2**30
WRITTEN = [
    *sorted((ROOT / "config").glob("*/*.toml")),
    *sorted((ROOT / "tests" / "written_before").rglob("config.toml")),
]
FILES = [(path.suffix, path.read_text(encoding="utf-8")) for path in WRITTEN]
FILES += [(".yaml", text.replace("{{", "{").replace("}}", "}")) for text in (FLAT_YAML, GROUPED_YAML)]
FILES += [(".toml", FLAT_TOML)] * 3
# it needs no dataset, so that more of it is checked
FILES += [(".toml", (ROOT / "config" / "diffusion" / "quickstart.toml").read_text())] * 5
VALUES = [
    *("-1", "0", "1", "2", "7", "1000", "1000000", "1000000000", str(2**63 - 1), str(2**63), str(10**30), "9" * 5000),
    *("0.0", "-0.0", "1e-300", "1e300", "1e999", "nan", "inf", "-inf", "true", "false", "yes", "null", "~"),
    *(
        '""',
        "''",
        '"x"',
        '"\\u0000"',
        '"\\ud800"',
        '"' + "x" * 300 + '"',
        "2020-01-01",
        "07:30:00",
        "0x7f",
        "!!bool x",
    ),
    *("[]", "{}", "[1, 2]", "[0.9, 0.99, 0.999]", "[[1]]", '["age", 3]', "{a = 1}", "{a: 1}", "[" * 3000),
    *("!!bool x", "*a", "&a 1"),
    *('"dit"', '"unet"', '"sd35"', '"hourglass"', '"localmamba"', '"autoencoder_kl"', '"timeseries"', '"latest"'),
]
PIECES = [
    "\n",
    " ",
    "=",
    ":",
    ".",
    "[",
    "]",
    "{",
    "}",
    '"',
    "'",
    "#",
    "\t",
    "\0",
    "\x1b[2J",
    "é",
    "\ufeff",
    "- ",
    "a.b.c",
]


@st.composite
def mutated_files(draw: st.DrawFn) -> tuple[str, bytes]:
    """The suffix and the bytes of an experiment file with one to four mistakes."""
    suffix, text = draw(st.sampled_from(FILES))
    for _ in range(draw(st.integers(1, 4))):
        text = draw(st.sampled_from([_other_value, _without, _repeated, _inserted, _other_key]))(draw, text)
    content = text.encode()
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(content)))
        content = content[:place] + draw(st.binary(max_size=4)) + content[place:]
    return suffix, content


def check(suffix: str, content: bytes, *, thoroughly: bool) -> None:
    """Read an experiment file as `config show` does, or as `config check`; only a `UserError` may come out."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        path = Path(folder) / f"experiment{suffix}"
        path.write_bytes(content)
        try:
            if thoroughly:
                report(path, ())
            to_toml(load_any_experiment(path))
        except UserError as error:
            assert error.lines
            assert not any("\n" in line for line in error.lines)


def _other_value(draw: st.DrawFn, text: str) -> str:
    values = list(re.finditer(r"(?<=[=:] )[^#\n]+", text))
    return _replaced(text, draw(st.sampled_from(values)).span(), draw(st.sampled_from(VALUES))) if values else text


def _other_key(draw: st.DrawFn, text: str) -> str:
    keys = list(re.finditer(r"\w+(?= *[=:\]])", text))
    if not keys:
        return text
    return _replaced(text, draw(st.sampled_from(keys)).span(), draw(st.sampled_from(keys))[0])


def _without(draw: st.DrawFn, text: str) -> str:
    return _replaced(text, _span(draw, text), "")


def _repeated(draw: st.DrawFn, text: str) -> str:
    start, end = _span(draw, text)
    return _replaced(text, (end, end), text[start:end] * draw(st.integers(1, 3)))


def _inserted(draw: st.DrawFn, text: str) -> str:
    place = draw(st.integers(0, len(text)))
    return _replaced(text, (place, place), draw(st.sampled_from(PIECES)))


def _span(draw: st.DrawFn, text: str) -> tuple[int, int]:
    start = draw(st.integers(0, len(text)))
    return start, min(len(text), start + draw(st.integers(0, 200)))


def _replaced(text: str, span: tuple[int, int], new: str) -> str:
    return text[: span[0]] + new + text[span[1] :]


def main() -> None:
    """Check as many files as the command line says."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))

    @settings(
        max_examples=int(sys.argv[1]),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[*HealthCheck],
    )
    @given(mutated_files())
    def check_all(file: tuple[str, bytes]) -> None:
        check(*file, thoroughly=True)

    check_all()


if __name__ == "__main__":
    main()
