"""Weights, norms and vocabulary matrices are not entirely zero."""

from collections.abc import Iterator, Mapping

from auditor.comparison.bad_values import Bad, round_trip_of, share, together
from auditor.comparison.value_groups import entirely_zero, may_be_zero
from auditor.content.probes import Probes, TensorValues
from auditor.families.scaling import scale_name
from auditor_schemas.rule import Failure, Rule, Scope, Severity

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
        if entirely_zero(values) and not may_be_zero(values) and values.name not in pruned
    ]
    for bad, message in together(found, lambda bad: f"{share(bad.values)} are 0", whole=True):
        yield RULE.failure(
            message,
            file=bad.values.file,
            tensor=bad.values.name,
            expected="values other than 0",
            actual={"zeros": bad.count, "of": bad.of},
            takes=(bad.values.name, scale_name(bad.values.name), round_trip_of(bad.values.name)),
            fold=RULE.slug,
        )
