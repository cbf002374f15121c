"""Rendered reports on disk, opened in a real browser."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import report_examples as examples
from playwright.sync_api import Browser, ConsoleMessage, Page

from auditor_reports.html import render
from auditor_schemas.report import AuditReport


class Pages:
    """Rendered reports on disk, once each, opened in contexts of their own; errors and requests are kept."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.browser, self.folder = browser, folder
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def path(self, name: str) -> Path:
        """The page of a report that tests/report_examples.py builds."""
        path = self.folder / f"{name}.html"
        if not path.exists():
            report: AuditReport = getattr(examples, name)()
            path.write_text(render(report), encoding="utf-8")
        return path

    def open(
        self,
        name: str,
        *,
        anchor: str = "",
        width: int = 1280,
        height: int = 900,
        ready: bool = True,
        **context: object,
    ) -> Page:
        """The page, opened from disk; `ready`: once its script has run."""
        inside = self.browser.new_context(viewport={"width": width, "height": height}, **context)  # type: ignore[arg-type]
        page = inside.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._console)
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(f"{self.path(name).as_uri()}{anchor}")
        if ready:
            page.wait_for_selector("html[data-ready]", state="attached")
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def pages(browser: Browser, folder: Path) -> Iterator[Pages]:
    """The pages of one test; afterwards none may have complained, nor asked for anything beyond itself."""
    opened = Pages(browser, folder)
    yield opened
    for context in list(browser.contexts):
        context.close()
    assert opened.complaints == []
    assert {url for url in opened.requests if not url.startswith(("file:", "blob:"))} == set()


Open = Callable[..., Page]
