"""Whether values that somebody else left or sent are those that were asked for; imports nothing that reads."""

from operator import attrgetter

from auditor.content.plan import ShardPlan
from auditor.content.probes import ShardValues

_WHAT = attrgetter("name", "dtype", "shape", "rows")


def answers(plan: ShardPlan, values: ShardValues) -> bool:
    """Whether values are of the shard and of the tensors, or pieces of tensors, that are to be read."""
    pieces = [each.seam is not None for each in values.tensors]
    wanted = set(zip(map(_WHAT, plan.parts), (part.piece for part in plan.parts), strict=True))
    return (
        (values.file, values.size) == (plan.file, plan.size)
        and {plan.file}.issuperset(each.file for each in values.tensors)
        and wanted.issuperset(zip(map(_WHAT, values.tensors), pieces, strict=True))
        and sum(pieces) == sum(part.piece for part in plan.parts)
    )
