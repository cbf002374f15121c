"""MTP modules share embedding and head with the main model; the release stores copies, a save may leave them out."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="MTP104",
    slug="absent-mtp-copies",
    title="An MTP module has no copies of embedding and head",
    severity=Severity.INFO,
    scope=Scope.MODULE,
    examines="MTP modules",
)


def check(match: Match, expectations: Expectations) -> Iterator[Failure]:
    """One failure, for information, per absent copy."""
    for name, row in match.absent.items():
        if row.module == "mtp" and expectations.naming.layer_of(name) not in match.missing_layers:
            yield RULE.failure(
                "copy of the main model's vocabulary matrix is absent",
                tensor=name,
                expected={"shape": list(row.shape), "dtype": row.dtype},
            )
