"""No FP8 code is 0x7F or 0xFF, which are NaN."""

from collections.abc import Iterator

from auditor.comparison.bad_values import Bad, failures, own_round_trip, place
from auditor.content.probes import Probes
from auditor.content.values import TensorValues
from auditor.format.dtypes import FP8
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL101",
    slug="nan-code",
    title="FP8 codes are NaN",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="FP8 tensors read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure per FP8 tensor with NaN codes; they fold."""
    found = [
        Bad(values, values.nan, values.read, values.first_nonfinite)
        for values in probes.tensors.values()
        if values.nan and values.dtype == FP8 and values.scales is None
    ]
    return failures(
        RULE,
        found,
        _message,
        expected="codes that are numbers",
        actual=lambda bad: {"codes": bad.count, "of": bad.of},
        takes=own_round_trip,
    )


def _message(bad: Bad) -> str:
    verb = "is" if bad.count == 1 else "are"
    return f"{bad.count:,} of {bad.of:,} FP8 codes read {verb} NaN (0x7F or 0xFF){_where(bad.values, bad)}"


def _where(values: TensorValues, bad: Bad) -> str:
    note = values.blocks.first_nan if values.blocks is not None else None
    # The first code in the order of rows need not lie in the first block in the order of blocks.
    at = f", the first code at {place(values, bad.first)}" if bad.first is not None else ""
    return at + (f", the first block at block row {note.row:,}, column {note.column:,}" if note is not None else "")
