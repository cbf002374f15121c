"""Routers' correction biases are not 0, as they are before training and after an export that lost them."""

from collections.abc import Iterator

from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL124",
    slug="zero-correction-bias",
    title="Correction biases are entirely zero",
    severity=Severity.INFO,
    scope=Scope.TENSOR,
    examines="correction biases read",
)


def check(probes: Probes) -> Iterator[Failure]:
    """One failure for all correction biases of zeros together."""
    biases = [values for values in probes.correction_biases if values.read]
    zero = [values for values in biases if values.zeros == values.read]
    if not zero:
        return
    some = f"all {len(zero):,}" if len(zero) == len(biases) else f"{len(zero):,} of {len(biases):,}"
    yield RULE.failure(
        f"{some} correction biases read hold nothing but 0",
        file=zero[0].file,
        tensor=zero[0].name,
        tensors=[values.name for values in zero],
        expected="values other than 0",
        actual={"zero": len(zero), "of": len(biases)},
    )
