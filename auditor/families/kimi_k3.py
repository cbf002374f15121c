"""The Kimi-K3 layout: linear and latent attention by turns, experts in a latent of their own, a vision tower.

Sources: the tensors of the release. Its experts are MXFP4 because text_config declares an export of compressed-tensors.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import ceil

from auditor.families import Family, Published
from auditor.families.delta_attention import DeltaAttention
from auditor.families.expectations import Row
from auditor.families.fingerprint import Fingerprint
from auditor.families.kimi_k25 import EMBEDDING, HEAD, STEM
from auditor.families.kimi_vision import tower_rows
from auditor.families.layout import Layout
from auditor.families.naming import Naming, Stack
from auditor_schemas.configs.kimi_k3 import KimiK3Config

_MOE = "block_sparse_moe"


class KimiK3Layout(Layout[KimiK3Config]):
    """The rows of one config."""

    naming = Naming(
        stacks=(Stack(f"{STEM}layers."),), experts=f"{_MOE}.experts.", embedding=EMBEDDING, head=HEAD, copies={}
    )

    def top_rows(self) -> Iterator[Row]:
        """The tensors outside the layers. A tied head is not stored."""
        config = self.config
        shape = (config.vocab_size, config.hidden_size)
        yield self.plain(EMBEDDING, shape, "embedding", "embedding", role="vocabulary", split=0, top=True)
        yield self.norm(f"{STEM}norm", config.hidden_size, "norms", top=True)
        if config.attn_res_block_size is not None:
            yield from self.residual_rows(f"{STEM}output_attn", top=True)
        if not config.tie_word_embeddings:
            yield self.plain(HEAD, shape, "head", "head", role="vocabulary", split=0, top=True)
        if config.vision_config is not None:
            yield from tower_rows(self, config.vision_config)

    def layer_rows(self, layer: int) -> Sequence[Row]:
        """A decoder layer."""
        linear = self.config.is_linear(layer)
        rows = self.linear_attention_rows if linear else self.latent_attention_rows
        mlp = self.part("moe", self.moe_rows) if self.config.is_moe(layer) else self.part("dense", self.dense_rows)
        return (*self.part(("attention", linear), rows), *mlp, *self.part("norms", self.norm_rows))

    def norm_rows(self) -> Iterator[Row]:
        """The two norms of every layer, and what weighs the residuals of earlier ones."""
        yield self.norm("input_layernorm", self.config.hidden_size, "norms")
        yield self.norm("post_attention_layernorm", self.config.hidden_size, "norms")
        if self.config.attn_res_block_size is not None:
            yield from self.residual_rows("self_attention")
            yield from self.residual_rows("mlp")

    def residual_rows(self, name: str, *, top: bool = False) -> Iterator[Row]:
        """Attention over the residuals of layers."""
        width, module = self.config.hidden_size, "residual_attention"
        yield self.norm(f"{name}_res_norm", width, module, component=module, top=top)
        yield self.plain(f"{name}_res_proj.weight", (1, width), module, module, top=top)

    def linear_attention_rows(self) -> Iterator[Row]:
        """Kimi Delta Attention. A_log of the release has 128 entries for 96 heads: heads in full blocks of 128."""
        declared = self.config.linear_attn_config
        attention = DeltaAttention(
            heads=declared.num_heads,
            head_dim=declared.head_dim,
            kernel=declared.short_conv_kernel_size,
            decays=128 * ceil(declared.num_heads / 128),
            full_gate=declared.use_full_rank_gate,
            convolution=("F32", self.float_dtype),
            norm=("F32",),
        )
        yield from attention.rows(self, self.config.hidden_size, self.projection)

    def latent_attention_rows(self) -> Iterator[Row]:
        """Multi-head latent attention as V3 has it, with a gate on its output."""
        c = self.config
        heads, width, module = c.num_attention_heads, c.hidden_size, "attention"
        query, out = heads * (c.qk_nope_head_dim + c.qk_rope_head_dim), heads * c.v_head_dim
        latent, expanded = c.kv_lora_rank + c.qk_rope_head_dim, heads * (c.qk_nope_head_dim + c.v_head_dim)
        yield from self.projection("self_attn.q_a_proj", c.q_lora_rank, width)
        yield self.norm("self_attn.q_a_layernorm", c.q_lora_rank, module)
        yield from self.projection("self_attn.q_b_proj", query, c.q_lora_rank, 0)
        yield from self.projection("self_attn.kv_a_proj_with_mqa", latent, width)
        yield self.norm("self_attn.kv_a_layernorm", c.kv_lora_rank, module)
        yield from self.projection("self_attn.kv_b_proj", expanded, c.kv_lora_rank, 0)
        if c.mla_use_output_gate:
            yield from self.projection("self_attn.g_proj", out, width, 0)
        yield from self.projection("self_attn.o_proj", width, out, 1)

    def projection(self, name: str, rows: int, columns: int, split: int | None = None) -> Iterable[Row]:
        """A linear layer of attention."""
        return self.linear(name, rows, columns, "attention", "attention", split=split)

    def dense_rows(self) -> Iterator[Row]:
        """The MLP of a dense layer."""
        yield from self.mlp("mlp", self.config.intermediate_size, "dense_mlp", "dense_mlp")

    def mlp(self, prefix: str, inner: int, component: str, module: str) -> Iterator[Row]:
        """A gated MLP of an inner dimension."""
        width = self.config.hidden_size
        yield from self.linear(f"{prefix}.gate_proj", inner, width, component, module, split=0)
        yield from self.linear(f"{prefix}.up_proj", inner, width, component, module, split=0)
        yield from self.linear(f"{prefix}.down_proj", width, inner, component, module, split=1)

    def moe_rows(self) -> Iterator[Row]:
        """Router, routed experts in their latent, shared experts, which are one wider MLP in the model's width."""
        c = self.config
        yield self.plain(f"{_MOE}.gate.weight", (c.num_experts, c.hidden_size), "router", "router", allowed=("F32",))
        bias = f"{_MOE}.gate.e_score_correction_bias"
        yield self.plain(bias, (c.num_experts,), "router_bias", "router", role="router_bias", dtype="F32")
        width = c.routed_expert_hidden_size or c.hidden_size
        if c.routed_expert_hidden_size is not None:
            yield from self.latent_rows(width)
        shapes = {"w1": (c.moe_intermediate_size, width), "w2": (width, c.moe_intermediate_size)}
        for name, split in (("w1", 0), ("w2", 1), ("w3", 0)):
            shape = shapes.get(name, shapes["w1"])
            expert = f"{_MOE}.experts.{{expert}}.{name}"
            yield from self.linear(expert, *shape, "routed_experts", "experts", split=split, experts=c.num_experts)
        if c.num_shared_experts is not None:
            shared = c.moe_intermediate_size * c.num_shared_experts
            yield from self.mlp(f"{_MOE}.shared_experts", shared, "shared_experts", "shared_experts")

    def latent_rows(self, width: int) -> Iterator[Row]:
        """What leads into the latent of routed experts and out of it; the release's export leaves it as it is."""
        name, module = f"{_MOE}.routed_expert", "experts"
        wide = self.config.hidden_size
        yield self.plain(f"{name}_down_proj.weight", (width, wide), "expert_latent", module)
        if self.config.latent_moe_use_norm:
            yield self.norm(f"{name}_norm", width, module, component="expert_latent")
        yield self.plain(f"{name}_up_proj.weight", (wide, width), "expert_latent", module)


