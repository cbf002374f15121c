"""The policy file: what gates, what is required and allowed, what is waived, and limits on what an audit may cost."""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from auditor_schemas.defaults import LIMITS, THRESHOLDS
from auditor_schemas.rule import Severity

Positive = Annotated[int, Field(strict=True, ge=1)]


class Limits(BaseModel):
    """Upper bounds on what a checkpoint may ask the auditor to read or to hold.

    Reaching a limit makes an audit incomplete (exit 3): what lies beyond was not looked at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    config_bytes: Positive = Field(default=LIMITS["config_bytes"], description="Size of config.json in bytes.")
    index_bytes: Positive = Field(default=LIMITS["index_bytes"], description="Size of the index in bytes.")
    header_bytes: Positive = Field(
        default=LIMITS["header_bytes"],
        le=100_000_000,
        description="Size of one shard's header in bytes; safetensors itself reads no more than 100,000,000.",
    )
    header_bytes_in_all: Positive = Field(
        default=LIMITS["header_bytes_in_all"], description="Size of all shards' headers together, in bytes."
    )
    json_depth: Positive = Field(default=LIMITS["json_depth"], le=1000, description="Nesting of any JSON document.")
    json_values: Positive = Field(
        default=LIMITS["json_values"], description="Values (objects, arrays, strings, numbers) in one JSON document."
    )
    json_values_in_all: Positive = Field(
        default=LIMITS["json_values_in_all"],
        description="Values in all headers together that are read one by one, as those of damaged headers are.",
    )
    tensors_per_shard: Positive = Field(
        default=LIMITS["tensors_per_shard"], description="Tensors in one shard's header."
    )
    tensors: Positive = Field(
        default=LIMITS["tensors"],
        description="Tensors in all shards together, and in the index; an entry that describes none counts too.",
    )
    name_bytes: Positive = Field(default=LIMITS["name_bytes"], description="Length of a tensor name in UTF-8 bytes.")
    name_bytes_in_all: Positive = Field(
        default=LIMITS["name_bytes_in_all"],
        description="Length of all tensor names in the headers together, and of those in the index, in UTF-8 bytes.",
    )
    shards: Positive = Field(default=LIMITS["shards"], description="Shards named by the index or found in the folder.")
    files: Positive = Field(default=LIMITS["files"], description="Directory entries listed at the source.")
    layers: Positive = Field(default=LIMITS["layers"], description="Layers a config may demand, MTP modules included.")
    experts: Positive = Field(default=LIMITS["experts"], description="Routed experts per layer a config may demand.")
    expected_tensors: Positive = Field(
        default=LIMITS["expected_tensors"], description="Tensors a config may demand in all."
    )


Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=1, allow_inf_nan=False)]
Glob = Annotated[str, Field(strict=True, min_length=1, max_length=1024)]


class Required(BaseModel):
    """How much an audit must look at. Less makes the verdict failed, for a stated reason. Shares are from 0 to 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    depth: Literal["headers", "sample", "full"] = Field(default="headers", description="The least depth.")
    payload: Share = Field(default=0.0, description="The least share of the tensors' bytes that is read.")
    fp8_blocks: Share = Field(default=0.0, description="The least share of the FP8 weight blocks that is looked at.")
    headers: Share = Field(default=0.0, description="The least share of the shards whose header is read.")


