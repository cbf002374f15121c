"""The published site in a real browser: search, keyboard, phone, dark mode, policy and accessibility."""

from datetime import UTC, datetime
from pathlib import Path

import axe_playwright_python
import made_reports as made
import pytest
from playwright.sync_api import Browser, Page

from auditor.reporting.publish import publish

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u202egnp.exe"
NAMES = ("hf://deepseek-ai/DeepSeek-V3", "hf://acme/finetune", "s3://bucket/staging/V3.2-Exp", HOSTILE)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Four checkpoints, one with a history of every verdict, one with a name made to harm."""
    folder = tmp_path_factory.mktemp("reports")
    bases = (made.sound(), made.broken(), made.incomplete(), made.agreeing(made.waived_and_known()))
    paths = []
    for number, name in enumerate(NAMES):
        for day, base in enumerate(bases[: 4 if number == 0 else 1 + number % 2]):
            source = base.source.model_copy(update={"uri": name, "revision": made.fingerprint((number, day))[:40]})
            run = base.run.model_copy(update={"started_at": datetime(2026, 1, 1 + day, number, tzinfo=UTC)})
            path = folder / f"{number}-{day}.json"
            path.write_text(base.model_copy(update={"source": source, "run": run}).model_dump_json())
            paths.append(str(path))
    publish(paths, str(folder / "site"))
    return folder / "site"


class _Opened:
    """A page, with what its console said."""

    def __init__(self, browser: Browser, address: str, **context: object) -> None:
        self.context = browser.new_context(**context)
        self.page: Page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)


@pytest.fixture
def open_page(browser):
    opened: list[_Opened] = []

    def open_one(path: Path, **context: object) -> _Opened:
        opened.append(_Opened(browser, path.as_uri(), **context))
        return opened[-1]

    yield open_one
    for each in opened:
        each.context.close()


def _checkpoint(site: Path) -> Path:
    (page,) = site.glob("checkpoints/hf-deepseek-ai-deepseek-v3-*/index.html")
    return page


def _rows(page: Page) -> list[str]:
    return page.locator("tbody tr:visible th a").all_inner_texts()


def test_index_opens_from_disk_asks_for_nothing_else_and_breaks_no_policy(site, open_page):
    opened = open_page(site / "index.html")
    assert len(_rows(opened.page)) == len(NAMES)
    assert opened.said == []
    assert len(opened.asked) == 1


def test_hostile_name_is_text(site, open_page):
    opened = open_page(site / "index.html")
    assert opened.page.title() == "Checkpoint audits"
    assert any(each.startswith("<script>document.title") and "\\u202e" in each for each in _rows(opened.page))
    opened.page.locator("tbody a", has_text="gnp.exe").click()
    assert "owned" not in opened.page.title().removeprefix("<script>document.title='owned'</script>").split("<img")[0]
    assert opened.page.locator("h1").inner_text().startswith("<script>")
    assert opened.page.locator("main img").count() == 0
    assert opened.said == []


def test_search_narrows_by_every_word_and_says_how_many_are_left(site, open_page):
    page = open_page(site / "index.html").page
    page.get_by_label("Search").fill("V3 DEEPSEEK-AI")
    assert _rows(page) == [NAMES[0]]
    assert page.get_by_role("status").inner_text() == f"1 of {len(NAMES)} shown"
    page.get_by_label("Search").fill("nothing like it")
    assert _rows(page) == []
    page.get_by_role("button", name="Show all").click()
    assert len(_rows(page)) == len(NAMES)


def test_verdict_buttons_filter_and_say_that_they_are_pressed(site, open_page):
    page = open_page(site / "index.html").page
    failed = page.get_by_role("button", name="Failed")
    failed.click()
    assert failed.get_attribute("aria-pressed") == "true"
    assert _rows(page) == [HOSTILE.replace("\u202e", "\\u202e"), NAMES[1]]


def test_keyboard_reaches_search_filters_and_every_checkpoint_in_order(site, open_page):
    page = open_page(site / "index.html").page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    reached = []
    for _ in range(5 + len(NAMES)):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.textContent.trim()")
        )
    assert reached[0].startswith("INPUT")
    assert [each.partition(" ")[0] for each in reached[1:5]] == ["BUTTON"] * 4
    assert len([each for each in reached if each.startswith("A ")]) == len(NAMES)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"


def test_enter_on_a_checkpoint_leads_to_its_history_its_report_and_back(site, open_page):
    page = open_page(site / "index.html").page
    page.get_by_role("link", name=NAMES[0]).focus()
    page.keyboard.press("Enter")
    assert page.locator("h1").inner_text() == NAMES[0]
    assert page.locator("tbody tr").count() == 4
    page.get_by_role("link", name="Open the report").click()
    assert "DeepSeek-V3" in page.locator("body").inner_text()
    page.go_back()
    page.get_by_role("link", name="All checkpoints").click()
    assert page.title() == "Checkpoint audits"


def test_screen_reader_is_told_the_history_in_words(site, open_page):
    page = open_page(site / "index.html").page
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=NAMES[0]))
    strip = row.get_by_role("img")
    assert strip.get_attribute("aria-label") == "Verdicts, oldest first: Passed, Failed, Incomplete, Passed"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("which", ["index", "checkpoint"])
def test_axe_finds_no_violation_and_nothing_overflows(site, open_page, which, width, scheme):
    path = site / "index.html" if which == "index" else _checkpoint(site)
    # The policy stops axe too, so it comes in past it.
    page = open_page(path, viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True).page
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")
    assert found["violations"] == []
    assert len(found["passes"]) > 15
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_dark_page_is_dark_and_light_page_light(site, open_page):
    def brightness(scheme: str) -> int:
        page = open_page(site / "index.html", color_scheme=scheme).page
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(each) for each in colour.removeprefix("rgb(").removesuffix(")").split(","))

    assert brightness("dark") < 150 < 600 < brightness("light")


def test_without_script_every_checkpoint_is_there_and_no_dead_control(site, open_page):
    page = open_page(site / "index.html", java_script_enabled=False).page
    assert len(_rows(page)) == len(NAMES)
    assert not page.locator("form").is_visible()
