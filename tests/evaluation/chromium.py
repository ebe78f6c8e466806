"""Open pages in a headless Chromium that reaches no network, and see what they ask for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Visit", "visit"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--no-pdf-header-footer"),
)
OWN = "not an origin"
"""Who asks, in the log of requests, if it is Chromium itself: it looks for updates whatever its options are."""


@dataclass(frozen=True, kw_only=True)
class Visit:
    """What happened when a page was opened and printed."""

    console: list[str]
    requests: list[str]
    """Addresses that the page asked for, not those that it has in itself."""
    pdf: bytes


def visit(page: Path, folder: Path) -> Visit:
    """Open a page and print it; skips the test if there is no Chromium."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is installed")
    pdf, requests = folder / "page.pdf", folder / "requests.json"
    files = [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={requests}", f"--print-to-pdf={pdf}"]
    command = [program, *OPTIONS, *files, page.as_uri()]
    log = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr
    asked = [event.get("params", {}) for event in json.loads(requests.read_text(encoding="utf-8"))["events"]]
    return Visit(
        console=re.findall(r".*:CONSOLE[:(].*", log),
        requests=[each["url"] for each in asked if "url" in each and each.get("initiator", OWN) != OWN],
        pdf=pdf.read_bytes(),
    )
