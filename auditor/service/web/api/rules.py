"""The rules that audits hold checkpoints against."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from auditor.rules import catalogue
from auditor.rules.pages import page_of
from auditor.service.web.callers import Reader
from auditor.service.web.problems import NotFoundProblem, documented
from auditor.verdict.policy import rule_named
from auditor_schemas.rule import Rule, Severity

router = APIRouter(prefix="/v1/rules", tags=["rules"])


class RuleLine(BaseModel):
    """A rule, as the catalogue lists it."""

    id: str = Field(examples=["QNT102"])
    slug: str = Field(examples=["mismatched-block-scale"])
    title: str
    severity: Severity


class RulePage(RuleLine):
    """A rule with its page."""

    page: str | None = Field(description="What it finds, why that matters and what to do, as Markdown.")


@router.get("", operation_id="list_rules", responses=documented())
def list_rules(_: Reader) -> list[RuleLine]:
    """Every rule, in the order of the ids."""
    return [RuleLine(**_line(module.rule)) for module in catalogue()]


@router.get("/{rule}", operation_id="get_rule", responses=documented(404))
def get_rule(_: Reader, rule: Annotated[str, Path(max_length=100, examples=["QNT102"])]) -> RulePage:
    """A rule by its id or slug."""
    found = rule_named(rule, [module.rule for module in catalogue()])
    if found is None:
        raise NotFoundProblem
    return RulePage(**_line(found), page=page_of(found.slug))


def _line(rule: Rule) -> dict[str, str]:
    return {"id": rule.id, "slug": rule.slug, "title": rule.title, "severity": rule.severity}
