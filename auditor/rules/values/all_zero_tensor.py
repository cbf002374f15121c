"""Weights, norms and vocabulary matrices are not entirely zero."""

from collections.abc import Iterator, Mapping

from auditor.comparison.bad_values import Bad, failures, share
from auditor.comparison.value_groups import entirely_zero, may_be_zero
from auditor.content.probes import Probes
from auditor.content.values import TensorValues
from auditor_schemas.rule import Failure, RoundTrip, Rule, Scope, Severity

RULE = Rule(
    id="VAL110",
    slug="all-zero-tensor",
    title="A tensor is entirely zero",
    severity=Severity.ERROR,
    scope=Scope.TENSOR,
    examines="tensors read",
)


def check(probes: Probes, zeroed_experts: Mapping[tuple[int, int], tuple[TensorValues, ...]]) -> Iterator[Failure]:
    """One failure per tensor of zeros that is no bias, no tensor of scales and no pruned expert's; they fold."""
    pruned = {values.name for weights in zeroed_experts.values() for values in weights}
    found = [
        Bad(values, values.read, values.read)
        for values in probes.tensors.values()
        if values.zeros
        and entirely_zero(values, probes.naming)
        and not may_be_zero(values)
        and values.name not in pruned
    ]
    return failures(
        RULE,
        found,
        lambda bad: f"{share(bad.values)} are 0",
        expected="values other than 0",
        actual=lambda bad: {"zeros": bad.count, "of": bad.of},
        takes=lambda values: (values.name, *probes.beside(values.name), RoundTrip(values.name)),
        whole=True,
    )
