"""The Kimi-K2 layout: V3's, in which layers may store the frequencies of their rotary embedding.

Sources: a header dump of Kimi-K2-Instruct, and the technical report for the published figures.
"""

from collections.abc import Iterator

from auditor.families import Family, Published
from auditor.families.deepseek_v3 import SOLVED, DeepseekLayout, shown_by_presence
from auditor.families.expectations import Row
from auditor.families.fingerprint import Fingerprint
from auditor.format.dtypes import Dtype
from auditor_schemas.config import DeepseekV3Config

_FLOATS: tuple[Dtype, ...] = ("F32", "F16", "BF16")


class KimiK2Layout(DeepseekLayout):
    """The rows of one config."""

    def attention_rows(self) -> Iterator[Row]:
        """As V3. The frequencies are those of a head as wide as hidden_size would make it, and loaders ignore them."""
        yield from super().attention_rows()
        frequencies = self.config.hidden_size // self.config.num_attention_heads // 2
        if frequencies:
            name, floats = "self_attn.rotary_emb.inv_freq", _FLOATS
            yield self.plain(name, (frequencies,), "buffers", "attention", role="table", allowed=floats, optional=True)


FAMILY = Family(
    name="kimi-k2",
    title="Kimi-K2",
    model_types=("kimi_k2",),
    architectures=("DeepseekV3ForCausalLM",),
    config=DeepseekV3Config,
    expectations=lambda config: KimiK2Layout(config).expectations(),
    fingerprint=Fingerprint(("model.layers.#.self_attn.kv_a_layernorm.weight",)),
    solved=SOLVED,
    shown=shown_by_presence,
    released={
        "vocab_size": 163840, "hidden_size": 7168, "num_hidden_layers": 61, "mtp_modules": 0,
        "num_attention_heads": 64, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "attention_bias": False, "intermediate_size": 18432,
        "moe_intermediate_size": 2048, "first_k_dense_replace": 1, "moe_layer_freq": 1, "n_routed_experts": 384,
        "n_shared_experts": 1, "num_experts_per_tok": 8, "topk_method": "noaux_tc", "tie_word_embeddings": False,
    },
    published=(
        Published(
            name="main model, total", text="1 trillion", billions=1000, digits=-3, convention="main_total",
            source="the abstract of Kimi K2's technical report",
        ),
        Published(
            name="main model, activated per token", text="32 billion", billions=32, digits=0,
            convention="main_activated_without_embedding", also=("main_activated",),
            source="the abstract of Kimi K2's technical report",
        ),
    ),
)  # fmt: skip
