"""The DeepSeek-V3 layout: V3, V3-Base, V3-0324, V3.1 and R1, quantised or as a BF16 conversion.

Sources: the tensors of the releases, and DeepSeek's README_WEIGHTS.md for the published figures.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import gcd
from typing import Any, ClassVar

from auditor.families import Family, Published
from auditor.families.expectations import Row
from auditor.families.fingerprint import Fingerprint
from auditor.families.layout import Layout
from auditor.format.entries import TensorHeader
from auditor.patterns import layer_of
from auditor_schemas.config import DeepseekV3Config


class DeepseekLayout(Layout[DeepseekV3Config]):
    """The rows of one config: multi-head latent attention, a mixture of experts, MTP modules as further layers."""

    stem: ClassVar[str] = "model."
    """What the names of the main model begin with, but for the head's."""

    def layer_rows(self, layer: int) -> Sequence[Row]:
        """A decoder layer; an MTP module is one with more around it."""
        attention = self.attention_part(layer)
        norms = self.part("norms", self.norm_rows)
        mlp = self.part("moe", self.moe_rows) if self.config.is_moe(layer) else self.part("dense", self.dense_rows)
        rows = (*attention, *mlp, *norms)
        if layer < self.config.num_hidden_layers:
            return rows
        before, after = self.part("mtp", self.mtp_rows_before), self.part("mtp behind", self.mtp_rows_behind)
        return (*before, *rows, *after)

    def attention_part(self, layer: int) -> Sequence[Row]:
        """The attention of a layer, alike in all."""
        del layer
        return self.part("attention", self.attention_rows)

    def top_rows(self) -> Iterator[Row]:
        """The tensors outside the layers. A tied head is not stored."""
        config = self.config
        vocabulary = (config.vocab_size, config.hidden_size)
        yield self.plain(
            self.naming.embedding, vocabulary, "embedding", "embedding", role="vocabulary", split=0, top=True
        )
        yield self.norm(f"{self.stem}norm", config.hidden_size, "norms", top=True)
        if not config.tie_word_embeddings:
            yield self.plain(self.naming.head, vocabulary, "head", "head", role="vocabulary", split=0, top=True)

    def norm_rows(self) -> Iterator[Row]:
        """The two norms of every decoder layer."""
        yield self.norm("input_layernorm", self.config.hidden_size, "norms")
        yield self.norm("post_attention_layernorm", self.config.hidden_size, "norms")

    def attention_rows(self) -> Iterator[Row]:
        """Multi-head latent attention. Biases stand where the reference code has them: not on the up-projections."""
        c = self.config
        heads, width, module = c.num_attention_heads, c.hidden_size, "attention"
        query = heads * (c.qk_nope_head_dim + c.qk_rope_head_dim)
        latent = c.kv_lora_rank + c.qk_rope_head_dim
        if c.q_lora_rank is None:
            yield from self.linear("self_attn.q_proj", query, width, module, module, split=0)
        else:
            yield from self.linear("self_attn.q_a_proj", c.q_lora_rank, width, module, module, bias=c.attention_bias)
            yield self.norm("self_attn.q_a_layernorm", c.q_lora_rank, module)
            yield from self.linear("self_attn.q_b_proj", query, c.q_lora_rank, module, module, split=0)
        yield from self.linear("self_attn.kv_a_proj_with_mqa", latent, width, module, module, bias=c.attention_bias)
        yield self.norm("self_attn.kv_a_layernorm", c.kv_lora_rank, module)
        expanded = heads * (c.qk_nope_head_dim + c.v_head_dim)
        yield from self.linear("self_attn.kv_b_proj", expanded, c.kv_lora_rank, module, module, split=0)
        out = heads * c.v_head_dim
        yield from self.linear("self_attn.o_proj", width, out, module, module, split=1, bias=c.attention_bias)

    def dense_rows(self) -> Iterator[Row]:
        """The MLP of a dense layer."""
        yield from self.mlp("mlp", self.config.intermediate_size, "dense_mlp", "dense_mlp")

    def moe_rows(self) -> Iterator[Row]:
        """Router, routed experts and shared experts; several shared experts are one wider MLP."""
        c = self.config
        assert c.n_routed_experts is not None
        assert c.moe_intermediate_size is not None
        shape = (c.n_routed_experts, c.hidden_size)
        # transformers 5 keeps it in F32 whatever it is asked for.
        yield self.plain("mlp.gate.weight", shape, "router", "router", allowed=("F32",))
        if c.topk_method == "noaux_tc":
            bias = "mlp.gate.e_score_correction_bias"
            yield self.plain(bias, shape[:1], "router_bias", "router", role="router_bias", dtype="F32")
        experts = c.n_routed_experts
        yield from self.mlp(
            "mlp.experts.{expert}", c.moe_intermediate_size, "routed_experts", "experts", experts=experts
        )
        if c.n_shared_experts is not None:
            shared = c.moe_intermediate_size * c.n_shared_experts
            yield from self.mlp("mlp.shared_experts", shared, "shared_experts", "shared_experts")

    def mtp_rows_before(self) -> Iterator[Row]:
        """What an MTP module has before its decoder layer; its vocabulary matrices are copies and may be absent."""
        c = self.config
        yield from self.copy("embed_tokens.weight", "mtp_embedding")
        yield self.norm("enorm", c.hidden_size, "mtp", component="mtp_norms")
        yield self.norm("hnorm", c.hidden_size, "mtp", component="mtp_norms")
        yield self.plain("eh_proj.weight", (c.hidden_size, 2 * c.hidden_size), "mtp_projection", "mtp")

    def mtp_rows_behind(self) -> Iterator[Row]:
        """What it has behind it."""
        yield self.norm("shared_head.norm", self.config.hidden_size, "mtp", component="mtp_norms")
        yield from self.copy("shared_head.head.weight", "mtp_head")

    def copy(self, name: str, component: str) -> Iterable[Row]:
        """A copy of a vocabulary matrix, where the family's modules have any."""
        if name not in self.naming.copies:
            return ()
        shape = (self.config.vocab_size, self.config.hidden_size)
        return (self.plain(name, shape, component, "mtp", role="vocabulary", split=0, optional=True),)

    def mlp(self, prefix: str, inner: int, component: str, module: str, *, experts: int = 0) -> Iterator[Row]:
        """A gated MLP of an inner dimension."""
        width = self.config.hidden_size
        yield from self.linear(f"{prefix}.gate_proj", inner, width, component, module, split=0, experts=experts)
        yield from self.linear(f"{prefix}.up_proj", inner, width, component, module, split=0, experts=experts)
        yield from self.linear(f"{prefix}.down_proj", width, inner, component, module, split=1, experts=experts)


