"""The DeepSeek-V3.2 layout: V3 with a sparse-attention indexer in every layer, and F32 norms."""

from collections.abc import Iterator
from typing import ClassVar

from auditor.families import Family
from auditor.families.deepseek_v3 import SOLVED, DeepseekLayout, shown_by_presence
from auditor.families.expectations import Expectations, Row
from auditor.families.fingerprint import Fingerprint
from auditor.format.dtypes import Dtype
from auditor_schemas.config import DeepseekV32Config


class IndexerLayout(DeepseekLayout):
    """The rows of one V3.2 config."""

    config: DeepseekV32Config
    norm_dtype: ClassVar[Dtype | None] = "F32"
    key_norm_dtype: ClassVar[Dtype | None] = "F32"

    def attention_rows(self) -> Iterator[Row]:
        """MLA and the indexer, whose key norm is a LayerNorm with a bias."""
        yield from super().attention_rows()
        yield from self.indexer_rows()

    def indexer_rows(self) -> Iterator[Row]:
        """The indexer, which scores the tokens that attention may look at."""
        c = self.config
        assert c.q_lora_rank is not None
        prefix, module = "self_attn.indexer", "indexer"
        yield from self.linear(f"{prefix}.wq_b", c.index_n_heads * c.index_head_dim, c.q_lora_rank, module, module)
        yield from self.linear(f"{prefix}.wk", c.index_head_dim, c.hidden_size, module, module)
        for part in ("weight", "bias"):
            name = f"{prefix}.k_norm.{part}"
            dtype = self.key_norm_dtype or self.float_dtype
            allowed = self.cast_from(dtype, () if dtype == "F32" else ("F32",))
            yield self.plain(name, (c.index_head_dim,), module, module, role="norm", dtype=dtype, allowed=allowed)
        name, shape = f"{prefix}.weights_proj.weight", (c.index_n_heads, c.hidden_size)
        yield self.plain(name, shape, module, module, allowed=("F32",))


def _expectations(config: DeepseekV32Config) -> Expectations:
    return IndexerLayout(config).expectations()


FAMILY = Family(
    name="deepseek-v3.2",
    title="DeepSeek-V3.2",
    model_types=("deepseek_v32",),
    architectures=("DeepseekV32ForCausalLM",),
    config=DeepseekV32Config,
    expectations=_expectations,
    fingerprint=Fingerprint(
        ("model.layers.#.self_attn.kv_a_layernorm.weight", "model.layers.#.self_attn.indexer.k_norm.weight")
    ),
    solved=(*SOLVED, "index_n_heads", "index_head_dim"),
    shown=shown_by_presence,
)
