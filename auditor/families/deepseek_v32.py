"""The DeepSeek-V3.2 layout: V3 with a sparse-attention indexer in every layer, and F32 norms."""

from collections.abc import Iterator

from auditor.families import Family
from auditor.families.deepseek_v3 import Layout
from auditor.families.expectations import Expectations, Row
from auditor.format.dtypes import Dtype
from auditor_schemas.config import DeepseekV32Config


class IndexerLayout(Layout):
    """The rows of one V3.2 config."""

    norm_dtype: Dtype | None = "F32"

    def __init__(self, config: DeepseekV32Config) -> None:
        super().__init__(config)
        self.indexer = config

    def attention_rows(self) -> Iterator[Row]:
        """MLA and the indexer, whose key norm is a LayerNorm with a bias."""
        yield from super().attention_rows()
        c = self.indexer
        assert c.q_lora_rank is not None
        prefix, module = "self_attn.indexer", "indexer"
        yield from self.linear(f"{prefix}.wq_b", c.index_n_heads * c.index_head_dim, c.q_lora_rank, module, module)
        yield from self.linear(f"{prefix}.wk", c.index_head_dim, c.hidden_size, module, module)
        yield self.norm(f"{prefix}.k_norm", c.index_head_dim, module, component=module)
        yield Row(f"{prefix}.k_norm.bias", (c.index_head_dim,), "F32", module, module, "norm")
        yield self.plain(f"{prefix}.weights_proj", (c.index_n_heads, c.hidden_size), module, module)


def _expectations(config: DeepseekV32Config) -> Expectations:
    return IndexerLayout(config).expectations()


FAMILY = Family(
    name="deepseek-v3.2",
    title="DeepSeek-V3.2",
    model_types=("deepseek_v32",),
    architectures=("DeepseekV32ForCausalLM",),
    config=DeepseekV32Config,
    expectations=_expectations,
)
