"""What dividing a model among ranks does to its weight blocks, experts, layers and bytes."""

from auditor_schemas.record import Record


class UnevenSplit(Record):
    """A tensor kind whose partition no weight block divides. Sizes in elements along `axis`."""

    pattern: str
    axis: int
    size: int
    partition: float
    reason: str


class EvenSplit(Record):
    """A tensor kind whose partitions end on block boundaries. Sizes in elements along `axis`."""

    pattern: str
    axis: int
    size: int
    partition: int


class Parallelism(Record):
    """What one tensor parallel size does to the weight blocks: clean, or the kinds of tensors that split unevenly.

    `bytes_per_rank` is what the largest rank holds of weights and scales, replicated tensors included.
    """

    tensor_parallel: int
    clean: bool
    uneven: tuple[UnevenSplit, ...]
    even: tuple[EvenSplit, ...] = ()
    bytes_per_rank: int | None = None


class ExpertParallelism(Record):
    """How the routed experts of a layer divide among ranks; everything else is replicated.

    `fewest` and `most` are experts of one layer on one rank, `bytes_per_rank` what the largest rank holds.
    """

    expert_parallel: int
    experts: int
    fewest: int
    most: int
    bytes_per_rank: int


class Stage(Record):
    """One pipeline stage: the half-open range of its layers, and its bytes."""

    layers: tuple[int, int]
    bytes: int


class PipelineParallelism(Record):
    """How the layers divide into stages of as equal a number of layers as can be, the first ones one more.

    The embedding goes with the first stage; final norm, head and MTP modules with the last.
    """

    pipeline_parallel: int
    stages: tuple[Stage, ...]
