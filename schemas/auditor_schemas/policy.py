"""The policy file: limits that bound what a hostile checkpoint can cost, and how symlinks are treated."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(strict=True, ge=1)]


class Limits(BaseModel):
    """Upper bounds on what a checkpoint may ask the auditor to read or to hold.

    Reaching a limit makes an audit incomplete (exit 3): what lies beyond was not looked at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    config_bytes: Positive = Field(default=1 << 20, description="Size of config.json in bytes.")
    index_bytes: Positive = Field(default=256 << 20, description="Size of model.safetensors.index.json in bytes.")
    header_bytes: Positive = Field(
        default=100_000_000,
        le=100_000_000,
        description="Size of one shard's header in bytes; safetensors itself reads no more than 100,000,000.",
    )
    json_depth: Positive = Field(default=64, le=1000, description="Nesting of any JSON document.")
    json_values: Positive = Field(
        default=8_000_000, description="Values (objects, arrays, strings, numbers) in one JSON document."
    )
    tensors_per_shard: Positive = Field(default=1_000_000, description="Tensors in one shard's header.")
    name_bytes: Positive = Field(default=512, description="Length of a tensor name in UTF-8 bytes.")
    shards: Positive = Field(default=10_000, description="Shards named by the index or found in the folder.")
    files: Positive = Field(default=100_000, description="Directory entries listed at the source.")
    layers: Positive = Field(default=1_000, description="Layers, MTP modules included, a config may demand.")
    experts: Positive = Field(default=4_096, description="Routed experts per layer a config may demand.")
    expected_tensors: Positive = Field(default=2_000_000, description="Tensors in all a config may demand.")


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
