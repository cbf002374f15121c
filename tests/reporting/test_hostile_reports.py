"""Every text field of a report, whichever it is, is text in every format and on the terminal.

The fields are not listed here: the model itself is walked, so that a field which comes later is held to it as well.
"""

import csv
import io
import json
import re
import sys
from datetime import date, datetime
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import made_reports as made
import pytest
from pydantic import BaseModel

from auditor.cli import terminal
from auditor.cli.diff_text import lines
from auditor.questions.diff import Side, difference
from auditor.reporting.formats import FORMATS
from auditor_reports import diff as diff_page
from auditor_reports import site
from auditor_schemas.report import AuditReport
from tests.cli.test_hostile_text import ACTING, _Page

HOSTILE = "\x1b[31m\x9b2J\u202e\u2066\x85\u2028\x00\x7f\ufeff\r\n::error::<b>x</b>"
SETTLED = {"schema_version"}
# One report for each value of these, since what is shown depends on them.
CHOICES = {
    "verdict": ("passed", "failed", "incomplete"), "outcome": ("failed", "not_applicable", "errored"),
    "status": ("new", "known", "waived"), "state": ("partial", "unused", "expired", "not_run"),
    "severity": ("error", "warning", "info"), "depth": ("full", "sample", "headers"),
}  # fmt: skip


def _filled(annotation: Any, name: str, turn: int, filled: set[str]) -> Any:
    """A value of that type in which every text is hostile."""
    origin, of = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return _filled(next(each for each in of if each is not NoneType), name, turn, filled)
    if origin is Literal or (isinstance(annotation, type) and hasattr(annotation, "__members__")):
        values = of or tuple(each.value for each in annotation)
        values = [each for each in CHOICES.get(name, ()) if each in values] or values
        return values[turn % len(values)]
    if origin is tuple:
        if of[-1] is Ellipsis:
            return [_filled(of[0], name, each, filled) for each in range(turn, turn + 3)]
        return [_filled(each, name, turn, filled) for each in of]
    if origin is dict:
        return {f"{_filled(of[0], name, turn, filled)}": _filled(of[1], name, turn, filled)}
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {
            key: _filled(field.annotation, key, turn, filled)
            for key, field in annotation.model_fields.items()
            if key not in SETTLED
        }
    if name == "cells" and annotation is str:
        return f"{re.sub('[:;]', '', HOSTILE)}:top,{turn}"
    if annotation is str or annotation is Any:
        filled.add(name)
        return HOSTILE
    simple = {bool: False, int: 7 + turn, float: 1.5, date: "2099-01-01", datetime: "2026-01-02T03:04:05Z"}
    return simple[annotation]


def _reports() -> tuple[list[AuditReport], set[str]]:
    filled: set[str] = set()
    reports = []
    for turn in range(3):
        document = _filled(AuditReport, "", turn, filled)
        for position, finding in enumerate(document["findings"]):
            finding["caused_by"] = None if position < 2 else HOSTILE
        reports.append(AuditReport.model_validate(document))
        for finding in document["findings"]:
            finding["status"] = "new"
        for figure in document["figures"]:
            figure["verdict"] = "contradicted"
        reports.append(AuditReport.model_validate(document))
    return reports, filled


REPORTS, FILLED = _reports()


def test_the_walk_fills_what_it_must():
    assert {"family", "engine", "rule", "slug", "message", "convention", "name", "note", "dtype", "device", "uri",
            "component", "pattern", "reason", "owner", "revision", "sha256", "expected"} <= FILLED  # fmt: skip


def _leaks(text: str) -> list[str]:
    return [repr(text[max(found.start() - 60, 0) : found.end() + 10]) for found in ACTING.finditer(text)]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("report", REPORTS, ids=range(len(REPORTS)))
def test_no_text_of_a_report_acts_in_any_format(name, report):
    written = FORMATS[name].render(report)
    for text in written.values() if isinstance(written, dict) else [written]:
        assert _leaks(text) == []
        if name == "sarif":
            assert _leaks("\n".join(_strings(json.loads(text)))) == []
        if name == "html":
            assert "<b>x</b>" not in text
            assert _Page(text).handlers == []
        if name == "markdown":
            assert not re.search(r"^\s*::", text, re.MULTILINE)
        if name == "json":
            assert AuditReport.model_validate_json(text) == report
        if name == "csv":
            assert all(list(csv.reader(io.StringIO(text), strict=True)))


def _strings(value: Any):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


@pytest.mark.parametrize("report", REPORTS, ids=range(len(REPORTS)))
def test_no_text_of_a_report_acts_on_the_terminal(report, capsys):
    terminal.show(report, no_gpu=HOSTILE)
    sys.stdout.write(terminal.verdict_line(report) + "\n")
    out = capsys.readouterr().out
    assert _leaks(out) == []
    assert not re.search(r"^\s*::", out, re.MULTILINE)


@pytest.mark.parametrize("report", REPORTS, ids=range(len(REPORTS)))
def test_no_text_of_a_report_acts_on_the_site(report):
    record = site.Record(entries=(site.entry(report, report.model_dump_json()),))
    hostile = {
        name: HOSTILE for name, field in site.Entry.model_fields.items() if field.annotation in (str, str | None)
    }
    entry = record.entries[0].model_copy(update={**hostile, "id": "20260102T030405Z-0123456789abcdef"})
    for each in (record, site.Record(entries=(entry,))):
        for page in (site.index_page(each), *site.checkpoint_pages(each).values()):
            assert _leaks(page) == []
            assert "<b>x</b>" not in page


@pytest.mark.parametrize("report", REPORTS, ids=range(len(REPORTS)))
def test_no_text_of_a_report_acts_in_a_difference(report):
    other = made.sound()
    for old, new in ((report, other), (other, report)):
        sides = [
            Side(label, each, {HOSTILE: ((HOSTILE, (turn,)), (HOSTILE,))}, {HOSTILE: turn}, None, True)
            for turn, (label, each) in enumerate((("OLD", old), ("NEW", new)))
        ]
        found = difference(*sides)
        for line in lines(found):
            assert _leaks(line) == []
        assert _leaks(diff_page.render(found)) == []
