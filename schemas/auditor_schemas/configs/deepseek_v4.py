"""config.json of DeepSeek-V4-Flash and -Pro, and what V4.1 has in common with them.

Sources: the released config.json of V4-Flash and V4-Pro, of the preview and of 0731 and 0813.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from auditor_schemas.config import Cardinal, Dimension, ModelConfig, QuantizationConfig

ExpertDtype = Literal["fp4", "fp8"]
# One of each layer and stage of the MTP module; far above any depth in use.
Schedule = Annotated[tuple[Cardinal, ...], Field(max_length=1 << 16, fail_fast=True)]


class DeepseekV4Config(ModelConfig):
    """config.json of the DeepSeek-V4 layout."""

    mtp_field: ClassVar[str] = "compress_ratios"

    quantization_config: QuantizationConfig | None = None
    expert_dtype: Annotated[
        ExpertDtype | None,
        Field(description="The format of routed experts. Absent from the first upload, whose experts are FP4."),
    ] = None

    num_nextn_predict_layers: Annotated[
        Cardinal | None,
        Field(description="Whether there are MTP stages: as many as compress_ratios is longer than the main model."),
    ] = 0

    head_dim: Dimension
    qk_rope_head_dim: Dimension
    q_lora_rank: Dimension
    o_groups: Dimension
    o_lora_rank: Dimension
    compress_ratios: Annotated[
        Schedule, Field(description="Per layer, MTP stages behind the main model: 0 is attention without compressor.")
    ]
    index_n_heads: Dimension
    index_head_dim: Dimension
    hc_mult: Annotated[Dimension, Field(description="Residual streams of the hyper-connections.")]

    moe_intermediate_size: Dimension
    n_routed_experts: Dimension
    n_shared_experts: Annotated[Dimension | None, Field(description="null: no shared expert.")]
    num_experts_per_tok: Dimension
    num_hash_layers: Annotated[
        Cardinal, Field(description="First layers whose router is a table from token to experts.")
    ] = 0

    dspark_block_size: Annotated[
        Dimension | None, Field(description="Absent: the MTP module is the preview's, without Markov head.")
    ] = None
    dspark_markov_rank: Dimension | None = None
    dspark_target_layer_ids: Annotated[Schedule | None, Field(description="Layers that the MTP module reads.")] = None

    @property
    def mtp_modules(self) -> int:
        """The number of MTP stages."""
        return max(0, len(self.compress_ratios) - self.num_hidden_layers) if self.num_nextn_predict_layers else 0

    @property
    def mtp_told(self) -> str:
        """The ratios, whatever num_nextn_predict_layers is beside that there are some."""
        return f"compress_ratios has {len(self.compress_ratios)} entries, {self.mtp_modules} of them for MTP"

    @property
    def routed_experts(self) -> int | None:
        """Routed experts of a layer; every layer has them."""
        return self.n_routed_experts

    @property
    def experts_per_token(self) -> int | None:
        """The routed experts that a token goes to."""
        return self.num_experts_per_tok

    @property
    def tensors(self) -> int:
        """About how many tensors the config demands."""
        return self.layer_count * (6 * self.n_routed_experts + 60)

    @property
    def declared_experts(self) -> ExpertDtype | None:
        """The format of routed experts, where it is declared."""
        return self.expert_dtype

    @property
    def experts_format(self) -> ExpertDtype:
        """The format of routed experts where weights are quantised."""
        return self.declared_experts or "fp4"

    @property
    def has_draft_heads(self) -> bool:
        """Whether the MTP module is one of stages with draft heads at their end, and not the preview's."""
        return self.dspark_block_size is not None

    @property
    def main_ratios(self) -> tuple[int, ...]:
        """The ratios of the main model's layers."""
        return self.compress_ratios[: self.num_hidden_layers]

    def ratio_of(self, layer: int) -> int:
        """The ratio of a layer; 0 where none is given."""
        return self.compress_ratios[layer] if layer < len(self.compress_ratios) else 0

    def readings(self) -> Iterator[Self]:
        """As every family, and with either format of experts where none is declared."""
        plain = tuple(super().readings())
        if self.quantization_config is None or self.declared_experts is not None:
            yield from plain
            return
        for reading in plain or (self,):
            for each in ("fp4", "fp8"):
                yield reading.model_copy(update={"expert_dtype": each})

    def gaps(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; each layer has its ratio, and heads are divided into groups."""
        yield from super().gaps()
        if len(self.compress_ratios) < self.num_hidden_layers:
            least = f"one of each layer, so at least num_hidden_layers ({self.num_hidden_layers})"
            yield "compress_ratios", f"{len(self.compress_ratios)} ratios", least
        if self.num_attention_heads * self.head_dim % self.o_groups:
            width = self.num_attention_heads * self.head_dim
            yield "o_groups", self.o_groups, f"a divisor of num_attention_heads × head_dim ({width})"
        if self.has_draft_heads and self.mtp_modules:
            for field in ("dspark_markov_rank", "dspark_target_layer_ids"):
                if not getattr(self, field):
                    yield field, getattr(self, field), "given, because MTP stages have draft heads"

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; routing and the schedules have needs of their own."""
        yield from super().contradictions()
        if self.num_nextn_predict_layers and len(self.compress_ratios) == self.num_hidden_layers:
            longer = (
                f"longer than num_hidden_layers ({self.num_hidden_layers}), because num_nextn_predict_layers is given"
            )
            yield "compress_ratios", f"{len(self.compress_ratios)} ratios", longer
        if self.qk_rope_head_dim % 2:
            yield "qk_rope_head_dim", self.qk_rope_head_dim, "even, because rotary embedding turns pairs"
        if self.qk_rope_head_dim > self.head_dim:
            yield "qk_rope_head_dim", self.qk_rope_head_dim, f"at most head_dim ({self.head_dim})"
        if self.num_experts_per_tok > self.n_routed_experts:
            most = f"at most n_routed_experts ({self.n_routed_experts})"
            yield "num_experts_per_tok", self.num_experts_per_tok, most
        if self.num_hash_layers > self.num_hidden_layers:
            yield "num_hash_layers", self.num_hash_layers, f"at most num_hidden_layers ({self.num_hidden_layers})"
