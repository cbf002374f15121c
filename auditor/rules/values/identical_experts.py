"""No two routed experts hold the same bytes."""

from collections.abc import Iterator

from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL114",
    slug="identical-experts",
    title="Routed experts are copies of each other",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="experts read",
)


def check(whole_digests: Probes) -> Iterator[Failure]:
    """One failure per set of routed experts, of whichever layers, with equal weights (of FP8 the codes); they fold."""
    weights = whole_digests.expert_weights
    groups = whole_digests.equal_experts
    total = sum(map(len, groups))
    for position, keys in enumerate(groups):
        (layer, expert), (layer_of_copy, other) = keys[0], keys[1]
        message = f"expert {other} of layer {layer_of_copy} holds the same weights as expert {expert} of layer {layer}"
        if len(keys) > 2:
            message += f", and {len(keys) - 2:,} more do"
        if position == 0 and len(groups) > 1:
            message += f"; {total:,} experts are such copies or originals, in {len(groups):,} sets"
        names = [values.name for key in keys for values in weights[key].values()]
        copy = next(iter(weights[layer_of_copy, other].values()))
        yield RULE.failure(
            message,
            expected="experts that differ",
            actual={"alike": [f"layer {layer} expert {expert}" for layer, expert in keys[:8]], "of": len(keys)},
            file=copy.file,
            tensor=copy.name,
            tensors=names,
            fold=RULE.slug,
        )
