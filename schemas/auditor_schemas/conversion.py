"""Whether one checkpoint is another one converted, by the values of their tensors."""

from typing import Literal

from pydantic import Field

from auditor_schemas.codes import Code
from auditor_schemas.record import Record

Conversion = Literal["faithful", "lossy", "unfaithful", "undecided"]
Relation = Literal["same_bytes", "same_values", "requantised", "rounded", "different", "not_compared"]


class ElementPlace(Record):
    """One element by its row and column, what both sides have there, and its bytes in NEW's file."""

    row: int
    column: int
    old: str
    new: str
    file: str
    bytes: tuple[int, int]


class ComparedKind(Record):
    """Pairs that have the same relation, formats and formula; `patterns` are names of NEW.

    Errors are relative to the old value, or to the least normal number of the new format where that is more: the
    largest, and the root of the mean of their squares over all elements.
    """

    relation: Relation
    old_format: str
    new_format: str
    formula: str
    fault: str
    count: int
    elements: int
    unequal: int
    beyond: int
    largest_error: float
    rms_error: float
    patterns: tuple[str, ...]


class ComparedTensor(Record):
    """One pair whose values are not the same. `message` is what a person reads of it.

    `unequal` elements are not the other side's after the stated rounding, `beyond` are further away than the new format
    rounds. `likeness` is the correlation of new and old values in blocks that differ.
    """

    relation: Relation
    old: str
    new: str
    paired_by: Literal["name", "map", "content"]
    old_format: str
    new_format: str
    shape: tuple[int, ...]
    formula: str
    fault: str
    message: str
    elements: int
    unequal: int
    beyond: int
    blocks: int
    blocks_unlike: int
    likeness: float
    largest_error: float
    rms_error: float
    first: ElementPlace | None


class UnpairedTensors(Record):
    """Tensors that one side alone has, in {a-b} patterns; `excused` is why that is no loss."""

    patterns: tuple[str, ...]
    count: int
    format: str
    shape: tuple[int, ...]
    excused: str


class ConversionValues(Record):
    """What the values of two checkpoints say of a conversion.

    faithful: every tensor has the same bytes or values, or follows by a published formula. lossy: some are rounded,
    none further than the format does. unfaithful: some differ, or are left out. undecided: not everything was compared.
    """

    verdict: Conversion
    conclusion: str
    conversions: tuple[str, ...] = Field(description="What was done, from which format to which, by which formula.")
    kinds: tuple[ComparedKind, ...]
    tensors: tuple[ComparedTensor, ...] = Field(description="Pairs that are not the same, the worst first.")
    more: int = Field(description="How many of these are not listed.")
    left_out: tuple[UnpairedTensors, ...]
    added: tuple[UnpairedTensors, ...]
    not_compared: tuple[str, ...]
    unread: tuple[str, ...]
    unread_codes: tuple[Code, ...]
    seed: int | None = Field(description="What the sample was drawn from; null where everything was read.")
    bytes_read: int = Field(description="Bytes of tensors of both sides together.")
    bytes_total: int
    resumed_files: int | None
