"""The rules of config.json of Qwen3-MoE.

Sources: the released config.json of two FP8 releases, and the configuration class in transformers.
"""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from auditor_schemas.config import Cardinal, Dimension, Flag
from auditor_schemas.configs.grouped_query import GroupedQueryConfig

Layers = Annotated[tuple[Cardinal, ...], Field(fail_fast=True, max_length=1 << 16)]


class Qwen3MoeConfig(GroupedQueryConfig):
    """config.json of the Qwen3-MoE layout."""

    attention_bias: Flag = False
    intermediate_size: Annotated[Dimension, Field(description="Of the MLP of a dense layer, if there is one.")]
    moe_intermediate_size: Dimension
    num_experts: Dimension
    decoder_sparse_step: Annotated[
        Dimension, Field(description="Experts stand in every so many layers, in the last of so many.")
    ] = 1
    mlp_only_layers: Annotated[Layers | None, Field(description="Layers that are dense all the same.")] = None

    @property
    def routed_experts(self) -> int | None:
        """Routed experts of an MoE layer."""
        return self.num_experts

    def is_moe(self, layer: int) -> bool:
        """Whether a layer's MLP is a mixture of experts, by the reference code's condition."""
        return layer not in (self.mlp_only_layers or ()) and (layer + 1) % self.decoder_sparse_step == 0

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; layers that are dense are layers of the model."""
        yield from super().contradictions()
        for layer in self.mlp_only_layers or ():
            if layer >= self.num_hidden_layers:
                yield "mlp_only_layers", layer, f"layers below num_hidden_layers ({self.num_hidden_layers})"
                return
