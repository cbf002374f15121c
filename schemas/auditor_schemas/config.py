"""The rules of config.json: every field that decides which tensors a DeepSeek-V3-layout checkpoint holds.

Fields keep DeepSeek's spelling. Extra fields are fine: only what the layout depends on is checked.
Sources: the released config.json of DeepSeek-V3 and V3.2, and the reference modelling code of each.
"""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator
from pydantic_core import PydanticCustomError

# 2^24 is far above any dimension in use (vocabularies reach 2^18) and keeps every product exact and small.
Dimension = Annotated[int, Field(strict=True, ge=1, le=1 << 24)]
Cardinal = Annotated[int, Field(strict=True, ge=0, le=1 << 24)]
Flag = Annotated[bool, Field(strict=True)]
ModuleName = Annotated[str, Field(strict=True, min_length=1, max_length=512, pattern=r"^[A-Za-z0-9_.\-]+$")]
FloatDtype = Literal["bfloat16", "float16", "float32"]
_FLOATS: tuple[FloatDtype, ...] = get_args(FloatDtype)


def _power_of_two(side: int) -> int:
    """Kernels tile by weight blocks, in powers of two; at times 127 and 129 make the grid that 128 makes."""
    if side & (side - 1):
        raise PydanticCustomError("power_of_two", "a power of two")
    return side


BlockSide = Annotated[Dimension, AfterValidator(_power_of_two)]


def _code_format(spelling: Any) -> Any:
    """`float8_e4m3fn` is torch's name of the format that the releases call `e4m3`; no loader tells them apart."""
    if not isinstance(spelling, str):
        return spelling
    name = spelling.lower().removeprefix("torch.")
    for written in ("float8_", "fp8_", "f8_"):
        name = name.removeprefix(written)
    return "e4m3" if name in ("e4m3", "e4m3fn") else spelling


def _scale_format(spelling: Any) -> Any:
    """Whatever is not ue8m0 is plain F32 to loaders, which compare with that one word, its case included."""
    return "float" if isinstance(spelling, str) and spelling.lower() in ("float32", "fp32", "f32") else spelling


# fail_fast: of a list of 200,000 wrong names the first says it all.
ModuleNames = Annotated[tuple[ModuleName, ...], Field(fail_fast=True)]