# Fields that shapes show; every dimension is linear in each of them alone.
SOLVED = (
    "vocab_size", "hidden_size", "num_attention_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim",
    "qk_rope_head_dim", "v_head_dim", "intermediate_size", "moe_intermediate_size", "n_shared_experts",
    "n_routed_experts",
)  # fmt: skip

# Of each kind of tensor that one field decides, how its name ends.
_TELLING = (
    ".self_attn.q_proj.weight", ".self_attn.q_a_proj.weight", ".mlp.shared_experts.gate_proj.weight",
    ".mlp.gate.e_score_correction_bias", ".mlp.gate.weight", ".self_attn.o_proj.bias",
)  # fmt: skip


def shown_by_presence(
    tensors: Mapping[str, TensorHeader], config: DeepseekV3Config, names: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Fields that decide which tensors there are, where tensors are there that another value gives.

    What is absent shows nothing: a tool that drops the correction biases does not say that there should be none.
    """
    first = {suffix: next((name for name in names if name.endswith(suffix)), None) for suffix in _TELLING}
    query, low_rank, shared, bias, router, added = first.values()
    if query is not None and config.q_lora_rank is not None:
        yield "q_lora_rank", None
    if low_rank is not None and config.q_lora_rank is None and tensors[low_rank].shape:
        yield "q_lora_rank", tensors[low_rank].shape[0]
    if shared is not None and config.n_shared_experts is None and config.moe_intermediate_size:
        yield "n_shared_experts", sum(tensors[shared].shape[:1]) // config.moe_intermediate_size
    if bias is not None and config.topk_method != "noaux_tc":
        yield "topk_method", "noaux_tc"
    if added is not None and not config.attention_bias:
        yield "attention_bias", True
    if router is not None or config.moe_layer_freq > 1 or any(name.endswith(".mlp.gate_proj.weight") for name in names):
        routed = {layer_of(name) or 0 for name in tensors if name.endswith(".mlp.gate.weight")}
        frequency = gcd(*routed)
        if frequency and frequency != config.moe_layer_freq:
            yield "moe_layer_freq", frequency


_README_WEIGHTS = "README_WEIGHTS.md of the DeepSeek-V3 release"

FAMILY = Family(
    name="deepseek-v3",
    title="DeepSeek-V3, V3-Base, V3-0324, V3.1 and R1",
    model_types=("deepseek_v3",),
    architectures=("DeepseekV3ForCausalLM",),
    config=DeepseekV3Config,
    expectations=lambda config: DeepseekLayout(config).expectations(),
    fingerprint=Fingerprint(("model.layers.#.self_attn.kv_a_layernorm.weight",)),
    solved=SOLVED,
    shown=shown_by_presence,
    released={
        "vocab_size": 129280,
        "hidden_size": 7168,
        "num_hidden_layers": 61,
        "mtp_modules": 1,
        "num_attention_heads": 128,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "attention_bias": False,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "first_k_dense_replace": 3,
        "moe_layer_freq": 1,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "topk_method": "noaux_tc",
        "tie_word_embeddings": False,
    },
    published=(
        Published(
            name="main model, total",
            text="671B",
            billions=671,
            digits=0,
            convention="main_total",
            source=_README_WEIGHTS,
        ),
        Published(
            name="main model, activated per token",
            text="36.7B",
            billions=36.7,
            digits=1,
            convention="main_activated",
            also=("main_activated_without_embedding",),
            source=_README_WEIGHTS,
            note="the text includes 0.9B for the embedding and 0.9B for the head, which makes 37.6B; "
            "no convention gives 36.7B (a variant of the text, 36.6B with the head alone, agrees)",
        ),
        Published(
            name="MTP module, unique parameters",
            text="11.5B",
            billions=11.5,
            digits=1,
            convention="mtp_unique",
            also=("mtp_unique_with_projection",),
            source=_README_WEIGHTS,
            note="the embedding and head are counted with the main model, and eh_proj is not counted",
        ),
        Published(
            name="MTP module, activated per token",
            text="2.4B",
            billions=2.4,
            digits=1,
            convention="mtp_activated",
            also=("mtp_activated_with_projection",),
            source=_README_WEIGHTS,
            note="eh_proj is not counted",
        ),
        Published(
            name="everything stored",
            text="685B",
            billions=685,
            digits=0,
            convention="stored_with_scales",
            also=("stored",),
            source="the hub's model size for DeepSeek-V3",
        ),
    ),
)
