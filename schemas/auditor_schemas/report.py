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
    `members` are the fingerprints of the subjects one by one, where they are not tensors. `uncovered` is what
    of it neither baseline nor waiver covers, where they cover a part: the finding then gates as a whole.
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
    members: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()


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


class ComponentBytes(_Model):
    """What a component stores in one dtype; a component's block scales are counted with it."""

    component: str
    dtype: str
    tensors: int
    bytes: int


class ShardSummary(_Model):
    """One shard in sums: its whole size, its header's, and how many tensors it holds."""

    file: str
    bytes: int
    header_bytes: int
    tensors: int


class DistantScales(_Model):
    """FP8 weights of one shard whose block scales another shard holds; `weights` in {a-b} patterns."""

    weight_file: str
    scale_file: str
    count: int
    weights: tuple[str, ...]


class Storage(_Model):
    """Where the bytes are: by component and dtype, by shard, and which weights lie apart from their scales."""

    components: tuple[ComponentBytes, ...]
    shards: tuple[ShardSummary, ...]
    distant_scales: tuple[DistantScales, ...]


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


class EvenSplit(_Model):
    """A tensor kind whose partitions end on block boundaries. Sizes in elements along `axis`."""

    pattern: str
    axis: int
    size: int
    partition: int


class Parallelism(_Model):
    """What one tensor parallel size does to the weight blocks: clean, or the kinds of tensors that split unevenly.

    `bytes_per_rank` is what the largest rank holds of weights and scales, replicated tensors included.
    """

    tensor_parallel: int
    clean: bool
    uneven: tuple[UnevenSplit, ...]
    even: tuple[EvenSplit, ...] = ()
    bytes_per_rank: int | None = None


class ExpertParallelism(_Model):
    """How the routed experts of a layer divide among ranks; everything else is replicated.

    `fewest` and `most` are experts of one layer on one rank, `bytes_per_rank` what the largest rank holds.
    """

    expert_parallel: int
    experts: int
    fewest: int
    most: int
    bytes_per_rank: int


class Stage(_Model):
    """One pipeline stage: the half-open range of its layers, and its bytes."""

    layers: tuple[int, int]
    bytes: int


class PipelineParallelism(_Model):
    """How the layers divide into stages of as equal a number of layers as can be, the first ones one more.

    The embedding goes with the first stage; final norm, head and MTP modules with the last.
    """

    pipeline_parallel: int
    stages: tuple[Stage, ...]


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


class RoundTrip(_Model):
    """What dequantising and quantising again did to weight blocks.

    exact: codes and scale come back bit for bit. value_equal: other codes and scale, the same values.
    changed: other values. undefined: a NaN code or an unusable scale leaves nothing to compare.
    `largest_relative_error` is that of the dequantised values, over the changed blocks.
    """

    blocks: int
    exact: int
    value_equal: int
    changed: int
    undefined: int
    largest_relative_error: float | None


class ScaleProbe(_Model):
    """The values of block scales. `exponents` counts the finite positive ones by floor(log2(scale))."""

    values: int
    nan: int
    infinite: int
    zero: int
    negative: int
    subnormal: int
    powers_of_two: int
    minimum: float | None
    median: float | None
    maximum: float | None
    exponents: dict[int, int]


class ProbeGroup(_Model):
    """Tensors of one kind in one layer, by their values.

    `kind` is the tensor name behind the layer, `{expert}` in the place of experts' numbers; `layer` is null
    outside the layers. Minimum and maximum are over finite values, of FP8 weights over codes without scale.
    `largest_codes` counts weight blocks by their largest |code| (the FP8 bit pattern without its sign,
    126 is 448, 127 is NaN).
    """

    layer: int | None
    kind: str
    dtype: str
    tensors: int
    elements: int
    elements_read: int
    nan: int
    infinite: int
    zeros: int
    minimum: float | None
    maximum: float | None
    zero_blocks: int = 0
    largest_codes: dict[int, int] | None = None
    round_trip: RoundTrip | None = None
    scales: ScaleProbe | None = None


