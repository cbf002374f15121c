"""The rules, and the page of each."""

import re
from functools import cache
from typing import Any

from fastapi import APIRouter
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditor.rules import catalogue
from auditor.rules.pages import page_of
from auditor.service.web.callers import Reader
from auditor.service.web.pages.document import page
from auditor.service.web.problems import NotFoundProblem
from auditor.verdict.policy import rule_named
from auditor_reports.text import number
from auditor_schemas.rule import Rule

router = APIRouter(include_in_schema=False)
_KINDS = {
    "CFG": "config.json",
    "FIL": "Files",
    "IDX": "Index",
    "HDR": "Headers",
    "NAM": "Names",
    "SHP": "Shapes and dtypes",
    "QNT": "Quantisation",
    "MTP": "Multi-token prediction",
    "CNT": "Counts",
    "VAL": "Values",
}
_MARKS = {"error": "✘", "warning": "!", "info": "i"}
_PAGE = re.compile(r"([a-z0-9-]+)\.md")


@router.get("/rules")
def rules(caller: Reader, text: str = "") -> HTMLResponse:
    """Every rule, by kind; those that have each word of `text`."""
    words = text[:200].lower().split()
    groups = [
        {"id": kind, "title": title, "rules": found}
        for kind, title in _KINDS.items()
        if (found := [_line(each) for each in _every() if each.id.startswith(kind) and _has(each, words)])
    ]
    count = sum(len(each["rules"]) for each in groups)
    return page(
        "catalogue.html", caller=caller, at="rules", groups=groups, text=text[:200], count=number(count),
        total=number(len(_every())),
    )  # fmt: skip


@router.get("/rules/{name}")
def rule(caller: Reader, name: str) -> Response:
    """The page of a rule, by its slug; by its id too, which leads there."""
    found = rule_named(name, _every())
    if found is None:
        raise NotFoundProblem
    if name != found.slug:
        return RedirectResponse(f"/rules/{found.slug}", 308)
    return page("rule.html", caller=caller, at="rules", rule=_line(found), text=_page(found.slug))


def _every() -> tuple[Rule, ...]:
    return tuple(each.rule for each in catalogue())


def _has(rule: Rule, words: list[str]) -> bool:
    text = f"{rule.id} {rule.slug} {rule.title} {rule.severity}".lower()
    return all(each in text for each in words)


def _line(rule: Rule) -> dict[str, str]:
    severity = rule.severity.value
    return {"id": rule.id, "slug": rule.slug, "title": rule.title, "severity": severity, "mark": _MARKS[severity]}


@cache
def _page(slug: str) -> Markup | None:
    """The page's sections as HTML, without links to other documents; None where the installation lacks them."""
    text = page_of(slug)
    if text is None:
        return None
    from markdown_it import MarkdownIt  # what few ask for does not hold up the start

    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    environment: dict[str, Any] = {}
    # The page's title and the line below it say what its record says.
    _, _, sections = text.partition("\n## ")
    tokens = reader.parse(f"## {sections}", environment)
    for each in tokens:
        for child in each.children or ():
            if child.type == "link_open":
                named = _PAGE.fullmatch(str(child.attrs.get("href", "")))
                child.attrs = {"href": f"/rules/{named[1]}"} if named else {}
    return Markup(reader.renderer.render(tokens, reader.options, environment))  # noqa: S704  # our own document
