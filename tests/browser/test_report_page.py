"""The report's page in a real Chromium: what a person does with mouse, keyboard, phone, printer and screen reader."""

import json
import re

import pytest
import report_examples as examples
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from auditor_reports.html import render
from auditor_schemas.report import AuditReport

SCALE = next(each for each in examples.broken().findings if each.slug == "mismatched-block-scale")
ROUTER = next(each for each in examples.broken().findings if each.slug == "wrong-dtype")
MISSING = next(each for each in examples.broken().findings if each.slug == "missing-tensor")
PAGES = ("sound", "broken", "incomplete", "sampled", "complete")


def anchor(finding) -> str:
    return f"finding-{finding.fingerprint[:12]}"


def roots(page: Page):
    return page.locator("#list > .finding")


def shown_rules(page: Page) -> list[str]:
    return roots(page).locator(":scope > .rule .id").all_text_contents()


# --- the first screen ---


def test_first_screen_says_verdict_reasons_and_coverage(pages):
    page = pages.open("broken", height=800)
    for words in ("Do not ship this checkpoint.", "scale grid is (4, 56), needs (5, 56)", "all 163 shard headers"):
        expect(page.get_by_text(words, exact=True).first).to_be_in_viewport(ratio=1)
    assert page.locator(".verdict .headlines li").count() == 3


def test_policy_of_the_page_lets_no_other_script_or_style_run(pages):
    page = pages.open("sound")
    ran = page.evaluate(
        """() => {
          const script = document.createElement("script");
          let blocked = false;
          try { script.textContent = "window.ran = true"; document.body.append(script); } catch { blocked = true; }
          const style = document.createElement("style");
          style.textContent = "body { display: none }";
          document.body.append(style);
          return [Boolean(window.ran), getComputedStyle(document.body).display];
        }"""
    )
    assert ran == [False, "block"]
    assert len(pages.complaints) >= 1
    assert all("Content Security Policy" in text or "TrustedScript" in text for text in pages.complaints)
    pages.complaints.clear()


# --- filtering ---


def test_search_finds_by_message_rule_file_and_pattern(pages):
    page = pages.open("broken")
    for words, expected in (
        ("gate is F16", ["SHP102"]),
        ("qnt102", ["QNT102"]),
        ("model-00045", ["IDX103"]),
        ("implies bf16 gate", ["SHP102"]),
        (f"{examples.LAYER}.23.self_attn.kv_a_proj_with_mqa.weight_scale_inv", ["QNT102"]),
        (f"{examples.LAYER}.99.self_attn.kv_a_proj_with_mqa.weight_scale_inv", []),
    ):
        page.locator("#search").fill(words)
        expect(page.locator("#shown")).to_contain_text(f"{len(expected)} of 17 findings")
        assert shown_rules(page) == expected, words
    expect(page.locator("#list")).to_contain_text("No finding fits.")
    page.locator("#clear").click()
    expect(page.locator("#shown")).to_have_text("17 findings")
    expect(page.locator("#search")).to_be_focused()


def test_severity_rule_and_status_narrow_together(pages):
    page = pages.open("broken")
    page.get_by_role("checkbox", name=re.compile("info")).uncheck()
    page.get_by_role("checkbox", name=re.compile("error")).uncheck()
    expect(page.locator("#shown")).to_have_text("12 of 17 findings")
    page.locator("#status").select_option("waived")
    expect(page.locator("#shown")).to_have_text("1 of 17 findings")
    assert shown_rules(page) == ["HDR110"]
    page.locator("#status").select_option("")
    page.locator("#rule").select_option("SHP103")
    assert shown_rules(page) == ["SHP103"]


def test_filter_by_the_rule_of_a_consequence_shows_it_under_its_cause(pages):
    page = pages.open("broken")
    page.locator("#rule").select_option("NAM101")
    expect(page.locator("#shown")).to_have_text("1 of 17 findings")
    assert shown_rules(page) == ["IDX103"]
    expect(page.locator(f"#{anchor(MISSING)}")).to_be_visible()


def test_order_by_number_affected_puts_the_widest_first(pages):
    page = pages.open("broken")
    page.locator("#order").select_option("weight")
    expect(roots(page).first).to_contain_text("IDX103")
    page.locator("#order").select_option("rule")
    rules = shown_rules(page)
    assert rules == sorted(rules)


def test_waived_finding_shows_reason_owner_and_expiry_and_known_ones_say_so(pages):
    page = pages.open("broken")
    waived = roots(page).filter(has_text="HDR110")
    for words in ("waived", "ours ", "weights-team@example.org", "2031-01-01"):
        expect(waived).to_contain_text(words)
    expect(roots(page).filter(has_text="SHP103").locator(".status")).to_have_text("known")


