"""The DeepSeek-V3 layout: V3, V3-Base, V3-0324, V3.1 and R1, quantised or as a BF16 conversion.

Sources: the tensors of the releases, and DeepSeek's README_WEIGHTS.md for the published figures.
"""

from collections.abc import Iterable, Iterator
from math import ceil

from auditor.families import Family, Published
from auditor.families.expectations import Expectations, Role, Row, Template
from auditor.families.scaling import scale_name
from auditor.format.dtypes import FP8, FROM_TORCH, Dtype
from auditor_schemas.config import DeepseekV3Config


class Layout:
    """The rows of one config. A family that differs overrides what differs."""

    def __init__(self, config: DeepseekV3Config) -> None:
        self.config = config
        self.float_dtype: Dtype = FROM_TORCH[config.float_dtype]
        quantization = config.quantization_config
        self.block = quantization.weight_block_size if quantization is not None else None
        self.exempt = quantization.exempt if quantization is not None else frozenset()

    norm_dtype: Dtype | None = None
    """The dtype of norms where it is not the one of other unquantised weights."""

    def expectations(self) -> Expectations:
        """Every tensor the config implies. Layers that hold the same rows share one template."""
        config = self.config
        # Rows that dense and MoE layers have in common are one: a row stands for all its layers.
        attention, norms = tuple(self.attention_rows()), tuple(self.norm_rows())
        dense = (*attention, *self.dense_rows(), *norms)
        moe = dense if config.n_routed_experts is None else (*attention, *self.moe_rows(), *norms)
        mtp = tuple(self.mtp_rows())
        mtp_layers = tuple(range(config.num_hidden_layers, config.layer_count))
        grouped: dict[tuple[Row, ...], list[int]] = {}
        variants: dict[tuple[tuple[Row, ...], frozenset[str]], tuple[Row, ...]] = {}
        for layer in range(config.layer_count):
            rows = moe if config.is_moe(layer) else dense
            if layer >= config.num_hidden_layers:
                rows = mtp[:4] + rows + mtp[4:]
            if self.exempt:
                rows = self._with_exemptions(rows, layer, variants)
            grouped.setdefault(rows, []).append(layer)
        templates = tuple(Template(tuple(layers), rows) for rows, layers in grouped.items())
        return Expectations(tuple(self.top_rows()), templates, mtp_layers)

    def top_rows(self) -> Iterator[Row]:
        """The tensors outside the layers. A tied head is not stored."""
        config = self.config
        vocabulary = (config.vocab_size, config.hidden_size)
        yield self.plain(
            "model.embed_tokens", vocabulary, "embedding", "embedding", role="vocabulary", split=0, top=True
        )
        yield self.norm("model.norm", config.hidden_size, "norms", top=True)
        if not config.tie_word_embeddings:
            yield self.plain("lm_head", vocabulary, "head", "head", role="vocabulary", split=0, top=True)

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
        yield self.plain("mlp.gate", (c.n_routed_experts, c.hidden_size), "router", "router")
        if c.topk_method == "noaux_tc":
            yield Row(
                "mlp.gate.e_score_correction_bias",
                (c.n_routed_experts,),
                "F32",
                "router_bias",
                "router",
                "router_bias",
            )
        experts = c.n_routed_experts
        yield from self.mlp(
            "mlp.experts.{expert}", c.moe_intermediate_size, "routed_experts", "experts", experts=experts
        )
        if c.n_shared_experts is not None:
            shared = c.moe_intermediate_size * c.n_shared_experts
            yield from self.mlp("mlp.shared_experts", shared, "shared_experts", "shared_experts")

    def mtp_rows(self) -> Iterator[Row]:
        """What an MTP module has beside its decoder layer; its vocabulary matrices are copies and may be absent."""
        c = self.config
        vocabulary = (c.vocab_size, c.hidden_size)
        yield self.plain("embed_tokens", vocabulary, "mtp_embedding", "mtp", role="vocabulary", split=0, optional=True)
        yield self.norm("enorm", c.hidden_size, "mtp", component="mtp_norms")
        yield self.norm("hnorm", c.hidden_size, "mtp", component="mtp_norms")
        yield self.plain("eh_proj", (c.hidden_size, 2 * c.hidden_size), "mtp_projection", "mtp")
        yield self.norm("shared_head.norm", c.hidden_size, "mtp", component="mtp_norms")
        yield self.plain("shared_head.head", vocabulary, "mtp_head", "mtp", role="vocabulary", split=0, optional=True)

    def mlp(self, prefix: str, inner: int, component: str, module: str, *, experts: int = 0) -> Iterator[Row]:
        """A gated MLP of an inner dimension."""
        width = self.config.hidden_size
        yield from self.linear(f"{prefix}.gate_proj", inner, width, component, module, split=0, experts=experts)
        yield from self.linear(f"{prefix}.up_proj", inner, width, component, module, split=0, experts=experts)
        yield from self.linear(f"{prefix}.down_proj", width, inner, component, module, split=1, experts=experts)

    def linear(
        self,
        name: str,
        rows: int,
        columns: int,
        component: str,
        module: str,
        *,
        split: int | None = None,
        experts: int = 0,
        bias: bool = False,
    ) -> Iterator[Row]:
        """A linear layer that the release quantises: the weight, its block scale, and its bias where it has one."""
        weight = Row(
            f"{name}.weight",
            (rows, columns),
            FP8 if self.block else self.float_dtype,
            component,
            module,
            "weight",
            experts=experts,
            split=split,
            quantised=self.block is not None,
        )
        yield weight
        if self.block:
            # The last block of an axis may be partial (576 rows are 5 blocks), so round up, never down.
            grid = (ceil(rows / self.block[0]), ceil(columns / self.block[1]))
            yield Row(scale_name(weight.suffix), grid, "F32", "scales", module, "scale", experts=experts, split=split)
        if bias:
            yield Row(f"{name}.bias", (rows,), self.float_dtype, component, module, "bias")

    def plain(
        self,
        name: str,
        shape: tuple[int, ...],
        component: str,
        module: str,
        *,
        role: Role = "weight",
        split: int | None = None,
        optional: bool = False,
        top: bool = False,
    ) -> Row:
        """A weight that is never quantised."""
        return Row(
            f"{name}.weight", shape, self.float_dtype, component, module, role, top=top, split=split, optional=optional
        )

    def norm(self, name: str, width: int, module: str, *, component: str = "norms", top: bool = False) -> Row:
        """An RMS norm's gain."""
        return Row(f"{name}.weight", (width,), self.norm_dtype or self.float_dtype, component, module, "norm", top=top)

    def _with_exemptions(
        self, rows: tuple[Row, ...], layer: int, variants: dict[tuple[tuple[Row, ...], frozenset[str]], tuple[Row, ...]]
    ) -> tuple[Row, ...]:
        """The rows of one layer with modules_to_not_convert applied; layers alike share the result."""
        names = {row.suffix.removesuffix(".weight"): row.experts for row in rows if row.quantised}
        spared = frozenset(
            name for name, experts in names.items() if self._are_exempt(f"model.layers.{layer}.{name}", experts)
        )
        if not spared:
            return rows
        key = (rows, spared)
        if key not in variants:
            variants[key] = tuple(self._spare(rows, spared))
        return variants[key]

    def _are_exempt(self, module: str, experts: int) -> bool:
        """Whether a module is exempt, that of routed experts by one name for all or by the names of all."""
        one_by_one = (self._is_exempt(module.replace("{expert}", str(expert))) for expert in range(experts))
        return self._is_exempt(module) or (experts > 0 and all(one_by_one))

    def _is_exempt(self, module: str) -> bool:
        parts = module.split(".")
        runs = (parts[a:b] for a in range(len(parts)) for b in range(a + 1, len(parts) + 1))
        return any(".".join(run) in self.exempt for run in runs)

    def _spare(self, rows: Iterable[Row], spared: frozenset[str]) -> Iterator[Row]:
        for row in rows:
            module = row.suffix.removesuffix("_scale_inv").removesuffix(".weight")
            if module not in spared:
                yield row
            elif row.role == "weight":
                yield Row(
                    row.suffix, row.shape, self.float_dtype, row.component, row.module, row.role,
                    experts=row.experts, split=row.split,
                )  # fmt: skip


_README_WEIGHTS = "README_WEIGHTS.md of the DeepSeek-V3 release"

FAMILY = Family(
    name="deepseek-v3",
    title="DeepSeek-V3, V3-Base, V3-0324, V3.1 and R1",
    model_types=("deepseek_v3",),
    architectures=("DeepseekV3ForCausalLM",),
    config=DeepseekV3Config,
    expectations=lambda config: Layout(config).expectations(),
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
