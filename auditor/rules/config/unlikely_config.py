"""Fields of config.json that are each valid go together."""

from collections.abc import Iterator, Mapping
from typing import Any

from auditor.families.releases import is_uncorrected, layout_of
from auditor.text import listed
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG114",
    slug="unlikely-config",
    title="config.json fields do not go together",
    severity=Severity.WARNING,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(config_fields: Mapping[str, Any]) -> Iterator[Failure]:
    """A failure for a router that corrects what it does not compute, and one for token ids beyond the vocabulary."""
    layout = layout_of(config_fields)
    if is_uncorrected(config_fields):
        yield RULE.failure(
            "scoring_func is softmax, topk_method is noaux_tc, whose correction bias goes with sigmoid or sqrtsoftplus",
            file="config.json",
            field="scoring_func",
            expected=["sigmoid", "sqrtsoftplus"],
            actual="softmax",
        )
    size = layout.get("vocab_size")
    if type(size) is not int or size < 1:  # which has a finding of its own
        return
    fields = {**config_fields, **layout}
    beyond = {}
    for name in sorted(name for name in fields if name.endswith("_token_id")):
        ids = fields[name] if isinstance(fields[name], list) else [fields[name]]
        if odd := [each for each in ids if type(each) is int and each >= size]:
            beyond[name] = odd[:8]
    if beyond:
        told = listed(f"{name} is {ids[0]:,}" for name, ids in beyond.items())
        yield RULE.failure(
            f"{told}, vocab_size is {size:,}: tokens are 0 to {size - 1:,}",
            file="config.json",
            field=next(iter(beyond)),
            expected={"below": size},
            actual=beyond,
        )
