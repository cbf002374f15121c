"""The files that go with the weights are what their names say: tokenizer, templates, generation settings, code."""

from collections.abc import Iterator

from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="FIL112",
    slug="impostor-file",
    title="Something else stands in the place of a file that goes with the weights",
    severity=Severity.WARNING,
    scope=Scope.FILE,
    examines="files",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per file that is a pointer, a page, an answer of a hub, empty, or a symlink to nothing."""
    for path, kind in sorted(inventory.impostors.items()):
        yield RULE.failure(
            f"is {kind}", file=path, expected="the file itself", actual=kind, blames=(File(path),), fold=kind
        )
