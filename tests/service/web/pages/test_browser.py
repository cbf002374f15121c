"""The pages in a real browser: with scripts and without, on a phone, judged by axe, and an audit that moves."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import update

import auditor
from auditor.service.access.tokens import Scope
from auditor.service.audits.life import Result
from auditor.service.audits.order import Order
from auditor.service.audits.workers import Presence
from auditor.service.store.tables import audits as table
from tests.service.running import Running
from tests.service.web.conftest import Service
from tests.service.web.pages.conftest import HOSTILE, checkpoint_id, finish

AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
WIDE, PHONE = 1200, 390


@pytest.fixture(scope="module")
def report(checkpoint: Path) -> bytes:
    return auditor.audit(checkpoint).model_dump_json(indent=2).encode()


class Visitors:
    """Browsers of people, whose pages may not complain of anything."""

    def __init__(self, browser: Browser, service: Service) -> None:
        self._browser, self._service = browser, service
        self.complaints: list[str] = []
        self.contexts: list[BrowserContext] = []

    def come(self, *scopes: Scope, width: int = WIDE, **context: object) -> Page:
        """A page of somebody who has signed in, if with anything."""
        inside = self._browser.new_context(viewport={"width": width, "height": 800}, **context)
        self.contexts.append(inside)
        page = inside.new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        if scopes:
            page.goto(f"{self._service.url}/login")
            page.get_by_label("Token").fill(self._service.state.tokens.create("ann", scopes).token)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_text("Signed in as ann")).to_be_visible()
        return page


@pytest.fixture
def visitors(browser: Browser, service: Service) -> Iterator[Visitors]:
    people = Visitors(browser, service)
    yield people
    for each in people.contexts:
        each.close()
    # A page that is not there is one for the browser, too.
    assert [each for each in people.complaints if "the server responded with a status of 4" not in each] == []


@pytest.fixture
def places(service: Service, report: bytes) -> dict[str, str]:
    """An installation in which every page has something to show, names that harm included."""
    audits, database = service.installation.audits, service.installation.database
    first, second = (finish(service, HOSTILE, report=report) for _ in range(2))
    finish(service, "hf://org/failed", "failed", errors=2)
    finish(service, "hf://org/incomplete", "incomplete")
    Presence(database, "worker-1").enter()
    Presence(database, "gone").enter()
    Presence(database, "gone").leave()
    running = audits.submit(Order(source="s3://bucket/" + "long-name/" * 20, depth="full")).audit
    audits.begin(running, 1, "worker-1")
    audits.tell(
        "worker-1", {(running, 1): ('{"what":"bytes","done":1048576,"total":4194304}', f"{HOSTILE}\n" + "word " * 99)}
    )
    waits = audits.submit(Order(source="hf://org/waits")).audit
    retried = audits.submit(Order(source="hf://org/retried")).audit
    audits.begin(retried, 1, "worker-1")
    audits.conclude(retried, 1, "worker-1", Result(causes=("unreachable",), reason=HOSTILE))
    lost = audits.submit(Order(source="hf://org/none")).audit
    audits.begin(lost, 1, "worker-1")
    audits.conclude(lost, 1, "worker-1", Result(causes=("not_found",), reason=HOSTILE))
    return {
        "dashboard": "/",
        "found nothing": "/?text=nothing",
        "checkpoint": f"/checkpoints/{checkpoint_id(service, HOSTILE)}",
        "audits": "/audits",
        "finished": f"/audits/{second}",
        "running": f"/audits/{running}",
        "waiting": f"/audits/{waits}",
        "retried": f"/audits/{retried}",
        "failed": f"/audits/{lost}",
        "attempt": f"/audits/{running}/attempts/1",
        "report": f"/audits/{second}/report",
        "comparison": f"/compare?old={first}&new={second}",
        "form": "/audits/new",
        "queue": "/queue",
        "rules": "/rules",
        "rule": "/rules/mismatched-block-scale",
        "login": "/login",
        "nowhere": "/nowhere",
    }


@pytest.mark.parametrize(("width", "scheme"), [(WIDE, "light"), (PHONE, "dark")])
def test_axe_finds_no_violation_and_nothing_overflows(
    visitors: Visitors, service: Service, places: dict[str, str], width: int, scheme: str
) -> None:
    # The policies stop axe too, so it comes in past them; another test is there for what they let through.
    page = visitors.come("admin", width=width, color_scheme=scheme, bypass_csp=True)
    found = {}
    for name, place in places.items():
        page.goto(service.url + place)
        page.evaluate(AXE.read_text())
        result = page.evaluate("axe.run()")
        assert len(result["passes"]) > 8, name
        if result["violations"]:
            found[name] = [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in result["violations"]]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.setdefault(name, []).append(("too wide", []))
    assert found == {}


def test_no_page_breaks_its_policy_and_hostile_names_run_nowhere(
    visitors: Visitors, service: Service, places: dict[str, str]
) -> None:
    page = visitors.come("admin")
    for name, place in places.items():
        page.goto(service.url + place)
        assert page.locator("img[src=x]").count() == 0, name
        assert page.evaluate("document.styleSheets.length") == 1, name


def test_without_scripts_every_page_says_the_same(visitors: Visitors, service: Service, places: dict[str, str]) -> None:
    with_scripts, without = visitors.come("admin"), visitors.come("admin", java_script_enabled=False)
    for name, place in places.items():
        if name in ("report", "running", "waiting", "retried"):  # of which scripts are a part, or time is
            continue
        headings = []
        for page in (with_scripts, without):
            page.goto(service.url + place)
            headings.append(page.locator("h1, h2").all_inner_texts())
        assert headings[0] == headings[1], name
    without.goto(service.url + places["running"])
    assert "1 MiB of 4 MiB" in without.locator("main").inner_text()
    assert without.locator("meta[http-equiv=refresh]").count() == 1
    without.goto(service.url + places["report"])
    assert "What became of every rule" in without.locator("body").inner_text()


def test_the_report_runs_its_scripts_and_sees_nothing_of_the_session(
    visitors: Visitors, service: Service, places: dict[str, str]
) -> None:
    page = visitors.come("admin")
    page.goto(service.url + places["report"])
    page.wait_for_selector("html[data-ready]", state="attached")
    assert page.evaluate("window.origin") == "null"
    with pytest.raises(Exception, match=r"sandboxed|insecure"):
        page.evaluate("document.cookie")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download JSON").click()
    assert '"schema_version"' in Path(download.value.path()).read_text()
    page.get_by_role("link", name="All audits of this checkpoint").click()
    expect(page.get_by_role("heading", name="History")).to_be_visible()
    expect(page.get_by_text("Signed in as ann")).to_be_visible()


def test_progress_moves_as_it_comes_and_the_page_follows_to_the_end(
    visitors: Visitors, service: Service, report: bytes
) -> None:
    audits = service.installation.audits
    audit = audits.submit(Order(source="hf://org/m", depth="full")).audit
    page = visitors.come("read")
    page.goto(f"{service.url}/audits/{audit}")
    expect(page.get_by_text("Place 1 in the queue.")).to_be_visible()
    audits.begin(audit, 1, "w")
    expect(page.locator(".state .badge")).to_contain_text("Running")
    for done in (1, 2, 3):
        said = f'{{"what":"bytes","done":{done << 30},"total":{4 << 30}}}'
        audits.tell("w", {(audit, 1): (said, "line\n" * done)})
        expect(page.locator("#moved")).to_have_text(f"{done} GiB of 4 GiB ({25 * done}.0 %)")
        assert page.locator("progress").evaluate("bar => bar.value / bar.max") == done / 4
        page.wait_for_timeout(1100)
    expect(page.locator("#rate")).to_have_text(re.compile(r"MiB/s|GiB/s"))
    expect(page.locator("#left")).to_have_text(re.compile(r"about \d+ s left"))
    audits.tell("w", {(audit, 1): ('{"what":"bytes","done":4294967296,"total":4294967296}', f"the end {HOSTILE}")})
    page.get_by_text("What its process wrote").click()
    expect(page.locator("#log")).to_contain_text("the end <script>alert(1)</script>")
    kept = service.installation.reports.put(report)
    audits.conclude(audit, 1, "w", Result(report=kept, verdict="passed", tool="1"))
    expect(page.get_by_role("link", name="Open the report")).to_be_visible()
    expect(page).to_have_title("Passed: hf://org/m · auditor")


def test_an_audit_that_is_tried_again_is_followed_too(visitors: Visitors, service: Service) -> None:
    audits = service.installation.audits
    audit = audits.submit(Order(source="hf://org/m")).audit
    audits.begin(audit, 1, "w")
    page = visitors.come("read")
    page.goto(f"{service.url}/audits/{audit}")
    expect(page.locator(".state .badge")).to_contain_text("Running")
    audits.conclude(audit, 1, "w", Result(causes=("unreachable",), reason="no such host"))
    expect(page.locator(".state .badge")).to_contain_text("Waiting")
    with service.installation.database.write() as connection:
        connection.execute(update(table).values(due_at=0))
    service.installation.recovery.add_due()
    audits.begin(audit, 2, "w")
    expect(page.locator(".state")).to_contain_text("attempt 2")


def test_a_page_that_nobody_looks_at_holds_no_stream(visitors: Visitors, service: Service) -> None:
    audits, watch = service.installation.audits, service.state.watch
    audit = audits.submit(Order(source="hf://org/m")).audit
    page = visitors.come("read")
    page.goto(f"{service.url}/audits/{audit}")

    def look(hidden: str, streams: int) -> None:
        page.evaluate(f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}})")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        for _ in range(100):
            if watch.open_count == streams:
                return
            page.wait_for_timeout(50)
        raise AssertionError(f"{watch.open_count} streams")

    look("false", 1)
    look("true", 0)
    audits.begin(audit, 1, "w")
    page.wait_for_timeout(600)
    expect(page.locator(".state .badge")).to_contain_text("Waiting")
    look("false", 1)
    expect(page.locator(".state .badge")).to_contain_text("Running")


def test_the_keyboard_reaches_everything_in_order(visitors: Visitors, service: Service, places: dict[str, str]) -> None:
    page = visitors.come("admin")
    page.goto(service.url + places["form"])
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached == ["source", "revision", "depth-headers", "policy", "SUMMARY", "BUTTON"]


@pytest.mark.parametrize("scripts", [True, False])
def test_a_person_signs_in_starts_an_audit_and_reads_its_report(
    browser: Browser, tmp_path: Path, checkpoint: Path, scripts: bool
) -> None:
    service = Running(
        tmp_path / "data", "--port", "0", AUDITOR_SERVICE_SOURCES__ROOTS=f'["{checkpoint.parent}"]'
    )  # fmt: skip
    context = browser.new_context(viewport={"width": PHONE, "height": 800}, java_script_enabled=scripts)
    try:
        token = service.token()
        page = context.new_page()
        page.goto(f"{service.url}/audits/new")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_label("Source").fill("/etc")
        page.get_by_role("button", name="Start the audit").click()
        expect(page.locator("#source-fault")).to_contain_text("below none of the folders")
        page.get_by_label("Source").fill(str(checkpoint))
        page.get_by_role("button", name="Start the audit").click()
        # Without scripts the page asks again by itself, and a person need not wait for that.
        until: Callable[[], bool] = page.get_by_role("link", name="Open the report").is_visible
        for _ in range(60):
            if until():
                break
            page.wait_for_timeout(500)
            if not scripts:
                page.reload()
        page.get_by_role("link", name="Open the report").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("Passed")
        page.goto(service.url)
        expect(page.get_by_role("link", name=str(checkpoint))).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    finally:
        context.close()
        service.stop()