class Quantization(BaseModel):
    """quantization_config of any format. A format of its own has a model of its own, with what it declares."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    quant_method: str
    weight_block_size: Annotated[
        tuple[BlockSide, BlockSide] | None, Field(description="Rows and columns of a weight block, powers of two.")
    ] = None
    scale_fmt: Annotated[Literal["ue8m0", "float"] | None, BeforeValidator(_scale_format)] = Field(
        default=None,
        description="'ue8m0': every scale is a power of two, still stored as F32. 'float': as absent, any F32 scales.",
    )
    modules_to_not_convert: ModuleNames | None = Field(
        default=None,
        max_length=200_000,
        description="Modules that stay unquantised: a run of whole dotted components of a module's name.",
    )
    ignored_layers: ModuleNames | None = Field(
        default=None, max_length=200_000, description="The same under its other name; vLLM reads this one first."
    )

    @property
    def exempt(self) -> frozenset[str]:
        """The modules that stay unquantised; transformers reads ignored_layers only where the other is not given."""
        given = self.ignored_layers if self.modules_to_not_convert is None else self.modules_to_not_convert
        return frozenset(given or ())

    @property
    def lists_differ(self) -> bool:
        """Whether both lists of exempt modules are given and loaders exempt different modules by them."""
        one, other = self.modules_to_not_convert, self.ignored_layers
        return one is not None and other is not None and set(one) != set(other)


class QuantizationConfig(Quantization):
    """FP8 block quantisation as released: E4M3 codes with one scale per weight block."""

    quant_method: Literal["fp8"]
    fmt: Annotated[
        Literal["e4m3"] | None,
        BeforeValidator(_code_format),
        Field(description="Also as torch spells it: float8_e4m3fn."),
    ] = "e4m3"
    weight_block_size: Annotated[
        tuple[BlockSide, BlockSide], Field(description="Rows and columns of a weight block, powers of two.")
    ]
    activation_scheme: Literal["dynamic"] = "dynamic"


class ModelConfig(BaseModel):
    """config.json of any family: what the layout of every one depends on. Fields keep the release's spelling."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    model_type: Annotated[str, Field(strict=True)]
    architectures: Annotated[tuple[str, ...], Field(fail_fast=True)] | None = None

    vocab_size: Dimension
    hidden_size: Dimension
    num_hidden_layers: Dimension
    num_attention_heads: Dimension

    tie_word_embeddings: Flag = False
    torch_dtype: FloatDtype | None = None
    dtype: Annotated[FloatDtype | None, Field(description="torch_dtype as newer writers spell it.")] = None
    quantization_config: Quantization | None = None

    _export: Any = PrivateAttr(default=None)

    @property
    def export(self) -> Any:
        """What an export declares over the family's own formats, an `Export` of auditor.families; None: nothing."""
        return self._export

    @property
    def exported_as(self) -> str | None:
        """What the export calls its format; None where there is no export."""
        return None if self._export is None else str(self._export.name)

    def under(self, export: Any) -> Self:
        """This config with what an export declares; no field of config.json, so that none can pretend to be it."""
        copy = self.model_copy()
        copy._export = export
        return copy

    mtp_field: ClassVar[str] = "num_nextn_predict_layers"
    """The field that says how many MTP modules there are."""

    @property
    def mtp_modules(self) -> int:
        """The number of MTP modules."""
        return 0

    @property
    def mtp_told(self) -> str:
        """What says how many MTP modules there are, and that number, as a message has it."""
        return f"{self.mtp_field} is {self.mtp_modules}"

    @property
    def routed_experts(self) -> int | None:
        """Routed experts of an MoE layer; None where every layer is dense."""
        return None

    @property
    def experts_per_token(self) -> int | None:
        """The routed experts that a token goes to."""
        return None

    @property
    def layer_count(self) -> int:
        """Layers of the main model and MTP modules together."""
        return self.num_hidden_layers + self.mtp_modules

    @property
    def tensors(self) -> int:
        """About how many tensors the config demands."""
        return self.layer_count * (6 * (self.routed_experts or 0) + 30)

    @property
    def float_dtype(self) -> FloatDtype:
        """The dtype of unquantised weights; bfloat16 unless the config says otherwise."""
        return self.dtype or self.torch_dtype or "bfloat16"

    def readings(self) -> Iterator[Self]:
        """This config in each way that loaders read it, where they differ; nothing where all read the same."""
        dtypes: set[FloatDtype] = {each for each in (self.dtype, self.torch_dtype) if each} or set(_FLOATS)
        quantization = self.quantization_config
        lists: tuple[tuple[str, ...] | None, ...] = (None,)
        if quantization is not None and quantization.lists_differ:
            lists = quantization.modules_to_not_convert, quantization.ignored_layers
        if len(dtypes) * len(lists) == 1:
            return
        for dtype in sorted(dtypes, key=_FLOATS.index):
            for exempt in lists:
                changes: dict[str, Any] = {"dtype": dtype}
                if exempt is not None and quantization is not None:
                    changes["quantization_config"] = quantization.model_copy(update={"modules_to_not_convert": exempt})
                yield self.model_copy(update=changes)

    @model_validator(mode="after")
    def _shapes_follow(self) -> Self:
        """Fields without which no shape follows, with every pair that cannot both be right, in the error's context."""
        found = list(self.gaps())
        if found:
            found.extend(self.contradictions())
            raise PydanticCustomError(
                "contradiction",
                "{count} contradictions between fields",
                {"count": len(found), "contradictions": found},
            )
        return self

    def gaps(self) -> Iterator[tuple[str, Any, str]]:
        """Yield (field, its value, what it must be) for each field that another one demands for the layout."""
        yield from ()

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """Yield (field, its value, what it must be) for each field that another one rules out; a layout follows."""
        if self.dtype and self.torch_dtype and self.dtype != self.torch_dtype:
            yield "dtype", self.dtype, f"the same as torch_dtype ({self.torch_dtype})"


