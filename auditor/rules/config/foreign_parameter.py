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
_FEW = 4  # fields within a value that are told one by one


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
    told = [_told(name, value, _held(alike, name)) for name, (value, _) in odd.items()]
    yield RULE.failure(
        "; ".join(told),
        file="config.json",
        field=next(iter(odd)),
        expected={name: known[0] for name, (_, known) in odd.items()},
        actual={name: value for name, (value, _) in odd.items()},
    )


def _held(alike: list[Release], name: str) -> list[tuple[str, Any]]:
    return [(each.name, each.parameters[name]) for each in alike if name in each.parameters]


def _told(name: str, value: Any, held: list[tuple[str, Any]]) -> str:
    """A value and those of releases; of fields within it those that no release has."""
    if isinstance(value, dict) and all(isinstance(known, dict) for _, known in held):
        within = {key: [(release, known.get(key)) for release, known in held] for key in sorted({*value, *held[0][1]})}
        odd = {key: known for key, known in within.items() if value.get(key) not in [each for _, each in known]}
        if 0 < len(odd) <= _FEW:
            return "; ".join(_told(f"{name}.{shown(key[:32])}", value.get(key), known) for key, known in odd.items())
    return f"{name} is {_shown(value)}, {_known(held)}"


def _known(held: list[tuple[str, Any]]) -> str:
    """'DeepSeek-V3 has 10,000', where releases differ each value with those that have it."""
    values: dict[str, list[str]] = {}
    for release, value in held:
        values.setdefault(_shown(value), []).append(release)
    return ", ".join(f"{_names(list(dict.fromkeys(names)))} {value}" for value, names in values.items())


def _names(names: list[str]) -> str:
    match names:
        case [one]:
            return f"{one} has"
        case [one, other]:
            return f"{one} and {other} have"
    return f"{listed(names, most=2)} have"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return shown(json.dumps(value, sort_keys=True)[:_MOST])
    return f"{value:,}" if type(value) in (int, float) else quoted(value)
