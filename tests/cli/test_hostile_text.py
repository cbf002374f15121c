"""Text that a checkpoint, a policy or an error chose is text in every format, for every reader it could be made for."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import made_reports as made
import pytest
from jsonschema import Draft4Validator
from junitparser import JUnitXml
from markdown_it import MarkdownIt

from auditor_reports import html, junit, markdown, sarif, site, tables
from auditor_reports.text import shown
from auditor_schemas.report import AuditReport
from tests.reports.test_junit import SCHEMA as JUNIT
from tests.reports.test_sarif import GITHUB
from tests.reports.test_sarif import VALIDATOR as SARIF

# What acts unseen on a terminal or turns text around: controls but the line feed, and bidirectional marks.
ACTING = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]"
)
COMMAND = re.compile(r"^\s*::|##\[", re.MULTILINE)


def _sarif(report: AuditReport) -> tuple[str, list[str]]:
    text = sarif.render(report)
    document = json.loads(text)
    SARIF.validate(document)
    GITHUB.validate(document)
    (run,) = document["runs"]
    for result in run["results"]:
        assert not re.search(r"\]\(", result["message"]["text"]), "a link"
        assert not re.search(r"(?<!\{)\{[0-9]+\}(?!\})", result["message"]["text"].replace("{{", "").replace("}}", ""))
        for place in result["locations"]:
            address = place["physicalLocation"]["artifactLocation"]["uri"]
            assert re.fullmatch(r"[A-Za-z0-9%._~/\-]+", address)
            assert ".." not in address.split("/")
            assert not address.startswith("/")
    first = run["results"][0]
    return text, [first["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], first["properties"]["expected"]]


def _junit(report: AuditReport) -> tuple[str, list[str]]:
    text = junit.render(report)
    JUNIT.validate(text)
    cases = {case.name: case for suite in JUnitXml.fromstring(text.encode()) for case in suite}
    (failure,) = cases["SHP101 wrong-shape"].result
    (waived,) = cases["NAM101 missing-tensor"].result
    (skipped,) = cases["QNT101 missing-block-scale"].result
    (crashed,) = cases["MTP101 missing-mtp-module"].result
    return text, [failure.message, failure.text, waived.message, skipped.message, crashed.message]


def _markdown(report: AuditReport) -> tuple[str, list[str]]:
    text = markdown.render(report)
    rendered = MarkdownIt("gfm-like").render(text)
    assert set(re.findall(r"<([a-zA-Z][a-zA-Z0-9]*)", rendered)) <= {
        "h1", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "code", "strong",
    }  # fmt: skip
    widths = {len(re.findall("<t[hd]", row)) for row in re.findall(r"<tr>.*?</tr>", rendered, re.DOTALL)}
    assert widths <= {2, 5}, "a cell more or less"
    outside = re.sub(r"<code>.*?</code>", "", rendered, flags=re.DOTALL)
    assert not re.search(r"@[a-z]|(?<!&)#[0-9]|://|www\.", outside), "a mention, a reference or a link to be"
    return text, []


def _csv(report: AuditReport) -> tuple[str, list[str]]:
    files = tables.render(report)
    rows = [row for text in files.values() for row in csv.reader(io.StringIO(text), strict=True)]
    for cell in (cell for row in rows for cell in row):
        number = re.fullmatch(r"-?[0-9.]+", cell)
        assert number or not cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠")), cell
    first = next(csv.DictReader(io.StringIO(files["findings.csv"])))
    return "".join(files.values()), [first["tensor"], first["message"], first["file"], first["expected"]]


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]

    def handle_data(self, data):
        self.seen.append(data)


def _site(report: AuditReport) -> tuple[str, list[str]]:
    record = site.Record(entries=(site.entry(report, report.model_dump_json()),))
    pages = [site.index_page(record), *site.checkpoint_pages(record).values()]
    for page in pages:
        parsed = _Page(page)
        assert parsed.handlers == []
        assert not {"img", "b", "i", "iframe", "object"} & set(parsed.tags)
    return "".join(pages), ["".join(_Page(page).seen) for page in pages]


def _html(report: AuditReport) -> tuple[str, list[str]]:
    page = html.render(report)
    assert _Page(page).handlers == []
    return page, []


FORMATS = {"sarif": _sarif, "junit": _junit, "markdown": _markdown, "csv": _csv, "site": _site, "html": _html}


@pytest.mark.parametrize("name", made.HOSTILE)
@pytest.mark.parametrize("kind", FORMATS)
def test_hostile_text_is_text(kind, name):
    text = made.HOSTILE[name]
    written, places = FORMATS[kind](made.hostile(text))
    assert not ACTING.search(written), "a character that acts instead of being seen"
    visible = shown(text)
    for place in places:
        assert visible in place or visible.replace("](", "]\\x28") in place
    if kind == "markdown":
        assert not COMMAND.search(written), "a workflow command"


def test_the_referees_see_what_they_must_not_see():
    assert ACTING.search("\x1b[31m")
    assert ACTING.search("\u202e")
    assert COMMAND.search("  ::error::x")
    assert not Draft4Validator({"type": "string", "pattern": "^a$"}).is_valid("b")
