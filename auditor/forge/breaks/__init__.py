"""Every way `forge` can break a checkpoint: one defect each, with the finding and the exit code it must produce.

A break is a function from a plan to nothing under `@breaks_as(...)`, in the file of its rule family; it is
found by being there.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from auditor.errors import UsageError
from auditor.forge.plan import Plan
from auditor_schemas.rule import Severity

Apply = Callable[[Plan], None]
Depth = Literal["headers", "full"]


@dataclass(frozen=True, kw_only=True)
class Break:
    """One defect. `rule` is the root finding's rule (None: no rule speaks, the audit is incomplete).

    `also` are rules that may report consequences of it. `depth` is the least at which it shows: at full, real
    content is needed. `structure` is the root finding's rule where no family is asked. `like` is the smallest layout
    that it can be made in.
    """

    name: str
    title: str
    rule: str | None
    severity: Severity | None
    exit_code: int
    also: tuple[str, ...] = ()
    depth: Depth = "headers"
    structure: str | None = None
    like: str = "tiny"
    apply: Apply


def breaks_as(
    name: str,
    title: str,
    rule: str | None,
    *,
    severity: Severity | None = Severity.ERROR,
    exit_code: int | None = None,
    also: tuple[str, ...] = (),
    depth: Depth = "headers",
    structure: str | None = None,
    like: str = "tiny",
) -> Callable[[Apply], Break]:
    """Make a Break of a function; the exit code follows from the severity unless it is given."""
    code = (1 if severity is Severity.ERROR else 0) if exit_code is None else exit_code
    return lambda apply: Break(
        name=name,
        title=title,
        rule=rule,
        severity=severity,
        exit_code=code,
        also=also,
        depth=depth,
        structure=structure,
        like=like,
        apply=apply,
    )


def breaks() -> dict[str, Break]:
    """Every break by name, rule after rule."""
    found: list[Break] = []
    for module in pkgutil.iter_modules(__path__):
        members = vars(importlib.import_module(f"{__name__}.{module.name}")).values()
        found.extend(member for member in members if isinstance(member, Break))
    found.sort(key=lambda each: (each.rule or "~", each.name))
    named = {each.name: each for each in found}
    if len(named) < len(found):
        raise UsageError("two breaks have the same name")
    return named
