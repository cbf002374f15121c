"""Where weights are declared to be stored as codes, some are."""

from collections.abc import Iterator

from auditor.comparison.structure.declared import Declared
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT208",
    slug="unfound-quantisation",
    title="A quantisation is declared and no weight is quantised",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="declarations",
)


def check(declared: Declared, inventory: Inventory) -> Iterator[Failure]:
    """A failure where codes are declared and there are none."""
    if declared.absent and inventory.complete and inventory.stored:
        declaration = declared.declaration
        yield RULE.failure(
            f"{declaration.shown} is declared, no weight of {inventory.stored:,} tensors is in codes",
            file=declaration.file,
            field=declaration.field,
            expected=declaration.shown,
            actual="plain weights",
        )
