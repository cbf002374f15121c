"""Whether values that somebody else left or sent are those that were asked for; imports nothing that reads."""

from auditor.content.plan import ShardPlan
from auditor.content.probes import ShardValues


def answers(plan: ShardPlan, values: ShardValues) -> bool:
    """Whether values are of the shard and of the tensors, or pieces of tensors, that are to be read."""
    wanted = {(part.name, part.dtype, part.shape, part.rows, part.piece) for part in plan.parts}
    found = [(each.name, each.dtype, each.shape, each.rows, each.seam is not None) for each in values.tensors]
    return (
        (values.file, values.size) == (plan.file, plan.size)
        and all(each.file == plan.file for each in values.tensors)
        and wanted.issuperset(found)
        and sum(each.seam is not None for each in values.tensors) == sum(part.piece for part in plan.parts)
    )
