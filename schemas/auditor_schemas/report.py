"""The audit report, the product of an audit: every page and every other format is a view of it."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from auditor_schemas.codes import Code
from auditor_schemas.content import ContentDigest, Probes
from auditor_schemas.figures import Figure, Tallies
from auditor_schemas.finding import Finding, Gone, WaiverUse
from auditor_schemas.inventory import InventorySummary, LayoutRow, Storage
from auditor_schemas.parallelism import ExpertParallelism, Parallelism, PipelineParallelism
from auditor_schemas.record import Record
from auditor_schemas.rule import Severity
from auditor_schemas.structure import StructureSummary

Verdict = Literal["passed", "failed", "incomplete"]
Outcome = Literal["passed", "failed", "not_applicable", "errored"]


class Tool(Record):
    """The program that made the report."""

    name: str
    version: str


class Source(Record):
    """What was audited. `fingerprint` covers sizes, headers, config.json and index, and is silent about payload.

    `versioned` is false where the store names no version of its files (no ETag, no Last-Modified): whether they stayed
    the same while they were read shows in their sizes and headers alone.
    """

    uri: str
    revision: str | None
    fingerprint: str | None
    versioned: bool = True


class RunNode(Record):
    """What a node of a cluster has read: units of work, bytes of tensors, and what computed there."""

    node: str
    device: str
    units: int
    bytes: int


class Run(Record):
    """How it was audited. `duration_s` in seconds. `nodes` are those of a cluster, where one has read.

    `resumed_shards` counts the shards whose content was not read and is told by a state folder; null without one.
    """

    depth: Literal["headers", "sample", "full"]
    seed: int | None
    device: str | None
    engine: str
    started_at: datetime
    duration_s: float
    resumed_shards: int | None = None
    nodes: tuple[RunNode, ...] = ()


class Digest(Record):
    """A file that took part in the verdict, by its SHA-256."""

    sha256: str


class RuleOutcome(Record):
    """What became of one rule; `examined` counts what it looked at, `reason` says why not, or what explains it."""

    rule: str
    slug: str
    title: str
    severity: Severity
    outcome: Outcome
    reason: str | None
    examined: int


class Cell(Record):
    """One layer's module on the map; `layer` is null for tensors outside the layers."""

    layer: int | None
    module: str
    worst: Literal["passed", "info", "warning", "error", "unread"]
    counts: dict[str, int]


class Coverage(Record):
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


class AuditReport(Record):
    """Everything one audit found, in one versioned document."""

    schema_version: Literal["1"] = "1"
    tool: Tool
    source: Source
    run: Run
    family: str | None
    verdict: Verdict
    incomplete: tuple[str, ...] = Field(description="Why the audit is incomplete; empty otherwise.")
    incomplete_codes: tuple[Code, ...] = Field(
        default=(),
        description="The code of each sentence of `incomplete`, in the same order; empty in reports made before there "
        "were codes. unreachable: network, name, TLS, no answer in time, or the server's own failure (5xx). "
        "throttled: the server asks for less (429, or 503 with Retry-After). changed: a file became another one while "
        "it was read, or since it was listed. unauthorized: 401. forbidden: 403. not_found: 404 or 410. not_allowed: "
        "a host, an address or a file that is not allowed here. unusable: the server answers what cannot be used, "
        "such as no ranges. unreadable: permission, input or output of this machine's files. limit: more than a limit "
        "allows. cancelled: by whoever ran the audit. out_of_memory. unsupported: a model_type or format that no "
        "family knows. crashed: a mistake of the auditor's own. not_saved: what was to be kept for a resumed audit.",
    )
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
    left_out: dict[str, int] = Field(
        default={},
        description="How many rows of `layout` and `cells` are not listed, where a hostile file has too many.",
    )
    parallelism: tuple[Parallelism, ...]
    tallies: Tallies
    coverage: Coverage
    probes: Probes | None = None
    content_digest: ContentDigest | None = None
    expert_parallelism: tuple[ExpertParallelism, ...] = ()
    pipeline_parallelism: tuple[PipelineParallelism, ...] = ()
    storage: Storage | None = None
    meaning: str | None = Field(
        default=None,
        description="What the verdict says where it says less than a family's: that a checkpoint was held against "
        "itself alone.",
    )
    structure: StructureSummary | None = None
