"""The GLM-5 layout (5, 5.1, 5.2, 5.3): V3.2's, where layers may share an indexer; MTP modules keep no vocabulary.

Sources: header dumps of 5.1 and 5.2, their configs, and the modelling code in transformers.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from auditor.families import Family
from auditor.families.deepseek_v3 import SOLVED, DeepseekLayout, shown_by_presence
from auditor.families.deepseek_v32 import IndexerLayout
from auditor.families.expectations import Expectations, Row
from auditor.families.fingerprint import Fingerprint
from auditor.families.naming import Naming
from auditor.format.dtypes import Dtype
from auditor_schemas.configs.glm_moe_dsa import GlmMoeDsaConfig


class GlmLayout(IndexerLayout):
    """The rows of one GLM-5 config."""

    config: GlmMoeDsaConfig
    naming = Naming(copies={})
    norm_dtype: ClassVar[Dtype | None] = None
    key_norm_dtype: ClassVar[Dtype | None] = None

    def attention_part(self, layer: int) -> Sequence[Row]:
        """MLA, with an indexer where the layer does not share the one of a layer before it."""
        attention = self.part("attention", lambda: DeepseekLayout.attention_rows(self))
        return (*attention, *self.part("indexer", self.indexer_rows)) if self.config.has_indexer(layer) else attention

    def copy(self, name: str, component: str) -> Iterable[Row]:
        """None: the vocabulary is stored once."""
        del name, component
        return ()


def _expectations(config: GlmMoeDsaConfig) -> Expectations:
    return GlmLayout(config).expectations()


FAMILY = Family(
    name="glm-5",
    title="GLM-5, 5.1, 5.2 and 5.3",
    model_types=("glm_moe_dsa",),
    architectures=("GlmMoeDsaForCausalLM",),
    config=GlmMoeDsaConfig,
    expectations=_expectations,
    fingerprint=Fingerprint(
        ("model.layers.#.self_attn.kv_a_layernorm.weight", "model.layers.#.self_attn.indexer.k_norm.weight")
    ),
    solved=(*SOLVED, "index_n_heads", "index_head_dim"),
    shown=shown_by_presence,
)