def test_copy_puts_the_whole_finding_on_the_clipboard(pages):
    page = pages.open("broken", permissions=["clipboard-read", "clipboard-write"])
    roots(page).filter(has_text="QNT102").get_by_role("button", name="Copy").click()
    expect(roots(page).filter(has_text="QNT102").get_by_role("button")).to_have_text("Copied")
    text = page.evaluate("navigator.clipboard.readText()")
    for words in ("ERROR QNT102", "expected: (5, 56)", "actual: (4, 56)", SCALE.affected[0], f"#{anchor(SCALE)}"):
        assert words in text


# --- the map ---


def test_picking_a_cell_filters_the_findings_and_unpicking_shows_all(pages):
    page = pages.open("broken")
    cell = page.locator("td[data-layer='40'][data-module='router']")
    expect(cell).to_contain_text("✘1")
    cell.click()
    assert shown_rules(page) == ["SHP102"]
    expect(page.locator("#picked")).to_contain_text("layer 40, router")
    expect(page.locator("#cell")).to_contain_text("layer 40, router")
    cell.click()
    expect(page.locator("#shown")).to_have_text("17 findings")
    expect(page.locator("#picked")).to_be_hidden()


def test_picking_a_layer_or_a_module_filters_by_all_of_it(pages):
    page = pages.open("broken")
    page.locator("th[data-layer='18']").click()
    assert {"IDX103", "QNT102", "SHP103"} == set(shown_rules(page))
    page.locator("th[data-module='router']").last.click()
    assert shown_rules(page) == ["SHP102"]


def test_map_is_walked_with_arrow_keys_and_picked_with_enter(pages):
    page = pages.open("broken")
    start = page.locator("td[data-layer='17'][data-module='experts']")
    page.locator("table.map td[tabindex='0']").nth(1).focus()
    for _ in range(17):
        page.keyboard.press("ArrowDown")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(start).to_be_focused()
    page.keyboard.press("Enter")
    assert "IDX103" in shown_rules(page)
    expect(start).to_have_attribute("aria-selected", "true")
    expect(page.locator(".map [tabindex='0']")).to_have_count(3)  # one stop for each table, not one for each cell


def test_experts_of_a_layer_unfold_and_each_filters_by_itself(pages):
    page = pages.open("broken")
    page.locator("td[data-layer='17'][data-module='experts']").click()
    expect(page.locator("#picked")).to_contain_text("256 experts, 256 concerned")
    page.locator("#picked").get_by_role("button", name="expert 200: error", exact=False).click()
    expect(page.locator("#cell")).to_contain_text("expert 200")
    assert shown_rules(page) == ["IDX103"]


def test_a_cell_that_nothing_touches_says_so(pages):
    page = pages.open("broken")
    page.locator("td[data-layer='5'][data-module='shared_experts']").click()
    expect(page.locator("#picked")).to_contain_text("nothing found")
    expect(page.locator("#list")).to_contain_text("No finding fits.")


# --- deep links ---


def test_link_to_a_consequence_opens_its_fold_and_goes_there(pages):
    page = pages.open("broken", anchor=f"#{anchor(MISSING)}")
    expect(page.locator(f"#{anchor(MISSING)}")).to_be_in_viewport()
    expect(page.locator(f"#{anchor(MISSING)}")).to_be_focused()


def test_link_to_a_finding_that_a_filter_hides_clears_the_filter(pages):
    page = pages.open("broken")
    page.locator("#search").fill("no such words anywhere")
    expect(page.locator("#list")).to_contain_text("No finding fits.")
    page.locator(f".verdict a[href='#{anchor(SCALE)}']").click()
    expect(page.locator(f"#{anchor(SCALE)}")).to_be_in_viewport()
    expect(page.locator("#shown")).to_have_text("17 findings")


# --- size ---


def test_fifty_thousand_findings_are_searched_linked_and_paged(pages):
    report = examples.many()
    wanted = report.findings[31_415]
    assert pages.path("many").stat().st_size < 5_000_000
    page = pages.open("many", anchor=f"#{anchor(wanted)}")
    expect(page.locator(f"#{anchor(wanted)}")).to_be_in_viewport()
    assert roots(page).count() <= 100
    page.locator("#search").fill("odd49999.weight")
    expect(page.locator("#shown")).to_have_text("1 of 50,000 findings")
    page.locator("#search").fill("")
    expect(page.locator("#shown")).to_have_text("50,000 findings")
    page.get_by_role("button", name="Next").click()
    expect(page.locator("#pages")).to_have_text("101 to 200 of 50,000")
    expect(roots(page).first).to_be_in_viewport()


# --- hostile names ---


