"""The rules of config.json of MiniMax-M2 and its successors up to M2.7.

Sources: the released config.json of M2.7, and the configuration class in transformers.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from auditor_schemas.config import Dimension, Flag
from auditor_schemas.configs.grouped_query import GroupedQueryConfig


class MinimaxM2Config(GroupedQueryConfig):
    """config.json of the MiniMax-M2 layout. What it says of MTP modules no release stores."""

    intermediate_size: Annotated[Dimension, Field(description="Of an expert: there is no other MLP.")]
    num_local_experts: Dimension
    shared_intermediate_size: Annotated[
        int, Field(strict=True, ge=0, le=0, description="No release has a shared expert, and its names are not known.")
    ] = 0
    use_routing_bias: Flag = True
    use_qk_norm: Flag = True
    qk_norm_type: Annotated[Literal["per_layer"], Field(description="One norm over all heads of a layer together.")] = (
        "per_layer"
    )
    attn_type_list: Annotated[
        Annotated[tuple[Literal[1], ...], Field(fail_fast=True, max_length=1 << 16)] | None,
        Field(description="1, full attention, of each layer: the layers of no other kind are known."),
    ] = None

    @property
    def routed_experts(self) -> int | None:
        """Routed experts of a layer."""
        return self.num_local_experts

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; the list of attentions has an entry for each layer."""
        yield from super().contradictions()
        if self.attn_type_list is not None and len(self.attn_type_list) != self.num_hidden_layers:
            counted = len(self.attn_type_list)
            yield "attn_type_list", counted, f"{self.num_hidden_layers} entries long, one for each layer"
