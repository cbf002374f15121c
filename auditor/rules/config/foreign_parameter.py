"""Parameters that no shape shows are those of a release, where every size is."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from auditor.families.releases import Release, is_uncorrected, parameters, releases_like
from auditor.text import listed, quoted, shown
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG113",
    slug="foreign-parameter",
    title="A parameter is not that of any release of these sizes",
    severity=Severity.WARNING,
    scope=Scope.CONFIG,
    examines="config fields",
)

_MOST = 200  # characters of a value that are shown


def check(config_fields: Mapping[str, Any]) -> Iterator[Failure]:
    """One failure for all fields whose values no release of the same sizes has."""
    alike = releases_like(config_fields)
    given = parameters(config_fields)
    odd = {
        name: (given.get(name), [each.parameters[name] for each in alike if name in each.parameters])
        for name in dict.fromkeys(name for each in alike for name in each.parameters)
        if name in given and given[name] not in [each.parameters.get(name) for each in alike]
    }
    if is_uncorrected(config_fields):
        odd.pop("scoring_func", None)  # another rule tells
    if not odd:
        return
    told = [f"{name} is {_shown(value)}, {_known(alike, name)}" for name, (value, _) in odd.items()]
    yield RULE.failure(
        "; ".join(told),
        file="config.json",
        field=next(iter(odd)),
        expected={name: known[0] for name, (_, known) in odd.items()},
        actual={name: value for name, (value, _) in odd.items()},
    )


def _known(alike: list[Release], name: str) -> str:
    """'DeepSeek-V3 has 10,000', where releases differ each value with those that have it."""
    values: dict[str, list[str]] = {}
    for each in alike:
        if name in each.parameters:
            values.setdefault(_shown(each.parameters[name]), []).append(each.name)
    return ", ".join(
        f"{listed(dict.fromkeys(names), most=2)} {'has' if len(set(names)) == 1 else 'have'} {value}"
        for value, names in values.items()
    )


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return shown(json.dumps(value, sort_keys=True)[:_MOST])
    return f"{value:,}" if type(value) in (int, float) else quoted(value)