def test_hostile_names_are_text_and_nothing_of_them_acts(pages):
    page = pages.open("broken")
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    for fold in page.locator("#list details").all():
        fold.locator("summary").first.click()
    text = page.locator("#list").inner_text()
    for piece in (
        "</script><img src=x onerror=alert(1)>", r"\x1b[31m\u202egnp.exe\u2066\x00\u2028",
        "<script>document.title='owned'</script>", "::error file=x,line=1::owned", "=cmd|' /C calc'!A0",
        "[click](javascript:alert(1)) **bold** `code` | table", "{{ 7 * 7 }} ${7*7} %s {0}", "&lt;b&gt; &amp; &#39;",
    ):  # fmt: skip
        assert piece in text
    assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069\u200f]", text)
    assert page.locator("img").count() == 0
    assert page.title().startswith("Failed: s3://bucket/")
    assert dialogs == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_search_by_a_hostile_name_finds_it(pages):
    page = pages.open("broken")
    page.locator("#search").fill("onerror=alert(1)")
    expect(page.locator("#shown")).to_have_text("2 of 17 findings")


# --- every way of reading ---


@pytest.mark.parametrize("name", [*PAGES, "uneven"])
def test_phone_width_never_scrolls_sideways(name, pages):
    page = pages.open(name, width=390, height=844)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    expect(page.locator("h1")).to_be_in_viewport(ratio=1)


def test_phone_can_pick_a_cell_and_see_what_is_in_it(pages):
    page = pages.open("broken", width=390, height=844, has_touch=True)
    page.locator("td[data-layer='40'][data-module='router']").tap()
    expect(page.locator("#picked")).to_contain_text("gate is F16, the config implies BF16")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_to_complain_about(name, scheme, pages):
    page = pages.open(name, color_scheme=scheme)
    if name == "broken":
        page.locator("td[data-layer='17'][data-module='experts']").click()
        page.locator("#cell").click()
        page.locator("td[data-layer='18'][data-module='experts']").click()
    page.evaluate("for (const fold of document.querySelectorAll('details')) fold.open = true")
    found = Axe().run(page)
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found.response["violations"]] == []


def test_dark_scheme_is_dark_and_light_is_light(pages):
    brightness = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number))"
    assert pages.open("sound", color_scheme="dark").evaluate(brightness) < 60
    assert pages.open("sound", color_scheme="light").evaluate(brightness) > 240


def test_print_unfolds_findings_and_leaves_the_controls_out(pages):
    page = pages.open("broken")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(page.locator(f"#{anchor(MISSING)}")).to_be_visible()
    for control in ("#filter", "#tools", ".contents", ".copy >> nth=0", "#map-help"):
        expect(page.locator(control)).to_be_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(page.locator(f"#{anchor(MISSING)}")).to_be_hidden()
    assert len(page.pdf()) > 20_000


def test_keyboard_alone_reaches_the_findings_and_opens_one(pages):
    page = pages.open("broken")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("IDX103")
    expect(page.locator("#shown")).to_have_text("1 of 17 findings")
    fold = roots(page).first.locator(".affected summary")
    fold.focus()
    page.keyboard.press("Enter")
    expect(roots(page).first.locator(".affected li").first).to_contain_text("down_proj.weight")


def test_without_scripts_the_page_still_tells_verdict_findings_and_figures(pages):
    page = pages.open("broken", java_script_enabled=False, ready=False)
    for words in ("Do not ship this checkpoint.", "scale grid is (4, 56), needs (5, 56)", "37,552,297,472"):
        expect(page.get_by_text(words, exact=True).first).to_be_visible()
    expect(page.locator("#filter")).to_be_hidden()
    expect(page.locator("#tools")).to_be_hidden()
    page.locator("td[data-layer='40'][data-module='router'] a").click()
    expect(page.locator(f"#{anchor(ROUTER)}")).to_be_in_viewport()


def test_content_section_shows_coverage_device_outcomes_and_charts(pages):
    page = pages.open("sampled")
    content = page.locator("#content")
    for words in ("A sample was read: 1.92 GiB of 641 GiB", "1234", "NVIDIA H100 80GB HBM3", "298"):
        expect(content).to_contain_text(words)
    expect(content.locator("svg.heat")).to_have_count(2)
    expect(content.locator(".spots tbody tr")).to_have_count(30)
    expect(content.locator(".spots tbody tr").first).to_contain_text("undefined")
    expect(pages.open("complete").locator("#content")).to_contain_text(
        "Every byte of all 91,991 tensors was read once."
    )


@pytest.mark.parametrize("name", ["broken", "many"])
def test_download_gives_the_report_itself(name, pages, tmp_path):
    page = pages.open(name)
    with page.expect_download() as waiting:
        page.locator("#download").click()
    waiting.value.save_as(tmp_path / "report.json")
    report = getattr(examples, name)()
    document = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads(document) == json.loads(report.model_dump_json())
    assert render(AuditReport.model_validate_json(document)) == pages.path(name).read_text(encoding="utf-8")
