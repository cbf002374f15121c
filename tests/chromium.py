"""One real Chromium for all browser tests; where there is none, CI fails and a person's machine says how to get it."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
MISSING = "no Chromium: `make browser` installs it on Debian, or name one with AUDITOR_CHROMIUM=/path/to/chromium"


def executable() -> str | None:
    """The browser that AUDITOR_CHROMIUM names, or the first one on the path."""
    named = os.environ.get("AUDITOR_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def playwright() -> Iterator["Playwright"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def browser(playwright: "Playwright") -> Iterator["Browser"]:
    path = executable()
    if path is None and os.environ.get("CI"):
        pytest.fail(MISSING)
    if path is None:
        pytest.skip(MISSING)
    running = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
    yield running
    running.close()
