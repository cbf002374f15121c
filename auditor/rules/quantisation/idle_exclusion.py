"""What the declaration leaves out of quantisation is there."""

from collections.abc import Iterator

from auditor.comparison.structure.declared import Declared
from auditor.text import listed, named
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT213",
    slug="idle-exclusion",
    title="An exclusion names nothing that is stored",
    severity=Severity.INFO,
    scope=Scope.CONFIG,
    examines="exclusions",
)


def check(declared: Declared) -> Iterator[Failure]:
    """A failure with all the entries that match no module and no tensor."""
    if declared.idle:
        declaration = declared.declaration
        yield RULE.failure(
            f"{len(declared.idle):,} of {len(declaration.exclusions):,} entries match nothing that is stored: "
            f"{listed(map(named, sorted(declared.idle)))}",
            file=declaration.file,
            field=declaration.exclusion_field,
            actual=sorted(declared.idle),
        )
