"""Every tensor that config.json implies is in a shard."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM101",
    slug="missing-tensor",
    title="A tensor that the config implies is missing",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="expected tensors",
)


def check(match: Match, expectations: Expectations) -> Iterator[Failure]:
    """One failure per missing tensor; a scale counts here only where its weight is missing too.

    Tensors of layers that are missing whole are left to missing-layer and missing-mtp-module.
    """
    for name, row in match.missing.items():
        if row.role == "scale" and expectations.codes_of(name) not in match.missing:
            continue
        if expectations.naming.layer_of(name) in match.missing_layers:
            continue
        yield RULE.failure(
            f"{row.module.replace('_', ' ')} tensor is missing",
            tensor=name,
            expected={"shape": list(row.shape), "dtype": row.dtype},
            takes=(name, *expectations.beside(name)),
            fold=row.module,
        )
