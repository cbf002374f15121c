"""Every MoE layer has the number of experts that config.json gives all of them."""

from collections.abc import Iterator

from auditor.comparison.records import ExpertCounts
from auditor.text import listed, plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM110",
    slug="other-expert-count",
    title="Layers hold another number of experts than the config has",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="layers",
)


def check(expert_counts: tuple[ExpertCounts, ...]) -> Iterator[Failure]:
    """One failure for all layers whose router and experts agree with each other and not with the config."""
    for each in expert_counts:
        layers: dict[int, list[int]] = {}
        for layer, experts in sorted(each.counts.items()):
            layers.setdefault(experts, []).append(layer)
        others = listed(
            f"{count} in {'layer' if len(held) == 1 else 'layers'} {listed(held)}"
            for count, held in sorted(layers.items())
        )
        yield RULE.failure(
            f"n_routed_experts is {each.declared}; {len(each.counts)} of {plural(each.layers, 'MoE layer')} "
            f"have other routers and experts: {others}",
            field="n_routed_experts",
            expected=each.declared,
            actual=sorted(layers),
            tensors=each.explains,
            takes=each.explains,
        )
