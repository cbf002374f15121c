"""Whether values that somebody else left or sent are those that were asked for; imports nothing that reads."""

from auditor.content.plan import Part, ShardPlan
from auditor.content.values import ShardValues, TensorValues
from auditor.format.dtypes import Dtype

# Name, dtype, shape and rows of a tensor, and whether it is a piece of it.
_What = tuple[str, Dtype, tuple[int, ...], tuple[tuple[int, int], ...], bool]


def answers(plan: ShardPlan, values: ShardValues) -> bool:
    """Whether values are of the shard and of the tensors, or pieces of tensors, that are to be read."""
    if (values.file, values.size) != (plan.file, plan.size) or {each.file for each in values.tensors} - {plan.file}:
        return False
    # One by one, as all are there but for what a header names twice, and a list of 92,000 takes longer than a look.
    if len(plan.parts) == len(values.tensors) and all(map(_is_of, plan.parts, values.tensors)):
        return True
    wanted = [(part.name, part.dtype, part.shape, part.rows, part.piece) for part in plan.parts]
    found = [(each.name, each.dtype, each.shape, each.rows, each.seam is not None) for each in values.tensors]
    return _are_among(found, wanted)


def _is_of(part: Part, values: TensorValues) -> bool:
    return (
        part.name == values.name
        and part.dtype == values.dtype
        and part.shape == values.shape
        and part.rows == values.rows
        and part.piece == (values.seam is not None)
    )


def _are_among(found: list[_What], wanted: list[_What]) -> bool:
    """Whether all that was found was asked for, and of pieces none is missing."""
    return set(wanted).issuperset(found) and sum(each[-1] for each in found) == sum(each[-1] for each in wanted)
