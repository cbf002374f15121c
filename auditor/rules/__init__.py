"""The rules: one rule, one file, found by its presence in a folder here. A rule is a RULE record and a pure `check`.

The parameters of `check` name the facts it needs; where one is missing the rule is not applicable.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from msgspec import Struct

from auditor.errors import ReadError
from auditor_schemas.rule import Failure, Rule


class RuleModule(Struct, frozen=True):
    """A rule with its check and the names of the facts that the check needs."""

    rule: Rule
    check: Callable[..., Iterable[Failure]]
    needs: tuple[str, ...]


@cache
def catalogue() -> tuple[RuleModule, ...]:
    """Every rule, in the order of the ids."""
    found = []
    for kind in (each.name for each in pkgutil.iter_modules(__path__) if each.ispkg):
        package = importlib.import_module(f"{__name__}.{kind}")
        for module in pkgutil.iter_modules(package.__path__):
            loaded: Any = importlib.import_module(f"{package.__name__}.{module.name}")
            code = loaded.check.__code__
            found.append(RuleModule(loaded.RULE, loaded.check, code.co_varnames[: code.co_argcount]))
    if not found:  # a folder that cannot be listed is an empty one to pkgutil, and no rule finds no fault
        raise ReadError("the rules of the auditor cannot be listed")
    order = ("CFG", "FIL", "IDX", "HDR", "NAM", "SHP", "QNT", "MTP", "CNT", "VAL")
    return tuple(sorted(found, key=lambda each: (order.index(each.rule.id[:3]), each.rule.id)))
