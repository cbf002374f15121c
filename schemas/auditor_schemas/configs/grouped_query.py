"""What config.json of families with grouped-query attention and routed experts has in common."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import Field

from auditor_schemas.config import Dimension, ModelConfig, QuantizationConfig


class GroupedQueryConfig(ModelConfig):
    """Heads of queries that share those of keys and values, and experts in FP8 blocks or as floats."""

    quantization_config: QuantizationConfig | None = None
    num_key_value_heads: Dimension
    head_dim: Annotated[
        Dimension | None, Field(description="Absent or null: hidden_size divided by num_attention_heads.")
    ] = None
    num_experts_per_tok: Dimension

    @property
    def head_width(self) -> int:
        """The width of a head of queries or keys."""
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def experts_per_token(self) -> int | None:
        """The routed experts that a token goes to."""
        return self.num_experts_per_tok

    def gaps(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; heads have a width."""
        yield from super().gaps()
        if self.head_width < 1:
            yield "head_dim", self.head_dim, "given, because hidden_size is less than num_attention_heads"

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; heads of keys are shared evenly, and a token goes to experts that there are."""
        yield from super().contradictions()
        if self.num_attention_heads % self.num_key_value_heads:
            heads = self.num_attention_heads
            yield "num_key_value_heads", self.num_key_value_heads, f"a divisor of num_attention_heads ({heads})"
        if self.routed_experts is not None and self.num_experts_per_tok > self.routed_experts:
            yield "num_experts_per_tok", self.num_experts_per_tok, f"at most the {self.routed_experts} experts"
