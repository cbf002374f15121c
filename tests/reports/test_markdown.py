"""The step summary: read through a real Markdown renderer, small enough to be taken, and the verdict first."""

import re

import made_reports as made
import pytest
from markdown_it import MarkdownIt

from auditor_reports.markdown import MOST_BYTES, code, plain, render

RENDERER = MarkdownIt("gfm-like")
TABLE = {"table", "thead", "tbody", "tr", "th", "td"}


def _elements(markdown: str) -> set[str]:
    return set(re.findall(r"<([a-zA-Z][a-zA-Z0-9]*)", RENDERER.render(markdown)))


def test_renderer_makes_links_and_html_of_what_is_not_escaped():
    """The referee sees what the tests below must not see."""
    assert {"a", "img", "b"} <= _elements("www.example.com ![x](http://evil.example/x.png) <b>x</b>")


@pytest.mark.parametrize("name", ["sound", "broken", "waived_and_known", "incomplete", "many"])
def test_it_renders_to_headings_tables_and_lists_and_begins_with_the_verdict(name):
    report = getattr(made, name)()
    html = RENDERER.render(render(report))
    assert re.match(rf"<h1>. auditor: {report.verdict} · <code>DeepSeek-V3</code></h1>\n<p>", html)
    assert _elements(render(report)) <= {
        "h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code", "strong",
    }  # fmt: skip
    assert html.count("<table>") >= 2


def test_sound_summary_says_that_values_were_not_read():
    html = RENDERER.render(render(made.sound()))
    assert "163 of 163 headers read; tensor data was not read, so nothing is said of values" in html


def test_broken_summary_names_the_damage_with_what_it_affects_and_the_figures():
    html = RENDERER.render(render(made.broken()))
    assert "do not ship" in html
    assert "<strong>error</strong> <code>QNT101 missing-block-scale</code> (776 alike)" in html
    assert "<code>model.layers.32.mlp.experts.{0-255}.down_proj.weight</code>" in html
    assert "671,026,419,200" in html


def test_waived_findings_are_a_table_with_reason_owner_and_expiry():
    html = RENDERER.render(render(made.waived_and_known()))
    row = next(line for line in html.split("<tr>") if "2099-01-31" in line)
    assert "the router is loaded from elsewhere" in row
    assert "team" in row
    assert "1 finding known from the baseline" in html


def test_incomplete_summary_decides_nothing_and_says_why():
    html = RENDERER.render(render(made.incomplete()))
    assert "nothing is decided" in html
    assert "permission denied" in html
    assert "<strong>crashed</strong>" in html


def test_findings_beyond_the_first_are_counted_by_rule():
    html = RENDERER.render(render(made.many()))
    assert "And 49,990 findings more, by rule:" in html
    counted = re.findall(r"<td style=\"text-align:right\">([0-9,]+)</td>\s*<td style=\"text-align:right\">", html)
    assert sum(int(each.replace(",", "")) for each in counted[:3]) == 49_990


def test_worst_names_in_every_place_stay_below_900_kib():
    wide = "\u3042|" * 2_000
    findings = tuple(
        made.finding(f"NAM{n % 900}", wide, "error", wide, fingerprint=made.fingerprint(n), affected=(wide,) * 20,
                     expected=wide, actual=wide)
        for n in range(5_000)
    )  # fmt: skip
    outcomes = tuple(made.outcome(f"NAM{n}", wide, "not_applicable", reason=f"{n}{wide}") for n in range(3_000))
    report = made.hostile(wide).model_copy(
        update={"findings": findings, "outcomes": outcomes, "figures": made.sound().figures * 900}
    )
    text = render(report)
    assert len(text.encode()) < MOST_BYTES


def test_size_is_below_the_limit_wherever_the_cut_falls_and_the_cut_is_in_sight(monkeypatch):
    import auditor_reports.markdown as module

    whole = render(made.broken())
    for limit in range(400, len(whole.encode()) + 400, 97):
        monkeypatch.setattr(module, "MOST_BYTES", limit)
        text = render(made.broken())
        assert len(text.encode()) < limit
        assert ("Cut here" in text) == (text != whole)


@pytest.mark.parametrize("text", made.HOSTILE.values(), ids=made.HOSTILE)
def test_hostile_text_is_one_code_span_in_a_paragraph_a_list_and_a_table(text):
    for frame in ("before {} after", "- item {}", "| a | b |\n|---|---|\n| {} | c |"):
        html = RENDERER.render(frame.format(code(text)))
        assert html.count("<code>") == 1
        assert html.count("<td>") in (0, 2)
        assert _elements(frame.format(code(text))) <= {
            "p",
            "ul",
            "li",
            "code",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
        }


@pytest.mark.parametrize("text", made.HOSTILE.values(), ids=made.HOSTILE)
def test_hostile_text_within_a_sentence_is_text(text):
    for frame in ("**error** `X`: {}", "| a | b |\n|---|---|\n| {} | c |"):
        elements = _elements(frame.format(plain(f"shape of {text} is wrong")))
        assert elements <= {"p", "strong", "code"} | TABLE
