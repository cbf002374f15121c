"""The audit report, the product of an audit: every page and every other format is a view of it."""

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from auditor_schemas.rule import Severity

Verdict = Literal["passed", "failed", "incomplete"]
Outcome = Literal["passed", "failed", "not_applicable", "errored"]


class _Model(BaseModel):
    # defer_build: an audit that prints one line never pays for the schema of what it does not serialise.
    model_config = ConfigDict(frozen=True, defer_build=True)


class Tool(_Model):
    """The program that made the report."""

    name: str
    version: str


class Source(_Model):
    """What was audited. `fingerprint` covers sizes, headers, config.json and index, and is silent about payload."""

    uri: str
    revision: str | None
    fingerprint: str | None


class Run(_Model):
    """How it was audited. `duration_s` in seconds."""

    depth: Literal["headers", "sample", "full"]
    seed: int | None
    device: str | None
    engine: str
    started_at: datetime
    duration_s: float


class Digest(_Model):
    """A file that took part in the verdict, by its SHA-256."""

    sha256: str


class RuleOutcome(_Model):
    """What became of one rule; `examined` counts what it looked at, `reason` says why not, or what explains it."""

    rule: str
    slug: str
    title: str
    severity: Severity
    outcome: Outcome
    reason: str | None
    examined: int


class Location(_Model):
    """The primary place of a finding. `bytes` is a half-open range of the file."""

    file: str | None = None
    tensor: str | None = None
    field: str | None = None
    bytes: tuple[int, int] | None = None


class Waiver(_Model):
    """Why a finding does not gate, who answers for it, and until when."""

    reason: str
    owner: str | None
    expires: date


class Finding(_Model):
    """One root cause, or one consequence of another finding (`caused_by` holds that one's fingerprint).

    `count` is the number of failing subjects; `affected` lists the tensors complete, in {a-b} patterns.
    """

    rule: str
    slug: str
    severity: Severity
    message: str
    location: Location
    expected: Any = None
    actual: Any = None
    count: int
    affected: tuple[str, ...]
    caused_by: str | None = None
    fingerprint: str
    status: Literal["new", "known", "waived"] = "new"
    waiver: Waiver | None = None


class Count(_Model):
    """One exact parameter count with the convention it follows; the deviation is from the published figure."""

    convention: str
    parameters: int
    deviation_percent: float | None


class Figure(_Model):
    """A parameter figure: published (in the unit printed, such as '671B') beside the exact counts."""

    name: str
    published: str | None
    source: str | None
    counts: tuple[Count, ...]
    verdict: Literal["exact", "matches_rounded", "contradicted", "not_applicable"]
    note: str | None = None


class InventorySummary(_Model):
    """The inventory in sums. Sizes in bytes; `elements` include scales; `by_dtype` counts elements."""

    tensors: int
    shards: int
    elements: int
    payload_bytes: int
    file_bytes: int
    by_dtype: dict[str, int]


class LayoutRow(_Model):
    """Tensors alike in pattern, shape and dtype; `files` are shards in {a-b} patterns."""

    pattern: str
    shape: tuple[int, ...]
    dtype: str
    files: tuple[str, ...]
    count: int


class Cell(_Model):
    """One layer's module on the map; `layer` is null for tensors outside the layers."""

    layer: int | None
    module: str
    worst: Literal["passed", "info", "warning", "error", "unread"]
    counts: dict[str, int]


class UnevenSplit(_Model):
    """A tensor kind whose partition no weight block divides. Sizes in elements along `axis`."""

    pattern: str
    axis: int
    size: int
    partition: float
    reason: str


class Parallelism(_Model):
    """What one tensor parallel size does to the weight blocks: clean, or the kinds of tensors that split unevenly."""

    tensor_parallel: int
    clean: bool
    uneven: tuple[UnevenSplit, ...]


class ComponentTally(_Model):
    """Parameters of one component, from the config and from the headers. Scale tensors are never parameters."""

    component: str
    from_config: int | None
    from_headers: int


class Tallies(_Model):
    """Parameters by component, and what is stored beside them."""

    components: tuple[ComponentTally, ...]
    scale_elements: int
    unclassified_elements: int


class Coverage(_Model):
    """What was read and what was not. `unread` names each file or fact with the reason."""

    payload_bytes_read: int
    headers_read: int
    shards: int
    unread: tuple[str, ...]


class AuditReport(_Model):
    """Everything one audit found, in one versioned document."""

    schema_version: Literal["1"] = "1"
    tool: Tool
    source: Source
    run: Run
    family: str | None
    verdict: Verdict
    incomplete: tuple[str, ...] = Field(description="Why the audit is incomplete; empty otherwise.")
    fail_on: Literal["error", "warning", "never"]
    policy: Digest | None
    baseline: Digest | None
    outcomes: tuple[RuleOutcome, ...]
    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...]
    inventory: InventorySummary
    layout: tuple[LayoutRow, ...]
    cells: tuple[Cell, ...]
    parallelism: tuple[Parallelism, ...]
    tallies: Tallies
    coverage: Coverage
    probes: None = None
    content_digest: None = None
