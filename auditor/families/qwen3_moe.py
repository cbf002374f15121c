"""The Qwen3-MoE layout: grouped-query attention, a norm for each head, and experts beside dense layers.

Sources: a header dump of Qwen3-30B-A3B-FP8, the model card of Qwen3-30B-A3B for the published figures, two configs, and
the modelling code in transformers.
"""

from collections.abc import Iterator, Sequence

from auditor.families import Family, Published
from auditor.families.expectations import Row
from auditor.families.fingerprint import Fingerprint
from auditor.families.grouped_query import SOLVED, GroupedQueryLayout
from auditor.families.naming import Naming
from auditor.families.scaling import Quantiser, fp8_blocks
from auditor_schemas.configs.qwen3_moe import Qwen3MoeConfig


class Qwen3MoeLayout(GroupedQueryLayout[Qwen3MoeConfig]):
    """The rows of one config."""

    naming = Naming(copies={})

    def quantiser(self) -> Quantiser | None:
        """FP8 blocks, whose scales the releases store as BF16; other writers keep them in F32."""
        quantization = self.config.quantization_config
        if quantization is None or quantization.weight_block_size is None:
            return None
        powers = quantization.scale_fmt == "ue8m0"
        return fp8_blocks(quantization.weight_block_size, dtypes=("BF16", "F32"), powers_of_two=powers)

    def layer_rows(self, layer: int) -> Sequence[Row]:
        """A layer, with experts or dense."""
        mlp = self.part("moe", self.moe_rows) if self.config.is_moe(layer) else self.part("dense", self.dense_rows)
        return (*self.part("attention", self.attention_rows), *mlp, *self.part("norms", self.norm_rows))

    def attention_rows(self) -> Iterator[Row]:
        """Grouped-query attention; each head of queries and keys is normed by itself."""
        yield from self.projection_rows(bias=self.config.attention_bias)
        yield self.norm("self_attn.q_norm", self.config.head_width, "attention")
        yield self.norm("self_attn.k_norm", self.config.head_width, "attention")

    def dense_rows(self) -> Iterator[Row]:
        """The MLP of a dense layer."""
        yield from self.mlp("mlp", self.config.intermediate_size, "dense_mlp", "dense_mlp")

    def moe_rows(self) -> Iterator[Row]:
        """Router and experts."""
        c = self.config
        yield self.plain("mlp.gate.weight", (c.num_experts, c.hidden_size), "router", "router")
        inner, experts = c.moe_intermediate_size, c.num_experts
        yield from self.mlp("mlp.experts.{expert}", inner, "routed_experts", "experts", experts=experts)

    def mlp(self, prefix: str, inner: int, component: str, module: str, *, experts: int = 0) -> Iterator[Row]:
        """A gated MLP of an inner dimension."""
        width = self.config.hidden_size
        yield from self.linear(f"{prefix}.gate_proj", inner, width, component, module, split=0, experts=experts)
        yield from self.linear(f"{prefix}.up_proj", inner, width, component, module, split=0, experts=experts)
        yield from self.linear(f"{prefix}.down_proj", width, inner, component, module, split=1, experts=experts)


FAMILY = Family(
    name="qwen3-moe",
    title="Qwen3-MoE",
    model_types=("qwen3_moe",),
    architectures=("Qwen3MoeForCausalLM",),
    config=Qwen3MoeConfig,
    expectations=lambda config: Qwen3MoeLayout(config).expectations(),
    fingerprint=Fingerprint(
        ("model.layers.#.self_attn.q_norm.weight", "model.layers.#.mlp.gate.weight"),
        lacks=("model.layers.#.mlp.gate.e_score_correction_bias", "model.layers.#.mlp.shared_expert_gate.weight"),
    ),
    solved=(*SOLVED, "intermediate_size", "moe_intermediate_size", "num_experts"),
    experts_field="num_experts",
    released={
        "vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_width": 128, "attention_bias": False, "moe_intermediate_size": 768,
        "decoder_sparse_step": 1, "mlp_only_layers": (), "num_experts": 128, "num_experts_per_tok": 8,
        "tie_word_embeddings": False,
    },
    published=(
        Published(
            name="main model, total", text="30.5B", billions=30.5, digits=1, convention="main_total",
            source="the model card of Qwen3-30B-A3B",
        ),
        Published(
            name="main model, activated per token", text="3.3B", billions=3.3, digits=1, convention="main_activated",
            also=("main_activated_without_embedding",), source="the model card of Qwen3-30B-A3B",
            note="no convention rounds to 3.3B; the count with both vocabulary matrices is cut off so",
        ),
    ),
)  # fmt: skip
