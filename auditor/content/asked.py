"""Whether values that somebody else left or sent are those that were asked for; imports nothing that reads."""

from auditor.content.plan import ShardPlan
from auditor.content.probes import ShardValues

# Name, dtype, shape and rows of a tensor, and whether it is a piece of it.
_What = tuple[str, str, tuple[int, ...], tuple[tuple[int, int], ...], bool]


def answers(plan: ShardPlan, values: ShardValues) -> bool:
    """Whether values are of the shard and of the tensors, or pieces of tensors, that are to be read."""
    wanted = [(part.name, part.dtype, part.shape, part.rows, part.piece) for part in plan.parts]
    found = [(each.name, each.dtype, each.shape, each.rows, each.seam is not None) for each in values.tensors]
    return (
        (values.file, values.size) == (plan.file, plan.size)
        and {each.file for each in values.tensors} <= {plan.file}
        and (found == wanted or _are_among(found, wanted))
    )


def _are_among(found: list[_What], wanted: list[_What]) -> bool:
    """Whether all that was found was asked for, and of pieces none is missing."""
    return set(wanted).issuperset(found) and sum(each[-1] for each in found) == sum(each[-1] for each in wanted)
