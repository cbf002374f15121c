"""The rules of config.json of MiMo-V2.5-Pro and MiMo-V2.5, whose towers stand in vision_config and audio_config.

Sources: the released config.json of both.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from auditor_schemas.config import Cardinal, Dimension, Flag, ModelConfig, QuantizationConfig

Choices = Annotated[tuple[Literal[0, 1], ...], Field(fail_fast=True, max_length=1 << 16)]
Count = Annotated[int, Field(strict=True, ge=1, le=1 << 10)]


def _number(written: Any) -> Any:
    """A number that is written as a string, as the releases have it."""
    return int(written) if isinstance(written, str) and written.isdecimal() and len(written) < 9 else written


class MimoVision(BaseModel):
    """vision_config: the fields that the vision tower's shapes follow from."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    depth: Count
    hidden_size: Dimension
    intermediate_size: Dimension
    out_hidden_size: Dimension
    num_heads: Dimension
    num_key_value_heads: Dimension
    in_chans: Dimension
    patch_size: Dimension
    temporal_patch_size: Dimension
    spatial_merge_size: Dimension
    use_sink: Flag = False
    vit_window_attn_types: Annotated[
        Annotated[tuple[Literal[-1, 0, 1], ...], Field(fail_fast=True, max_length=1 << 10)],
        Field(description="Of each block: -1 attends to everything, 0 and 1 to windows."),
    ]


class MimoAudio(BaseModel):
    """audio_config: the fields that the audio encoder's shapes follow from."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    audio_channels: Count
    speech_vocab_size: Annotated[Dimension, BeforeValidator(_number)]
    input_local_layers: Count
    input_local_dim: Dimension
    input_local_attn_heads: Dimension
    input_local_head_dim: Dimension
    input_local_intermediate_size: Dimension
    add_post_norm: Flag = True
    group_size: Dimension
    projection_layers: Literal[2]
    out_hidden_size: Dimension


class MimoV2Config(ModelConfig):
    """config.json of the MiMo-V2.5 layout. Fields that begin with swa_ are of layers with a sliding window."""

    quantization_config: QuantizationConfig | None = None
    num_nextn_predict_layers: Annotated[
        Cardinal | None, Field(description="MTP modules. The releases lack it, and have three.")
    ] = None

    attention_projection_layout: Annotated[
        Literal["fused_qkv"], Field(description="The names of another layout are not known.")
    ]
    attention_bias: Annotated[Literal[False], Field(description="No release has a bias.")] = False
    hybrid_layer_pattern: Annotated[Choices, Field(description="Of each layer: 1 has a sliding window.")]
    num_key_value_heads: Dimension
    head_dim: Dimension
    v_head_dim: Dimension
    swa_num_attention_heads: Dimension
    swa_num_key_value_heads: Dimension
    swa_head_dim: Dimension
    swa_v_head_dim: Dimension
    add_full_attention_sink_bias: Flag = False
    add_swa_attention_sink_bias: Flag = False

    intermediate_size: Dimension
    moe_intermediate_size: Dimension
    moe_layer_freq: Annotated[Choices, Field(description="Of each layer: 1 has experts.")]
    n_routed_experts: Dimension
    n_shared_experts: Annotated[None, Field(description="No release has a shared expert.")] = None
    num_experts_per_tok: Dimension
    topk_method: Literal["noaux_tc", "greedy"] = "noaux_tc"

    vision_config: MimoVision | None = None
    audio_config: MimoAudio | None = None

    @property
    def mtp_modules(self) -> int:
        """The number of MTP modules."""
        return 3 if self.num_nextn_predict_layers is None else self.num_nextn_predict_layers

    @property
    def mtp_told(self) -> str:
        """The field, or that there is none."""
        told = super().mtp_told
        return f"{told} where it is absent" if self.num_nextn_predict_layers is None else told

    @property
    def routed_experts(self) -> int | None:
        """Routed experts of an MoE layer."""
        return self.n_routed_experts

    @property
    def experts_per_token(self) -> int | None:
        """The routed experts that a token goes to."""
        return self.num_experts_per_tok

    def is_sliding(self, layer: int) -> bool:
        """Whether a layer's attention has a sliding window. That of MTP modules has, and no list says so."""
        return layer >= self.num_hidden_layers or self.hybrid_layer_pattern[layer] == 1

    def is_moe(self, layer: int) -> bool:
        """Whether a layer's MLP is a mixture of experts. That of MTP modules is not."""
        return layer < self.num_hidden_layers and self.moe_layer_freq[layer] == 1

    def gaps(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; lists have an entry for each layer or block."""
        yield from super().gaps()
        for name in ("hybrid_layer_pattern", "moe_layer_freq"):
            counted = len(getattr(self, name))
            if counted != self.num_hidden_layers:
                yield name, counted, f"{self.num_hidden_layers} entries long, one for each layer"
        vision = self.vision_config
        if vision is not None and len(vision.vit_window_attn_types) != vision.depth:
            counted = len(vision.vit_window_attn_types)
            yield "vision_config.vit_window_attn_types", counted, f"{vision.depth} entries long, one for each block"

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; a token goes to experts that there are, and towers give what the model reads."""
        yield from super().contradictions()
        if self.num_experts_per_tok > self.n_routed_experts:
            yield "num_experts_per_tok", self.num_experts_per_tok, f"at most n_routed_experts ({self.n_routed_experts})"
        for name in ("vision_config", "audio_config"):
            tower = getattr(self, name)
            if tower is not None and tower.out_hidden_size != self.hidden_size:
                needed = f"the same as hidden_size ({self.hidden_size})"
                yield f"{name}.out_hidden_size", tower.out_hidden_size, needed
