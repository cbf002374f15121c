"""config.json of DeepSeek-V4.1-Flash: text_config is V4's with tables of n-grams, vision_config the tower's.

Sources: the released config.json.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from auditor_schemas.config import Dimension, QuantizationConfig
from auditor_schemas.configs.deepseek_v4 import DeepseekV4Config, ExpertDtype, Schedule

# The tables of the release have 384 million rows.
TableRows = Annotated[int, Field(strict=True, ge=1, le=1 << 29)]


class DeepseekV41Quantization(QuantizationConfig):
    """FP8 blocks, and the format of routed experts beside them."""

    expert_dtype: ExpertDtype | None = None


class DeepseekV41Vision(BaseModel):
    """vision_config: the fields that the tower's shapes follow from."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    num_hidden_layers: Annotated[int, Field(strict=True, ge=1, le=1 << 10)]
    hidden_size: Dimension
    intermediate_size: Dimension
    patch_size: Dimension
    downsample_ratio: Dimension


class DeepseekV41Config(DeepseekV4Config):
    """config.json of the DeepSeek-V4.1 layout."""

    quantization_config: DeepseekV41Quantization | None = None
    vision_config: Annotated[DeepseekV41Vision | None, Field(description="Absent: there is no tower.")] = None

    kv_source_layer_ids: Annotated[Schedule, Field(description="Layers that compress keys and values.")]
    index_source_layer_ids: Annotated[Schedule, Field(description="Layers that choose among them.")]

    engram_layer_ids: Schedule = ()
    engram_num_embeddings: Annotated[tuple[TableRows, ...], Field(max_length=1 << 10, fail_fast=True)] = ()
    engram_max_ngram_size: Dimension | None = None
    engram_n_heads: Dimension | None = None
    engram_head_dim: Dimension | None = None

    dspark_n_routed_experts: Annotated[Dimension | None, Field(description="Experts of each stage.")] = None
    dspark_num_experts_per_tok: Dimension | None = None

    @property
    def declared_experts(self) -> ExpertDtype | None:
        """The format of routed experts, where it is declared."""
        declared = self.quantization_config.expert_dtype if self.quantization_config is not None else None
        return declared or self.expert_dtype

    @property
    def has_draft_heads(self) -> bool:
        """Whether the MTP module is one of stages with draft heads at their end, as always here."""
        return True

    @property
    def engrams(self) -> dict[int, int]:
        """The rows of the table of each layer that has one."""
        return dict(zip(self.engram_layer_ids, self.engram_num_embeddings, strict=True))

    def gaps(self) -> Iterator[tuple[str, Any, str]]:
        """As V4; a table has its size, and a stage its experts."""
        yield from super().gaps()
        if len(self.engram_num_embeddings) != len(self.engram_layer_ids):
            one_each = f"one of each of engram_layer_ids ({len(self.engram_layer_ids)})"
            yield "engram_num_embeddings", f"{len(self.engram_num_embeddings)} sizes", one_each
        fields = ["engram_max_ngram_size", "engram_n_heads", "engram_head_dim"] if self.engram_layer_ids else []
        if (self.engram_max_ngram_size or 2) < 2:
            yield "engram_max_ngram_size", self.engram_max_ngram_size, "at least 2, a pair of tokens"
        if self.mtp_modules:
            fields.append("dspark_n_routed_experts")
        for field in fields:
            if getattr(self, field) is None:
                cause = "there are MTP stages" if field.startswith("dspark") else "engram_layer_ids has layers"
                yield field, None, f"given, because {cause}"

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As V4; lists of layers name layers of the main model."""
        yield from super().contradictions()
        for field in ("kv_source_layer_ids", "index_source_layer_ids", "engram_layer_ids"):
            behind = [layer for layer in getattr(self, field) if layer >= self.num_hidden_layers]
            if behind:
                yield field, behind[0], f"layers below num_hidden_layers ({self.num_hidden_layers})"
        without = [layer for layer in self.kv_source_layer_ids if not self.ratio_of(layer)]
        if without:
            yield "kv_source_layer_ids", without[0], "layers of a ratio in compress_ratios that is not 0"
        experts, share = self.dspark_n_routed_experts, self.dspark_num_experts_per_tok
        if experts is not None and share is not None and share > experts:
            yield "dspark_num_experts_per_tok", share, f"at most dspark_n_routed_experts ({experts})"
