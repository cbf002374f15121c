"""What the shards hold is what config.json and the index speak of; layers that both leave out are still there."""

from collections.abc import Iterator
from itertools import chain

from auditor.comparison.records import LeftOut
from auditor.families.expectations import Expectations
from auditor.text import plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM108",
    slug="left-out-layers",
    title="The shards hold layers that config and index leave out",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="tensors",
)


def check(left_out: tuple[LeftOut, ...], expectations: Expectations) -> Iterator[Failure]:
    """One failure for all layers that are in no index and behind those that the config counts."""
    for each in left_out:
        first, last = each.layers[0], each.layers[-1]
        layers = f"layer {first}" if first == last else f"{len(each.layers)} layers, {first} to {last}"
        yield RULE.failure(
            f"the shards hold {layers} ({plural(each.count, 'tensor')}), of which the index has none; "
            f"num_hidden_layers is {each.declared}",
            field="num_hidden_layers",
            expected=each.declared,
            actual=last + 1,
            tensors=each.explains[: each.count],
            takes=(*each.explains, *chain.from_iterable(map(expectations.beside, each.explains[: each.count]))),
        )
