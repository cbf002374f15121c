"""No tensor holds the bytes of another."""

from collections.abc import Iterator

from auditor.comparison.equal_bytes import Equal
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL129",
    slug="equal-tensors",
    title="Tensors hold each other's bytes",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="expected tensors read",
)


def check(equal_bytes: Equal) -> Iterator[Failure]:
    """One failure per set of tensors with equal bytes; they fold."""
    sets = equal_bytes.tensors
    total = sum(map(len, sets))
    for position, held in enumerate(sets):
        original, copy, names = held[0], held[1], [values.name for values in held]
        message = f"holds the {copy.elements:,} values of {original.name}, byte for byte"
        if len(held) > 2:
            message += f", as {len(held) - 2:,} more tensors do"
        if position == 0 and len(sets) > 1:
            message += f"; {total:,} tensors are such copies or originals, in {len(sets):,} sets"
        yield RULE.failure(
            message,
            file=copy.file,
            tensor=copy.name,
            tensors=names,
            expected="tensors that differ",
            actual={"alike": names[:8], "of": len(names), "xxh3_128": copy.xxh3},
            fold=RULE.slug,
        )
