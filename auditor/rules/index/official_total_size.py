"""metadata.total_size follows the official releases: 2 × the number of elements, not the payload in bytes."""

from collections.abc import Iterator

from auditor.comparison.records import Census
from auditor.format.entries import Index
from auditor.inventory.facts import Inventory
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX110",
    slug="official-total-size",
    title="total_size counts two bytes per element",
    severity=Severity.INFO,
    scope=Scope.COUNT,
    examines="index entries",
)


def check(inventory: Inventory, index: Index, census: Census) -> Iterator[Failure]:
    """A failure, for information, where total_size is exactly 2 × the elements and not the payload."""
    total = index.total_size
    if total is not None and total != inventory.payload_bytes and total == 2 * census.elements:
        yield RULE.failure(
            f"total_size is {total:,}, 2 × the {census.elements:,} elements; the payload is "
            f"{inventory.payload_bytes:,} bytes",
            file="model.safetensors.index.json",
            field="metadata.total_size",
            expected=inventory.payload_bytes,
            actual=total,
        )
