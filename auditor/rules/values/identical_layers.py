"""No two layers hold the same weights."""

from collections.abc import Iterator

from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL115",
    slug="identical-layers",
    title="Layers are copies of each other",
    severity=Severity.WARNING,
    scope=Scope.TENSOR,
    examines="layers read",
)


def check(whole_digests: Probes) -> Iterator[Failure]:
    """One failure per set of layers whose weight matrices are all equal; they fold."""
    layers = whole_digests.layers
    groups = whole_digests.equal_layers
    for numbers in groups:
        names = [values.name for number in numbers for values in layers[number].values()]
        copy = next(iter(layers[numbers[1]].values()))
        yield RULE.failure(
            f"layers {', '.join(map(str, numbers[:-1]))} and {numbers[-1]} hold the same weights "
            f"in all {len(layers[numbers[0]]):,} matrices",
            expected="layers that differ",
            actual={"alike": numbers},
            file=copy.file,
            tensor=copy.name,
            tensors=names,
            takes=names,
            fold=RULE.slug,
        )
