"""What a checkpoint is by itself, where no family is asked: its formats of weights and its patterns, in sums."""

from pydantic import Field

from auditor_schemas.record import Record


class FormatTally(Record):
    """Weights of one format. `scales` names what scales them, `block` the rows and columns that most share one.

    `stored_elements` are those of the codes, `parameters` the values that they stand for.
    """

    format: str
    dtype: str
    scales: str
    block: str | None
    weights: int
    stored_elements: int
    parameters: int
    example: str


class PatternTally(Record):
    """Tensors alike in all but the numbers in their names, each of which is `#`; of companions `parameters` is 0."""

    pattern: str
    dtype: str
    shape: tuple[int, ...]
    count: int
    parameters: int


class StructureSummary(Record):
    """A checkpoint without a family. `parameters` counts values after unpacking, companions left out."""

    parameters: int
    declared: str | None = Field(description="What is declared of quantisation, and where; null where nothing is.")
    formats: tuple[FormatTally, ...]
    patterns: tuple[PatternTally, ...]
