"""The rules' pages, docs/rules/<slug>.md, wherever this is installed."""

import re
from pathlib import Path

from auditor.errors import SourceError
from auditor_schemas.rule import Rule

_SLUG = re.compile(r"[a-z0-9]{1,80}(-[a-z0-9]{1,80}){0,20}")
_PACKAGE = Path(__file__).parents[1]
# The wheel carries the pages in the package; a checkout has them under docs/.
_PLACES = (_PACKAGE / "rule_pages", _PACKAGE.parent / "docs" / "rules")


def page(rule: Rule) -> str:
    """A rule's page in Markdown; raises SourceError where the installation lacks it."""
    text = page_of(rule.slug)
    if text is None:
        raise SourceError(f"the page of {rule.id} {rule.slug} is not installed")
    return text


def page_of(slug: str) -> str | None:
    """The page of the rule with this slug, which may come from a report: None where there is none such."""
    if _SLUG.fullmatch(slug) is None:
        return None
    paths = (place / f"{slug}.md" for place in _PLACES)
    return next((path.read_text("utf-8") for path in paths if path.is_file()), None)