FAMILY = Family(
    name="kimi-k3",
    title="Kimi-K3",
    model_types=("kimi_k3",),
    architectures=("KimiK3ForConditionalGeneration",),
    config=KimiK3Config,
    expectations=lambda config: KimiK3Layout(config).expectations(),
    fingerprint=Fingerprint(
        ("language_model.model.layers.#.self_attn.A_log", "language_model.model.layers.#.block_sparse_moe.gate.weight")
    ),
    solved=(
        "vocab_size", "hidden_size", "num_attention_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim",
        "qk_rope_head_dim", "v_head_dim", "intermediate_size", "moe_intermediate_size", "num_experts",
        "num_shared_experts", "routed_expert_hidden_size",
    ),
    nested="text_config",
    experts_field="num_experts",
    released={
        "vocab_size": 163840, "hidden_size": 7168, "num_hidden_layers": 93, "num_attention_heads": 96,
        "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "mla_use_output_gate": True, "attn_res_block_size": 12, "linear_layers": 69, "intermediate_size": 33792,
        "first_k_dense_replace": 1, "moe_layer_freq": 1, "moe_intermediate_size": 3072, "num_experts": 896,
        "num_experts_per_token": 16, "num_shared_experts": 2, "routed_expert_hidden_size": 3584,
        "tie_word_embeddings": False, "exported_as": "compressed-tensors mxfp4-pack-quantized 4-bit float",
    },
    published=(
        Published(
            name="main model, total", text="2.8T", billions=2800, digits=-2, convention="main_total",
            source="NVIDIA's page of Kimi-K3 in NeMo AutoModel",
        ),
        Published(
            name="main model, activated per token", text="104B", billions=104, digits=0,
            convention="main_activated_without_embedding", source="NVIDIA's page of Kimi-K3 in NeMo AutoModel",
        ),
        Published(
            name="everything stored", text="2.8T", billions=2800, digits=-2, convention="stored",
            source="the hub's model size for Kimi-K3",
        ),
    ),
)  # fmt: skip
