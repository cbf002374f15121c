"""config.json of GLM-5.3-Flash: text_config has V3.2's fields and those of linear attention, vision_config the tower's.

Source: the released config.json of the NVFP4 export; that of the FP8 release was not found.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from auditor_schemas.config import Cardinal, DeepseekV32Config, Dimension, Flag

LayerType = Literal["linear_attention", "deepseek_sparse_attention"]
IndexerType = Literal["full", "shared"]
MlpType = Literal["dense", "sparse"]


class LinearAttention(BaseModel):
    """linear_attn_config, which says again what fields beside it say."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    num_heads: Dimension | None = None
    head_dim: Dimension | None = None
    short_conv_kernel_size: Dimension | None = None
    kda_layers: Annotated[
        tuple[Cardinal, ...] | None, Field(max_length=1 << 16, fail_fast=True, description="Counted from 0.")
    ] = None


class Glm5NextVision(BaseModel):
    """vision_config: the fields that the tower's shapes follow from."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    depth: Annotated[int, Field(strict=True, ge=1, le=1 << 10)]
    hidden_size: Dimension
    intermediate_size: Dimension
    num_heads: Dimension
    in_channels: Dimension
    patch_size: Dimension
    temporal_patch_size: Dimension
    spatial_merge_size: Dimension
    out_hidden_size: Dimension
    projection_intermediate_size: Dimension
    attention_bias: Flag = False


class Glm5NextConfig(DeepseekV32Config):
    """config.json of the GLM-5.3-Flash layout."""

    qk_rope_head_dim: Annotated[Cardinal, Field(description="0: attention has no positions.")]
    layer_types: Annotated[tuple[LayerType, ...], Field(max_length=1 << 16, fail_fast=True)]
    indexer_types: Annotated[tuple[IndexerType, ...] | None, Field(max_length=1 << 16, fail_fast=True)] = None
    mlp_layer_types: Annotated[tuple[MlpType, ...] | None, Field(max_length=1 << 16, fail_fast=True)] = None
    index_kpool: Dimension | None = None
    index_kpool_compress: Flag = False

    linear_num_heads: Dimension
    linear_head_dim: Dimension
    linear_conv_kernel_dim: Dimension
    linear_attn_config: LinearAttention | None = None

    mhc: Annotated[Flag, Field(description="Layers of the main model mix several residual streams.")] = False
    hc_mult: Dimension | None = None

    vision_config: Annotated[Glm5NextVision | None, Field(description="Absent: there is no tower.")] = None

    def is_linear(self, layer: int) -> bool:
        """Whether a layer has linear attention; an MTP module has none."""
        return layer < self.num_hidden_layers and self.layer_types[layer] == "linear_attention"

    def has_indexer(self, layer: int) -> bool:
        """Whether a layer has an indexer of its own; an MTP module always has."""
        types = self.indexer_types
        return types is None or layer >= min(len(types), self.num_hidden_layers) or types[layer] == "full"

    def gaps(self) -> Iterator[tuple[str, Any, str]]:
        """As V3.2; each layer has its type, and what is asked for its size."""
        yield from super().gaps()
        if len(self.layer_types) < self.num_hidden_layers:
            needed = f"one of each layer, so num_hidden_layers ({self.num_hidden_layers})"
            yield "layer_types", f"{len(self.layer_types)} types", needed
        if not self.qk_nope_head_dim + self.qk_rope_head_dim:
            yield "qk_nope_head_dim", self.qk_nope_head_dim, "positive, because qk_rope_head_dim is 0"
        for field, asked in (("index_kpool", "index_kpool_compress"), ("hc_mult", "mhc")):
            if getattr(self, asked) and getattr(self, field) is None:
                yield field, None, f"given, because {asked} is true"
        vision = self.vision_config
        if vision is not None and vision.hidden_size % vision.num_heads:
            divisor = f"a divisor of hidden_size ({vision.hidden_size})"
            yield "vision_config.num_heads", vision.num_heads, divisor

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As V3.2; what is said twice is said alike."""
        yield from super().contradictions()
        again = self.linear_attn_config or LinearAttention()
        for field, one, other in (
            ("num_heads", again.num_heads, "linear_num_heads"),
            ("head_dim", again.head_dim, "linear_head_dim"),
            ("short_conv_kernel_size", again.short_conv_kernel_size, "linear_conv_kernel_dim"),
        ):
            if one is not None and one != getattr(self, other):
                yield f"linear_attn_config.{field}", one, f"the same as {other} ({getattr(self, other)})"
        if again.kda_layers is not None and len(self.layer_types) >= self.num_hidden_layers:
            differing = set(again.kda_layers) ^ set(filter(self.is_linear, range(self.num_hidden_layers)))
            if differing:
                of_types = "the layers that layer_types makes linear_attention"
                yield "linear_attn_config.kda_layers", f"other than layer_types at {min(differing)}", of_types
        for layer, kind in enumerate((self.mlp_layer_types or ())[: self.num_hidden_layers]):
            if (kind == "sparse") is not self.is_moe(layer):
                by_count = f"dense below first_k_dense_replace ({self.first_k_dense_replace}), sparse from there"
                yield "mlp_layer_types", f"{kind} at {layer}", by_count
                break
