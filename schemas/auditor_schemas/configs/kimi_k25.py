"""config.json of Kimi-K2.5, K2.6 and K2.7, and the vision tower that they have in common with K3.

Sources: the released config.json of K2.5 and K3.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from auditor_schemas.config import DeepseekV3Config, Dimension, Flag


class KimiVision(BaseModel):
    """vision_config: the fields that the tower's shapes follow from. What is absent is as in K2.5."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    vt_num_hidden_layers: Annotated[int, Field(strict=True, ge=1, le=1 << 10)]
    vt_hidden_size: Dimension
    vt_intermediate_size: Dimension
    qkv_hidden_size: Annotated[Dimension | None, Field(description="Width of the heads together.")] = None
    patch_size: Dimension
    init_pos_emb_height: Dimension
    init_pos_emb_width: Dimension
    attn_bias: Flag = True
    linear_bias: Flag = True
    patch_embed_proj_bias: Flag = True
    norm_type: Literal["layernorm", "rmsnorm"] = "layernorm"

    mm_projector_type: Literal["patchmerger", "patchmergerv2"] = "patchmerger"
    mm_hidden_size: Dimension
    merge_kernel_size: tuple[Dimension, Dimension]
    text_hidden_size: Dimension


class KimiK25Config(DeepseekV3Config):
    """config.json of the Kimi-K2.5 layout: V3's fields in text_config, a tower beside it."""

    vision_config: Annotated[KimiVision | None, Field(description="Absent: there is no tower.")] = None

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As V3; the tower gives what the model reads."""
        yield from super().contradictions()
        yield from differing_widths(self.vision_config, self.hidden_size)


def differing_widths(vision: KimiVision | None, width: int) -> Iterator[tuple[str, Any, str]]:
    """The tower's idea of the model's width, where it is another."""
    if vision is not None and vision.text_hidden_size != width:
        yield "vision_config.text_hidden_size", vision.text_hidden_size, f"the same as hidden_size ({width})"
