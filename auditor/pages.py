"""The rules' pages, docs/rules/<slug>.md, wherever this is installed."""

from pathlib import Path

from auditor.errors import SourceError
from auditor_schemas.rule import Rule

_HERE = Path(__file__).parent
# The wheel carries the pages beside this module; a checkout has them under docs/.
_PLACES = (_HERE / "rule_pages", _HERE.parent / "docs" / "rules")


def page(rule: Rule) -> str:
    """A rule's page in Markdown; raises SourceError where the installation lacks it."""
    for place in _PLACES:
        path = place / f"{rule.slug}.md"
        if path.is_file():
            return path.read_text("utf-8")
    raise SourceError(f"the page of {rule.id} {rule.slug} is not installed")