class TensorProbe(_Model):
    """One spot-checked FP8 weight: the rows that were read and how its blocks round-trip."""

    tensor: str
    file: str
    shape: tuple[int, ...]
    rows_read: tuple[tuple[int, int], ...]
    round_trip: RoundTrip
    verdict: Literal["exact", "value_equal", "changed", "undefined"]


class FunctionalCheck(_Model):
    """Quantised activations times an FP8 weight, against the float32 product of the dequantised weight.

    Relative error in the Frobenius norm. A measure of the format at work; it judges nothing.
    """

    tensor: str
    tokens: int
    rows: int
    device: str
    relative_error: float
    tolerance: float
    within: bool


class Probes(_Model):
    """What the bytes that were read say of the values, where content was read."""

    groups: tuple[ProbeGroup, ...]
    tensors: tuple[TensorProbe, ...]
    functional: tuple[FunctionalCheck, ...]


class ShardDigest(_Model):
    """A whole shard by its SHA-256, as hubs declare it for large files."""

    file: str
    bytes: int
    sha256: str


class TensorDigests(_Model):
    """The XXH3-128 of tensors' bytes, in the order in which their {a-b} pattern counts, the last number first."""

    pattern: str
    xxh3_128: tuple[str, ...]


class ContentDigest(_Model):
    """Which bytes were audited at depth full. `sha256` is over the canonical JSON of the shards' digests."""

    sha256: str
    shards: tuple[ShardDigest, ...]
    tensors: tuple[TensorDigests, ...]


class Coverage(_Model):
    """What was read and what was not. `unread` names each file or fact with the reason.

    `payload_bytes_read` is of the tensors' bytes, each counted once; `tensors_read` counts the tensors of which
    something was read, `blocks_read` the weight blocks.
    """

    payload_bytes_read: int
    tensors_read: int = 0
    blocks_read: int = 0
    headers_read: int
    shards: int
    unread: tuple[str, ...]


class WaiverUse(_Model):
    """One waiver of the policy and what became of it.

    used: it waived findings. partial: of each finding it matched, it covers a part, so none is waived.
    unused: it matched nothing. expired: it no longer waives. not_run: its rule did not run, so nothing is known.
    `findings` counts those of which it covers something (expired: would cover), `members` the tensors, files
    or fields.
    """

    rule: str
    slug: str
    tensor: str | None
    file: str | None
    field: str | None
    reason: str
    owner: str | None
    expires: date
    state: Literal["used", "partial", "unused", "expired", "not_run"]
    findings: int
    members: int


class Gone(_Model):
    """A finding of the baseline of which `count` members of `of` are no longer there."""

    rule: str
    slug: str
    severity: Severity
    message: str
    fingerprint: str
    count: int
    of: int


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
    unmet: tuple[str, ...] = Field(
        default=(), description="What the policy requires of the audit and did not get; fails unless fail_on is never."
    )
    waivers: tuple[WaiverUse, ...] = Field(default=(), description="Every waiver of the policy, used or not.")
    gone: tuple[Gone, ...] = Field(default=(), description="What the baseline has and this audit no longer finds.")
    outcomes: tuple[RuleOutcome, ...]
    findings: tuple[Finding, ...]
    figures: tuple[Figure, ...]
    inventory: InventorySummary
    layout: tuple[LayoutRow, ...]
    cells: tuple[Cell, ...]
    parallelism: tuple[Parallelism, ...]
    tallies: Tallies
    coverage: Coverage
    probes: Probes | None = None
    content_digest: ContentDigest | None = None
    expert_parallelism: tuple[ExpertParallelism, ...] = ()
    pipeline_parallelism: tuple[PipelineParallelism, ...] = ()
    storage: Storage | None = None
