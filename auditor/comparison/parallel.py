"""What a tensor, expert or pipeline parallel size does: blocks that no split divides, and the bytes of a rank.

Source: the splits of the reference inference code; activations are quantised per block of channels.
"""

from collections.abc import Iterable, Iterator
from math import ceil

from auditor.families.expectations import Expectations, Row
from auditor.format.dtypes import packed_bytes
from auditor.format.entries import elements
from auditor_schemas.config import ModelConfig
from auditor_schemas.parallelism import (
    EvenSplit,
    ExpertParallelism,
    Parallelism,
    PipelineParallelism,
    Stage,
    UnevenSplit,
)

SIZES = (1, 2, 4, 8, 16, 32)
STAGES = (1, 2, 4, 8, 16)
EXPERT_RANKS = tuple(2**power for power in range(10))


def parallelism(config: ModelConfig, expectations: Expectations) -> tuple[Parallelism, ...]:
    """For each tensor parallel size the kinds of tensors that split on block boundaries, and those that do not."""
    rows = [row for row in expectations.layers_of if row.split is not None and row.role == "weight"]
    tables = []
    for size in SIZES:
        uneven = tuple(split for row in rows if (split := _uneven(row, size, config)) is not None)
        named = {split.pattern for split in uneven}
        tables.append(
            Parallelism(
                tensor_parallel=size,
                clean=not uneven,
                uneven=uneven,
                even=tuple(_even(row, size) for row in rows if row.suffix not in named),
                bytes_per_rank=_of_rank(expectations, size),
            )
        )
    return tuple(tables)


def expert_parallelism(config: ModelConfig, expectations: Expectations) -> tuple[ExpertParallelism, ...]:
    """How the routed experts divide among 1, 2, 4, … ranks, up to one expert each."""
    experts = config.routed_experts
    if experts is None:
        return ()
    alike = sum(expectations.multiplicity(row) * _bytes(row) for row in expectations.layers_of if not row.experts)
    routed = sum(expectations.multiplicity(row) * _bytes(row) for row in expectations.layers_of if row.experts)
    return tuple(
        ExpertParallelism(
            expert_parallel=ranks,
            experts=experts,
            fewest=experts // ranks,
            most=ceil(experts / ranks),
            # Experts are alike, so one's share of all leaves no remainder.
            bytes_per_rank=alike + routed // experts * ceil(experts / ranks),
        )
        for ranks in EXPERT_RANKS
        if ranks <= experts
    )


def pipeline_parallelism(config: ModelConfig, expectations: Expectations) -> tuple[PipelineParallelism, ...]:
    """How the main model's layers divide into 1, 2, 4, … stages, with the bytes of each."""
    layers = config.num_hidden_layers
    sizes = dict.fromkeys(range(config.layer_count), 0)
    for template in expectations.templates:
        each = sum(_bytes(row) * max(1, row.experts) for row in template.rows)
        sizes.update(dict.fromkeys(template.layers, each))
    first = sum(_bytes(row) for row in expectations.top if row.component == "embedding")
    last = sum(_bytes(row) for row in expectations.top if row.component != "embedding")
    tables = []
    for count in STAGES:
        if count > layers:
            break
        stages, begin = [], 0
        for stage in range(count):
            end = begin + layers // count + (stage < layers % count)
            final = stage == count - 1
            held = range(begin, config.layer_count if final else end)
            size = sum(sizes[layer] for layer in held) + (first if stage == 0 else 0) + (last if final else 0)
            stages.append(Stage(layers=(held.start, held.stop), bytes=size))
            begin = end
        tables.append(PipelineParallelism(pipeline_parallel=count, stages=tuple(stages)))
    return tuple(tables)


def _uneven(row: Row, parallel: int, config: ModelConfig) -> UnevenSplit | None:
    axis = row.split
    assert axis is not None
    length = row.shape[axis]
    reason = next(_reasons(row, length, parallel, config), None)
    if reason is None:
        return None
    return UnevenSplit(pattern=row.suffix, axis=axis, size=length, partition=length / parallel, reason=reason)


def _even(row: Row, parallel: int) -> EvenSplit:
    axis = row.split
    assert axis is not None
    length = row.shape[axis]
    return EvenSplit(pattern=row.suffix, axis=axis, size=length, partition=length // parallel)


def _reasons(row: Row, length: int, parallel: int, config: ModelConfig) -> Iterator[str]:
    if parallel == 1:
        return
    if row.module == "attention" and config.num_attention_heads % parallel:
        yield f"{config.num_attention_heads} heads do not divide by {parallel}"
    if length % parallel:
        yield f"{length} does not divide by {parallel}"
        return
    if row.quantiser is not None:
        block = row.quantiser.block[row.split or 0]
        if length // parallel % block:
            yield f"{length // parallel} is no multiple of the block's {block}"


def _bytes(row: Row) -> int:
    return packed_bytes(row.dtype, elements(row.shape))


def _of_rank(expectations: Expectations, parallel: int) -> int:
    """The bytes of the largest rank: partitions rounded up, and every scale whose block a partition touches."""
    weights = {row.suffix: row for row in expectations.layers_of if row.quantised}
    total = 0
    for row in expectations.layers_of:
        length = 1 if row.split is None else row.shape[row.split]
        held = length
        if row.split is not None and row.codes is not None:
            weight = weights[row.codes]
            assert weight.quantiser is not None
            assert weight.shape_of_weight is not None
            held = _blocks(weight.shape_of_weight[row.split], parallel, weight.quantiser.block[row.split])
        elif row.split is not None:
            held = ceil(length / parallel)
        total += expectations.multiplicity(row) * _bytes(row) // length * held
    return total


def _blocks(length: int, parallel: int, block: int) -> int:
    """The most blocks along one axis that the partition of a rank touches."""
    partition = ceil(length / parallel)
    spans: Iterable[tuple[int, int]] = (
        (rank * partition, min(length, (rank + 1) * partition)) for rank in range(parallel)
    )
    return max(ceil(end / block) - begin // block for begin, end in spans if begin < end)
