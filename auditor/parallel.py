"""Which tensor parallel sizes leave partitions that weight blocks divide.

Source: the splits of the reference inference code; activations are quantised per block of channels.
"""

from collections.abc import Iterator

from auditor.facts import Expectations, Row
from auditor_schemas.config import DeepseekV3Config
from auditor_schemas.report import Parallelism, UnevenSplit

SIZES = (1, 2, 4, 8, 16, 32)


def parallelism(config: DeepseekV3Config, expectations: Expectations) -> tuple[Parallelism, ...]:
    """For each tensor parallel size the kinds of tensors that do not split evenly."""
    rows = [row for row in expectations.layers_of if row.split is not None and row.role == "weight"]
    tables = []
    for size in SIZES:
        uneven = tuple(split for row in rows if (split := _uneven(row, size, config)) is not None)
        tables.append(Parallelism(tensor_parallel=size, clean=not uneven, uneven=uneven))
    return tuple(tables)


def _uneven(row: Row, parallel: int, config: DeepseekV3Config) -> UnevenSplit | None:
    axis = row.split
    assert axis is not None
    length = row.shape[axis]
    reason = next(_reasons(row, length, parallel, config), None)
    if reason is None:
        return None
    return UnevenSplit(pattern=row.suffix, axis=axis, size=length, partition=length / parallel, reason=reason)


def _reasons(row: Row, length: int, parallel: int, config: DeepseekV3Config) -> Iterator[str]:
    if parallel == 1:
        return
    if row.module == "attention" and config.num_attention_heads % parallel:
        yield f"{config.num_attention_heads} heads do not divide by {parallel}"
    if length % parallel:
        yield f"{length} does not divide by {parallel}"
        return
    quantization = config.quantization_config
    if row.quantised and quantization is not None:
        block = quantization.weight_block_size[row.split or 0]
        if length // parallel % block:
            yield f"{length // parallel} is no multiple of the block's {block}"
