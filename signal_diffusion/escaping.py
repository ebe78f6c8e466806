"""Escape text that comes from recordings or from the user: in terminals, Markdown and figures it is text, nothing more.

Names, labels and descriptions may contain anything, such as `<img src=x>`, `|` or the escape codes of a terminal.
"""

from __future__ import annotations

import html
import re

__all__ = ["for_figure", "for_markdown", "for_terminal", "markdown_code"]

# Control characters, line separators, characters that reverse the direction of text, and halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"[\\`*\[\]|]|(?<!\w)_|_(?!\w)")  # _ within a word is only itself


def for_terminal(text: str) -> str:
    r"""One line without control characters: they are written as `\x1b` or `\n`."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def for_markdown(text: str) -> str:
    """Text for one line or table cell of Markdown, without markup or HTML."""
    return html.escape(_MARKDOWN.sub(r"\\\g<0>", for_terminal(text)), quote=False)


def markdown_code(text: str) -> str:
    """Text as a code span of Markdown, in as many backticks as it needs."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " * bool(longest)
    return f"{fence}{space}{for_terminal(text)}{space}{fence}"


def for_figure(text: str) -> str:
    """Text for Matplotlib, which takes what stands between two $ as mathematics."""
    return for_terminal(text).replace("$", r"\$")
