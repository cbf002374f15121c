"""The policy file: limits that bound what a hostile checkpoint can cost, and how symlinks are treated."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from auditor_schemas.defaults import LIMITS

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
    json_depth: Positive = Field(default=LIMITS["json_depth"], le=1000, description="Nesting of any JSON document.")
    json_values: Positive = Field(
        default=LIMITS["json_values"], description="Values (objects, arrays, strings, numbers) in one JSON document."
    )
    tensors_per_shard: Positive = Field(
        default=LIMITS["tensors_per_shard"], description="Tensors in one shard's header."
    )
    tensors: Positive = Field(default=LIMITS["tensors"], description="Tensors in all shards together.")
    name_bytes: Positive = Field(default=LIMITS["name_bytes"], description="Length of a tensor name in UTF-8 bytes.")
    shards: Positive = Field(default=LIMITS["shards"], description="Shards named by the index or found in the folder.")
    files: Positive = Field(default=LIMITS["files"], description="Directory entries listed at the source.")
    layers: Positive = Field(default=LIMITS["layers"], description="Layers a config may demand, MTP modules included.")
    experts: Positive = Field(default=LIMITS["experts"], description="Routed experts per layer a config may demand.")
    expected_tensors: Positive = Field(
        default=LIMITS["expected_tensors"], description="Tensors a config may demand in all."
    )


class Policy(BaseModel):
    """A policy file (TOML), named on the command line and never discovered inside a checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    limits: Limits = Field(default_factory=Limits)
    symlinks: Literal["follow", "inside"] = Field(
        default="follow",
        description="'follow' lists symlinks that leave the checkpoint and its hub cache as info; "
        "'inside' makes them errors and does not read them.",
    )


# Defaults need no validation, so the schema is built only where a policy file is read.
DEFAULT_LIMITS = Limits.model_construct()
DEFAULT_POLICY = Policy.model_construct(limits=DEFAULT_LIMITS)
