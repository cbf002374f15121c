"""Routed experts are not entirely zero, as pruning and padding leave them."""

from collections.abc import Iterator, Mapping

from auditor.content.probes import Probes
from auditor.content.values import TensorValues
from auditor_schemas.rule import Failure, RoundTrip, Rule, Scope, Severity

RULE = Rule(
    id="VAL119",
    slug="zeroed-expert",
    title="A routed expert was quantised from zeros",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="experts read",
)


def check(probes: Probes, zeroed_experts: Mapping[tuple[int, int], tuple[TensorValues, ...]]) -> Iterator[Failure]:
    """One failure per routed expert whose codes are all 0 beside the scales that a quantiser gives zeros; they fold."""
    for position, ((layer, expert), weights) in enumerate(zeroed_experts.items()):
        names = [values.name for values in weights]
        some = "" if all(values.whole for values in weights) else ", as far as they were read"
        message = f"expert {expert} of layer {layer} is 0 in all {len(names)} matrices, with the scales of zeros{some}"
        if position == 0 and len(zeroed_experts) > 1:
            message += f"; {len(zeroed_experts):,} experts are alike"
        yield RULE.failure(
            message,
            file=weights[0].file,
            tensor=names[0],
            tensors=names,
            expected="values other than 0",
            actual={"layer": layer, "expert": expert, "zeros": sum(values.zeros for values in weights)},
            takes=(*names, *(each for name in names for each in probes.beside(name)), *map(RoundTrip, names)),
            fold=RULE.slug,
        )
