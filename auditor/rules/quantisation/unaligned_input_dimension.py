"""The input dimension of FP8 weights is a multiple of the block, as activations are quantised per block of channels."""

from collections.abc import Iterator

from auditor.families.expectations import Expectations
from auditor.format.dtypes import FP8
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT111",
    slug="unaligned-input-dimension",
    title="An FP8 weight's input dimension is no multiple of the block",
    severity=Severity.INFO,
    scope=Scope.TENSOR,
    examines="FP8 weights",
)


def check(expectations: Expectations, quantised_by: str) -> Iterator[Failure]:
    """One failure, for information, per kind of FP8 weight whose columns are no multiple of the block."""
    for row in expectations.layers_of:
        columns = row.quantiser.block[1] if row.quantiser is not None else 0
        if row.dtype == FP8 and columns and row.shape[1] % columns:
            yield RULE.failure(
                f"input dimension {row.shape[1]} is no multiple of {columns}",
                tensors=tuple(expectations.names_of(row)),
                expected=f"a multiple of {columns}",
                actual=row.shape[1],
            )