class Thresholds(BaseModel):
    """From where on what no format forbids is reported all the same. Rules' pages say what each was measured on."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    equal_values: Positive = Field(
        default=int(THRESHOLDS["equal_values"]), description="Values of the smallest tensors held against each other."
    )
    heavy_value: Factor = Field(
        default=THRESHOLDS["heavy_value"],
        description="The largest |value|, stored or made of codes and scales, that passes.",
    )
    light_median: Share = Field(
        default=THRESHOLDS["light_median"], description="The least median |value| of an unquantised tensor that passes."
    )
    far_exponents: Share = Field(
        default=THRESHOLDS["far_exponents"],
        description="The share of a tensor's values that may be a million times from their median, either way.",
    )
    scale_above: Factor = Field(
        default=THRESHOLDS["scale_above"], description="How far one block scale may be above its tensor's median."
    )
    scale_below: Factor = Field(
        default=THRESHOLDS["scale_below"], description="How far one block scale may be below its tensor's median."
    )
    kind_apart: Factor = Field(
        default=THRESHOLDS["kind_apart"], description="How far a tensor's median may be from those of its kind."
    )
    impossible_scale: Factor = Field(
        default=THRESHOLDS["impossible_scale"],
        description="From how far on scales are beyond what a model has, from their kind or the rest of their tensor.",
    )
    zero_rows: Share = Field(
        default=THRESHOLDS["zero_rows"], description="The share of a matrix's rows that may be zeros."
    )
    doubled_rows: Share = Field(
        default=THRESHOLDS["doubled_rows"], description="The share of a vocabulary's rows that may be there twice."
    )
    code_runs: Positive = Field(
        default=int(THRESHOLDS["code_runs"]),
        description="From how many codes in a row of zeros, or of one sign, on an FP8 weight is found.",
    )
    small_codes: Share = Field(
        default=THRESHOLDS["small_codes"], description="The share of small codes that 4 KiB of an FP8 weight may have."
    )


class Allowed(BaseModel):
    """What is no fault although a rule would say so."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    families: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Model families that pass; any of them where this is absent."
    )
    unexpected: tuple[Glob, ...] = Field(
        default=(),
        max_length=10_000,
        description="Globs of tensors that the config does not imply and that are allowed all the same.",
    )


class WaiverRule(BaseModel):
    """Findings that do not gate, for a reason and until a date. Of tensor, file and field, each one given must match.

    A finding is waived where every member it has is covered.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        defer_build=True,
        json_schema_extra={"anyOf": [{"required": ["tensor"]}, {"required": ["file"]}, {"required": ["field"]}]},
    )

    rule: str = Field(strict=True, min_length=1, description="The rule's id or slug.")
    tensor: Glob | None = Field(default=None, description="A glob of tensor names; {a-b} is every integer from a to b.")
    file: Glob | None = Field(default=None, description="A glob of file paths within the checkpoint.")
    field: Glob | None = Field(default=None, description="A glob of config.json fields, or of counted components.")
    reason: str = Field(
        strict=True, min_length=1, max_length=2000, pattern=r"\S", description="Why these findings are acceptable."
    )
    expires: Annotated[date, Field(strict=True)] = Field(
        description="The last day, in UTC, on which it waives; a TOML date without quotes."
    )
    owner: str | None = Field(
        default=None, strict=True, min_length=1, max_length=200, description="Who answers for it."
    )

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if self.tensor is None and self.file is None and self.field is None:
            raise ValueError("names nothing to waive: give a glob as tensor, file or field")
        return self


class Policy(BaseModel):
    """A policy file (TOML), named on the command line and never discovered inside a checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    severity: dict[str, Severity] = Field(
        default_factory=dict, description="The severity of a rule, by its id or slug, in place of its own."
    )
    require: Required = Field(default_factory=Required)
    allow: Allowed = Field(default_factory=Allowed)
    thresholds: Thresholds = Field(default_factory=Thresholds)
    waivers: tuple[WaiverRule, ...] = Field(default=(), max_length=10_000)
    limits: Limits = Field(default_factory=Limits)
    symlinks: Literal["follow", "inside"] = Field(
        default="follow",
        description="'follow' lists symlinks that leave the checkpoint and its hub cache as info; "
        "'inside' makes them errors and does not read them.",
    )


# Defaults need no validation, so the schema is built only where a policy file is read.
DEFAULT_LIMITS = Limits.model_construct()
DEFAULT_THRESHOLDS = Thresholds.model_construct()
DEFAULT_POLICY = Policy.model_construct(
    limits=DEFAULT_LIMITS,
    require=Required.model_construct(),
    allow=Allowed.model_construct(),
    thresholds=DEFAULT_THRESHOLDS,
)
