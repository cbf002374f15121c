"""The MiniMax-M2 layout, up to M2.7: grouped-query attention, experts in every layer, and no MTP module.

Sources: a header dump of M2.7, its config, and the modelling code in transformers.
"""

from collections.abc import Iterator, Sequence

from auditor.families import Family
from auditor.families.expectations import Row
from auditor.families.fingerprint import Fingerprint
from auditor.families.grouped_query import SOLVED, GroupedQueryLayout
from auditor.families.naming import Naming
from auditor_schemas.configs.minimax_m2 import MinimaxM2Config


class MinimaxM2Layout(GroupedQueryLayout[MinimaxM2Config]):
    """The rows of one config."""

    naming = Naming(experts="block_sparse_moe.experts.", copies={})

    def layer_rows(self, layer: int) -> Sequence[Row]:
        """A layer; all are alike."""
        del layer
        return (
            *self.part("attention", self.attention_rows),
            *self.part("experts", self.expert_rows),
            *self.part("norms", self.norm_rows),
        )

    def attention_rows(self) -> Iterator[Row]:
        """Grouped-query attention; a norm covers all heads of a layer together."""
        c = self.config
        yield from self.projection_rows()
        if c.use_qk_norm:
            yield self.norm("self_attn.q_norm", c.num_attention_heads * c.head_width, "attention")
            yield self.norm("self_attn.k_norm", c.num_key_value_heads * c.head_width, "attention")

    def expert_rows(self) -> Iterator[Row]:
        """Router and experts: w1 is the gate, w3 goes up, w2 down."""
        c = self.config
        width, inner, experts = c.hidden_size, c.intermediate_size, c.num_local_experts
        stem, module = "block_sparse_moe", "experts"
        gate = f"{stem}.gate.weight"
        yield self.plain(gate, (experts, width), "router", "router", dtype="F32", allowed=(self.float_dtype,))
        if c.use_routing_bias:
            bias = f"{stem}.e_score_correction_bias"
            yield self.plain(bias, (experts,), "router_bias", "router", role="router_bias", dtype="F32")
        for name, rows, columns, split in (("w1", inner, width, 0), ("w2", width, inner, 1), ("w3", inner, width, 0)):
            expert = f"{stem}.experts.{{expert}}.{name}"
            yield from self.linear(expert, rows, columns, "routed_experts", module, split=split, experts=experts)


FAMILY = Family(
    name="minimax-m2",
    title="MiniMax-M2 up to M2.7",
    model_types=("minimax_m2",),
    architectures=("MiniMaxM2ForCausalLM",),
    config=MinimaxM2Config,
    expectations=lambda config: MinimaxM2Layout(config).expectations(),
    fingerprint=Fingerprint(("model.layers.#.block_sparse_moe.e_score_correction_bias",)),
    solved=(*SOLVED, "intermediate_size", "num_local_experts"),
    experts_field="num_local_experts",
)
