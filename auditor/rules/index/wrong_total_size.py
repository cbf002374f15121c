"""metadata.total_size is the payload in bytes, or 2 × the elements as in the official releases."""

from collections.abc import Iterator

from auditor.comparison.records import Census, Differences
from auditor.format.entries import Index
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Excess, Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX111",
    slug="wrong-total-size",
    title="total_size is neither the payload nor the official figure",
    severity=Severity.WARNING,
    scope=Scope.COUNT,
    examines="index entries",
)


def check(inventory: Inventory, index: Index, census: Census, differences: Differences) -> Iterator[Failure]:
    """A failure where total_size follows neither convention."""
    total = index.total_size
    if total is not None and total not in (inventory.payload_bytes, 2 * census.elements):
        yield RULE.failure(
            f"total_size is {total:,}, the payload is {inventory.payload_bytes:,} bytes "
            f"(2 × the elements: {2 * census.elements:,})",
            file="model.safetensors.index.json",
            field="metadata.total_size",
            expected=inventory.payload_bytes,
            actual=total,
            excess=(
                Excess(
                    inventory.payload_bytes - total,
                    {name: part.bytes for name, part in differences.parts.items() if part.bytes},
                    differences.unsized,
                ),
                Excess(
                    2 * census.elements - total,
                    {name: 2 * part.elements for name, part in differences.parts.items() if part.elements},
                    differences.unsized,
                ),
            ),
        )
