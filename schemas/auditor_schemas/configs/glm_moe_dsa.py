"""The rules of config.json of GLM-5, 5.1, 5.2 and 5.3: V3.2's fields, and which layers have an indexer of their own.

Sources: the released config.json of each, and the configuration class in transformers.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from auditor_schemas.config import Cardinal, DeepseekV32Config, Dimension

IndexerTypes = Annotated[tuple[Literal["full", "shared"], ...], Field(fail_fast=True, max_length=1 << 16)]
MlpTypes = Annotated[tuple[Literal["dense", "sparse"], ...], Field(fail_fast=True, max_length=1 << 16)]
_LETTERS = {"F": "full", "S": "shared"}


class GlmMoeDsaConfig(DeepseekV32Config):
    """config.json of the GLM-5 layout."""

    first_k_dense_replace: Cardinal = 3
    mlp_layer_types: Annotated[
        MlpTypes | None, Field(description="The MLP of each main layer, once more beside first_k_dense_replace.")
    ] = None
    indexer_types: Annotated[
        IndexerTypes | None,
        Field(description="Of each main layer: 'full' has an indexer, 'shared' goes by that of a layer before it."),
    ] = None
    index_topk_pattern: Annotated[
        Annotated[str, Field(strict=True, pattern="^[FS]+$", max_length=1 << 16)] | IndexerTypes | None,
        Field(description="Where indexer_types is absent: the same as one letter a layer, F or S, or as a list."),
    ] = None
    index_topk_freq: Annotated[
        Dimension, Field(description="Where both are absent: every so many layers there is an indexer.")
    ] = 1
    index_skip_topk_offset: Annotated[
        Cardinal, Field(description="With index_topk_freq: so many layers at the beginning all have one.")
    ] = 2

    @property
    def schedule(self) -> tuple[str, tuple[str, ...]] | None:
        """The list of indexers that is given, with its field's name."""
        if self.indexer_types is not None:
            return "indexer_types", self.indexer_types
        if self.index_topk_pattern is not None:
            return "index_topk_pattern", tuple(_LETTERS.get(each, each) for each in self.index_topk_pattern)
        return None

    def has_indexer(self, layer: int) -> bool:
        """Whether a layer has an indexer of its own. MTP modules have, and no list says so."""
        if layer >= self.num_hidden_layers:
            return True
        if self.schedule is not None:
            return self.schedule[1][layer] == "full"
        return max(layer - self.index_skip_topk_offset + 1, 0) % self.index_topk_freq == 0

    def gaps(self) -> Iterator[tuple[str, Any, str]]:
        """As V3.2; a list has an entry for each layer."""
        yield from super().gaps()
        if self.schedule is not None and len(self.schedule[1]) != self.num_hidden_layers:
            yield self.schedule[0], len(self.schedule[1]), f"{self.num_hidden_layers} entries long, one for each layer"

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As V3.2; what lists say twice agrees."""
        yield from super().contradictions()
        if self.mlp_layer_types is None:
            return
        if len(self.mlp_layer_types) != self.num_hidden_layers:
            counted = len(self.mlp_layer_types)
            yield "mlp_layer_types", counted, f"{self.num_hidden_layers} entries long, one for each layer"
            return
        for layer, kind in enumerate(self.mlp_layer_types):
            if (kind == "sparse") != self.is_moe(layer):
                other = "sparse" if self.is_moe(layer) else "dense"
                yield f"mlp_layer_types.{layer}", kind, f"{other}, as first_k_dense_replace and moe_layer_freq have it"
                return
