"""What changed between two checkpoints or two reports of them."""

from typing import Any, Literal

from pydantic import Field

from auditor_schemas.conversion import ConversionValues
from auditor_schemas.record import Record
from auditor_schemas.report import Tool, Verdict
from auditor_schemas.rule import Severity


class DiffSide(Record):
    """One side of the comparison. Sizes in bytes; `content_sha256` is known where every byte was read."""

    kind: Literal["checkpoint", "report"]
    uri: str
    revision: str | None
    fingerprint: str | None
    family: str | None
    depth: Literal["headers", "sample", "full"]
    verdict: Verdict
    tensors: int
    shards: int
    payload_bytes: int
    content_sha256: str | None


class TensorKind(Record):
    """Shape and dtype."""

    shape: tuple[int, ...]
    dtype: str


class TensorChange(Record):
    """Tensors that changed alike, in {a-b} patterns; `old` or `new` is null where there were or are none."""

    patterns: tuple[str, ...]
    count: int
    old: TensorKind | None
    new: TensorKind | None


class TensorMove(Record):
    """Tensors that left one shard for another, in {a-b} patterns; several files are where each may be in any."""

    patterns: tuple[str, ...]
    count: int
    old: tuple[str, ...]
    new: tuple[str, ...]


class FieldChange(Record):
    """A config.json field, dotted where it is nested."""

    field: str
    change: Literal["added", "removed", "changed"]
    old: Any = None
    new: Any = None


class FigureChange(Record):
    """A parameter figure by one convention, before and after; null where it could not be counted."""

    name: str
    convention: str
    old: int | None
    new: int | None


class FindingChange(Record):
    """A root finding. new: `count` of its `of` members are not among the old findings. gone: so many are no longer."""

    change: Literal["new", "gone", "known"]
    rule: str
    slug: str
    severity: Severity
    message: str
    fingerprint: str
    count: int
    of: int


class CheckpointDiff(Record):
    """Everything that is known to differ, and what could not be compared.

    `same`: nothing differs of what could be compared. `changed_bytes` are tensors alike in shape and dtype whose
    bytes differ by their digests, and `config` the fields that differ, where both sides have them. A tensor that
    changed both shape and dtype is in `reshaped` alone.
    """

    schema_version: Literal["1"] = "1"
    tool: Tool
    old: DiffSide
    new: DiffSide
    same: bool
    added: tuple[TensorChange, ...]
    removed: tuple[TensorChange, ...]
    reshaped: tuple[TensorChange, ...]
    retyped: tuple[TensorChange, ...]
    moved: tuple[TensorMove, ...]
    changed_bytes: tuple[TensorChange, ...]
    bytes_compared: bool
    config: tuple[FieldChange, ...]
    config_compared: bool
    figures: tuple[FigureChange, ...] = Field(description="Every figure that either side has, changed or not.")
    findings: tuple[FindingChange, ...]
    not_compared: tuple[str, ...] = Field(description="What is not known to be the same or not, with the reason.")
    incomplete: tuple[str, ...] = Field(description="What an incomplete audit of a side did not see.")
    values: ConversionValues | None = Field(
        default=None,
        description="What the values of tensors say of a conversion; absent where these were not compared.",
    )
