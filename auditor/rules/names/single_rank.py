"""A checkpoint is the whole model, not what one rank of several held of it."""

from collections.abc import Iterator

from auditor.comparison.records import ExpertRank, Stage, TensorRank
from auditor.text import named, plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="NAM109",
    slug="single-rank",
    title="One rank of a model that was spread over several",
    severity=Severity.ERROR,
    scope=Scope.CHECKPOINT,
    examines="expected tensors",
)


def check(
    tensor_rank: tuple[TensorRank, ...], expert_rank: tuple[ExpertRank, ...], stage: tuple[Stage, ...]
) -> Iterator[Failure]:
    """One failure, whatever the model was split by."""
    parts = [
        *(
            f"{plural(each.count, 'tensor')} have 1/{each.of} of a dimension that tensor parallelism splits, such as "
            f"{named(each.example)}: shape is {each.actual}, needs {each.needed}: one of {each.of} ranks"
            for each in tensor_rank
        ),
        *(
            f"every MoE layer holds the experts {each.first} to {each.last} of {each.experts} and the whole router: "
            f"one of {each.experts // (each.last - each.first + 1)} expert-parallel ranks"
            for each in expert_rank
        ),
        *(
            f"of {plural(each.layers, 'layer')} {each.first} to {each.last} are there with what goes with them, "
            "and no tensor of the others: one pipeline stage"
            for each in stage
        ),
    ]
    explained = [name for cause in (*tensor_rank, *expert_rank, *stage) for name in cause.explains]
    if parts:
        yield RULE.failure("; ".join(parts), tensors=explained, takes=explained)
