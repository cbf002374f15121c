"""The checkpoint index, model.safetensors.index.json."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class IndexMetadata(BaseModel):
    """`total_size`: payload bytes by the hub's convention; the official releases store 2 × the element count."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    total_size: Annotated[int, Field(ge=0)] | None = None


class CheckpointIndex(BaseModel):
    """Which shard holds which tensor. `weight_map` maps tensor names to paths relative to the checkpoint."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    metadata: IndexMetadata | None = None
    weight_map: dict[str, str]
