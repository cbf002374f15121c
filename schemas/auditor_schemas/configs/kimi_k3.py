"""config.json of Kimi-K3: text_config under names of its own, a vision tower as K2.5 has.

Source: the released config.json.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from auditor_schemas.config import Cardinal, Dimension, Flag, ModelConfig, QuantizationConfig
from auditor_schemas.configs.kimi_k25 import KimiVision, differing_widths

_Layers = Annotated[tuple[Dimension, ...], Field(max_length=1 << 16, fail_fast=True)]


class KimiLinearAttention(BaseModel):
    """linear_attn_config: which layers have linear attention, counted from 1, and its dimensions."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    kda_layers: _Layers
    full_attn_layers: _Layers
    num_heads: Dimension
    head_dim: Dimension
    short_conv_kernel_size: Dimension
    use_full_rank_gate: Flag = False


class KimiK3Config(ModelConfig):
    """config.json of the Kimi-K3 layout."""

    quantization_config: QuantizationConfig | None = None
    num_nextn_predict_layers: Annotated[
        int | None, Field(strict=True, ge=0, le=0, description="What an MTP module holds is not known.")
    ] = 0

    q_lora_rank: Dimension
    kv_lora_rank: Dimension
    qk_nope_head_dim: Dimension
    qk_rope_head_dim: Cardinal
    v_head_dim: Dimension
    mla_use_output_gate: Flag = False
    linear_attn_config: KimiLinearAttention
    attn_res_block_size: Annotated[
        Dimension | None, Field(description="Absent or null: no residual attention over layers.")
    ] = None

    intermediate_size: Dimension
    first_k_dense_replace: Cardinal = 0
    moe_layer_freq: Dimension = 1
    moe_intermediate_size: Dimension
    num_experts: Dimension
    num_experts_per_token: Dimension
    num_shared_experts: Dimension | None = None
    routed_expert_hidden_size: Annotated[
        Dimension | None, Field(description="Width of the latent that routed experts work in; null: the model's.")
    ] = None
    latent_moe_use_norm: Flag = False

    vision_config: Annotated[KimiVision | None, Field(description="Absent: there is no tower.")] = None

    @property
    def routed_experts(self) -> int | None:
        """Routed experts of an MoE layer."""
        return self.num_experts

    @property
    def experts_per_token(self) -> int | None:
        """The routed experts that a token goes to."""
        return self.num_experts_per_token

    def is_moe(self, layer: int) -> bool:
        """Whether a layer's MLP is a mixture of experts."""
        return layer >= self.first_k_dense_replace and layer % self.moe_layer_freq == 0

    @property
    def linear_layers(self) -> int:
        """How many layers have linear attention."""
        return len(self.linear_attn_config.kda_layers)

    def is_linear(self, layer: int) -> bool:
        """Whether a layer, counted from 0, has linear attention."""
        return layer + 1 in self.linear_attn_config.kda_layers

    def gaps(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; each layer has one kind of attention."""
        yield from super().gaps()
        linear, full = self.linear_attn_config.kda_layers, self.linear_attn_config.full_attn_layers
        listed = [*linear, *full]
        if len(listed) > len(set(listed)) or set(listed) != set(range(1, self.num_hidden_layers + 1)):
            each = f"with full_attn_layers each of 1 to num_hidden_layers ({self.num_hidden_layers}) once"
            yield "linear_attn_config.kda_layers", f"{len(linear)} layers, {len(full)} others", each

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; a token goes to some of the experts, and the tower gives what the model reads."""
        yield from super().contradictions()
        if self.num_experts_per_token > self.num_experts:
            yield "num_experts_per_token", self.num_experts_per_token, f"at most num_experts ({self.num_experts})"
        yield from differing_widths(self.vision_config, self.hidden_size)
