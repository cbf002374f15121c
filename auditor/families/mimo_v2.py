"""The MiMo-V2.5 layout, Pro and with towers: attention with and without a window in one tensor, experts, MTP modules.

Sources: header dumps of MiMo-V2.5-Pro and MiMo-V2.5, and their configs.
"""

from collections.abc import Iterator, Sequence

from auditor.families import Family
from auditor.families.expectations import Row
from auditor.families.fingerprint import Fingerprint
from auditor.families.layout import Layout
from auditor.families.mimo_towers import audio_rows, vision_rows
from auditor.families.naming import Naming, Stack
from auditor.families.scaling import Quantiser, fp8_blocks
from auditor_schemas.configs.mimo_v2 import MimoV2Config

# What exclusion lists call an MTP module.
_DECODER = "model.decoder."


class MimoV2Layout(Layout[MimoV2Config]):
    """The rows of one config."""

    def __init__(self, config: MimoV2Config) -> None:
        stacks = (Stack("model.layers."), Stack("model.mtp.layers.", config.num_hidden_layers))
        self.naming = Naming(stacks=stacks, copies={})
        super().__init__(config)

    def quantiser_of(self, module: str, own: Quantiser | None, experts: int) -> Quantiser | None:
        """As every layout; an MTP module is exempt by another name too."""
        found = super().quantiser_of(module, own, experts)
        prefix = self.naming.prefix_in(module)
        if found is not own or self.naming.layer_of(prefix) not in self.mtp_layers():
            return found
        return super().quantiser_of(_DECODER + module.removeprefix(prefix), own, experts)

    def top_rows(self) -> Iterator[Row]:
        """The tensors outside the layers. A tied head is not stored."""
        c = self.config
        vocabulary = (c.vocab_size, c.hidden_size)
        yield self.plain(
            self.naming.embedding, vocabulary, "embedding", "embedding", role="vocabulary", split=0, top=True
        )
        yield self.norm("model.norm", c.hidden_size, "norms", top=True)
        if not c.tie_word_embeddings:
            yield self.plain(self.naming.head, vocabulary, "head", "head", role="vocabulary", split=0, top=True)
        if c.vision_config is not None:
            yield from vision_rows(self, c.vision_config)
        if c.audio_config is not None:
            yield from audio_rows(self, c.audio_config)

    def layer_rows(self, layer: int) -> Sequence[Row]:
        """A layer by its kinds of attention and MLP; an MTP module has a window, no experts, and more around it."""
        sliding = self.config.is_sliding(layer)
        attention = self.part(("attention", sliding), lambda: self.attention_rows(sliding=sliding))
        if layer >= self.config.num_hidden_layers:
            return (*self.part("mtp", self.mtp_rows), *attention, *self.part("dense", self.dense_rows))
        mlp = self.part("moe", self.moe_rows) if self.config.is_moe(layer) else self.part("dense", self.dense_rows)
        return (*attention, *mlp, *self.part("norms", self.norm_rows))

    def attention_rows(self, *, sliding: bool) -> Iterator[Row]:
        """Queries, keys and values in one tensor. Its blocks begin anew in each part that a rank of the trainer had.

        There are as many parts as layers without a window have heads of keys.
        """
        c, module = self.config, "attention"
        heads = c.swa_num_attention_heads if sliding else c.num_attention_heads
        keys = c.swa_num_key_value_heads if sliding else c.num_key_value_heads
        width, values = (c.swa_head_dim, c.swa_v_head_dim) if sliding else (c.head_dim, c.v_head_dim)
        rows = heads * width + keys * (width + values)
        fused = None if self.own is None else self.fused_quantiser(self.own)
        yield from self.linear("self_attn.qkv_proj", rows, c.hidden_size, module, module, split=0, quantiser=fused)
        yield from self.linear("self_attn.o_proj", c.hidden_size, heads * values, module, module, split=1)
        if c.add_swa_attention_sink_bias if sliding else c.add_full_attention_sink_bias:
            yield self.plain("self_attn.attention_sink_bias", (heads,), module, module, role="bias", split=0)

    def fused_quantiser(self, own: Quantiser) -> Quantiser:
        """The blocks of the fused projection."""
        return fp8_blocks(own.block, chunks=self.config.num_key_value_heads, powers_of_two=own.powers_of_two)

    def norm_rows(self) -> Iterator[Row]:
        """The two norms of a layer."""
        yield self.norm("input_layernorm", self.config.hidden_size, "norms")
        yield self.norm("post_attention_layernorm", self.config.hidden_size, "norms")

    def dense_rows(self) -> Iterator[Row]:
        """The MLP of a dense layer."""
        yield from self.mlp("mlp", self.config.intermediate_size, "dense_mlp", "dense_mlp")

    def moe_rows(self) -> Iterator[Row]:
        """Router and experts."""
        c = self.config
        shape = (c.n_routed_experts, c.hidden_size)
        yield self.plain("mlp.gate.weight", shape, "router", "router", dtype="F32", allowed=(self.float_dtype,))
        if c.topk_method == "noaux_tc":
            bias = "mlp.gate.e_score_correction_bias"
            yield self.plain(bias, shape[:1], "router_bias", "router", role="router_bias", dtype="F32")
        inner, experts = c.moe_intermediate_size, c.n_routed_experts
        yield from self.mlp("mlp.experts.{expert}", inner, "routed_experts", "experts", experts=experts)

    def mtp_rows(self) -> Iterator[Row]:
        """What an MTP module has around its attention and MLP."""
        width = self.config.hidden_size
        yield self.plain("eh_proj.weight", (width, 2 * width), "mtp_projection", "mtp")
        for name in ("enorm", "hnorm", "final_layernorm"):
            yield self.norm(name, width, "mtp", component="mtp_norms")
        yield self.norm("input_layernorm", width, "norms")
        yield self.norm("pre_mlp_layernorm", width, "norms")

    def mlp(self, prefix: str, inner: int, component: str, module: str, *, experts: int = 0) -> Iterator[Row]:
        """A gated MLP of an inner dimension."""
        width = self.config.hidden_size
        yield from self.linear(f"{prefix}.gate_proj", inner, width, component, module, split=0, experts=experts)
        yield from self.linear(f"{prefix}.up_proj", inner, width, component, module, split=0, experts=experts)
        yield from self.linear(f"{prefix}.down_proj", width, inner, component, module, split=1, experts=experts)


FAMILY = Family(
    name="mimo-v2.5",
    title="MiMo-V2.5-Pro and MiMo-V2.5",
    model_types=("mimo_v2",),
    architectures=("MiMoV2ForCausalLM",),
    config=MimoV2Config,
    expectations=lambda config: MimoV2Layout(config).expectations(),
    fingerprint=Fingerprint(("model.layers.#.self_attn.attention_sink_bias", "model.layers.#.mlp.gate.weight")),
    solved=(
        "vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "v_head_dim",
        "swa_num_attention_heads", "swa_num_key_value_heads", "swa_head_dim", "swa_v_head_dim", "intermediate_size",
        "moe_intermediate_size", "n_routed_experts",
    ),
)  # fmt: skip
