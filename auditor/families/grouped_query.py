"""What layouts with grouped-query attention have in common: the vocabulary, the norms of a layer, the attention."""

from collections.abc import Iterator
from typing import TypeVar

from auditor.families.expectations import Row
from auditor.families.layout import Layout
from auditor_schemas.configs.grouped_query import GroupedQueryConfig

_Config = TypeVar("_Config", bound=GroupedQueryConfig)

# Fields that shapes show; every dimension is linear in each of them alone.
SOLVED = ("vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim")


class GroupedQueryLayout(Layout[_Config]):
    """The rows of one config, but for those of its experts."""

    def top_rows(self) -> Iterator[Row]:
        """The tensors outside the layers. A tied head is not stored."""
        config = self.config
        vocabulary = (config.vocab_size, config.hidden_size)
        yield self.plain(
            self.naming.embedding, vocabulary, "embedding", "embedding", role="vocabulary", split=0, top=True
        )
        yield self.norm("model.norm", config.hidden_size, "norms", top=True)
        if not config.tie_word_embeddings:
            yield self.plain(self.naming.head, vocabulary, "head", "head", role="vocabulary", split=0, top=True)

    def norm_rows(self) -> Iterator[Row]:
        """The two norms of a layer."""
        yield self.norm("input_layernorm", self.config.hidden_size, "norms")
        yield self.norm("post_attention_layernorm", self.config.hidden_size, "norms")

    def projection_rows(self, *, bias: bool = False) -> Iterator[Row]:
        """Queries, keys, values and the output, as four projections."""
        c, module = self.config, "attention"
        width, queries = c.hidden_size, c.num_attention_heads * c.head_width
        keys = c.num_key_value_heads * c.head_width
        for name, out in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            yield from self.linear(f"self_attn.{name}", out, width, module, module, split=0, bias=bias)
        yield from self.linear("self_attn.o_proj", width, queries, module, module, split=1, bias=bias)