class DeepseekV3Config(ModelConfig):
    """config.json of the DeepSeek-V3 layout (V3, V3-Base, V3-0324, V3.1, R1)."""

    quantization_config: QuantizationConfig | None = None
    num_nextn_predict_layers: Annotated[
        Cardinal | None, Field(description="MTP modules, layers num_hidden_layers and up; absent or null is none.")
    ] = 0

    q_lora_rank: Annotated[Dimension | None, Field(description="null: the query is one q_proj.")]
    kv_lora_rank: Dimension
    qk_nope_head_dim: Dimension
    qk_rope_head_dim: Dimension
    v_head_dim: Dimension
    attention_bias: Flag = False

    intermediate_size: Dimension
    moe_intermediate_size: Dimension | None = None
    first_k_dense_replace: Cardinal = 0
    moe_layer_freq: Dimension = 1
    n_routed_experts: Annotated[Dimension | None, Field(description="null: every layer is dense.")]
    n_shared_experts: Annotated[Dimension | None, Field(description="null: no shared expert.")]
    num_experts_per_tok: Dimension | None = None
    n_group: Dimension | None = None
    topk_group: Dimension | None = None
    topk_method: Annotated[
        Literal["noaux_tc", "greedy", "group_limited_greedy"],
        Field(description="The router has a correction bias with noaux_tc alone; absent is noaux_tc."),
    ] = "noaux_tc"

    @property
    def mtp_modules(self) -> int:
        """The number of MTP modules."""
        return self.num_nextn_predict_layers or 0

    @property
    def routed_experts(self) -> int | None:
        """Routed experts of an MoE layer; None where every layer is dense."""
        return self.n_routed_experts

    @property
    def experts_per_token(self) -> int | None:
        """The routed experts that a token goes to."""
        return self.num_experts_per_tok

    def is_moe(self, layer: int) -> bool:
        """Whether a layer's MLP is a mixture of experts, by the reference code's condition."""
        return (
            self.n_routed_experts is not None
            and layer >= self.first_k_dense_replace
            and layer % self.moe_layer_freq == 0
        )

    def gaps(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; experts have a size."""
        yield from super().gaps()
        if self.n_routed_experts is not None and self.moe_intermediate_size is None:
            yield "moe_intermediate_size", None, f"given, because n_routed_experts is {self.n_routed_experts}"

    def contradictions(self) -> Iterator[tuple[str, Any, str]]:
        """As every family; rotary embedding and routing have needs of their own."""
        yield from super().contradictions()
        if self.qk_rope_head_dim % 2:
            yield "qk_rope_head_dim", self.qk_rope_head_dim, "even, because rotary embedding turns pairs"
        if self.n_routed_experts is not None:
            yield from self._routing_contradictions(self.n_routed_experts)

    def _routing_contradictions(self, experts: int) -> Iterator[tuple[str, Any, str]]:
        if self.num_experts_per_tok is None:
            yield "num_experts_per_tok", None, f"given, because n_routed_experts is {experts}"
        elif self.num_experts_per_tok > experts:
            yield "num_experts_per_tok", self.num_experts_per_tok, f"at most n_routed_experts ({experts})"
        groups = self.n_group
        if groups is None:
            return
        if experts % groups:
            yield "n_group", groups, f"a divisor of n_routed_experts ({experts})"
        if self.topk_group is not None:
            if self.topk_group > groups:
                yield "topk_group", self.topk_group, f"at most n_group ({groups})"
            elif experts % groups == 0 and experts >= (self.num_experts_per_tok or 0) > self.topk_group * (
                experts // groups
            ):
                reachable = self.topk_group * (experts // groups)
                yield (
                    "num_experts_per_tok",
                    self.num_experts_per_tok,
                    f"at most the {reachable} experts that topk_group {self.topk_group} of n_group {groups} leaves",
                )


class DeepseekV32Config(DeepseekV3Config):
    """config.json of DeepSeek-V3.2: the V3 layout with a sparse-attention indexer in every layer."""

    index_n_heads: Dimension
    index_head_dim: Dimension

    def gaps(self) -> Iterator[tuple[str, Any, str]]:
        """As V3; the indexer reads the query's low-rank projection, which therefore must exist."""
        yield from super().gaps()
        if self.q_lora_rank is None:
            yield "q_lora_rank", None, "a number, because the indexer's wq_b projects from the query's low rank"
