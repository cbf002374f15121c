"""Breaks of FP8 quantisation and of the pairing of weights with block scales."""

from collections.abc import Callable
from math import ceil

from msgspec.structs import replace

from auditor.families.scaling import is_scale, scale_name
from auditor.forge.breaks import breaks_as
from auditor.forge.convert import bf16_conversion, nvfp4_export, nvfp4_parts, unquantise
from auditor.forge.plan import Plan, Tensor
from auditor.patterns import layer_of
from auditor_schemas.rule import Severity


def _grid(plan: Plan, shape: tuple[int, ...]) -> tuple[int, int]:
    return ceil(shape[0] / plan.block[0]), ceil(shape[1] / plan.block[1])


def _reshape_scales(plan: Plan, wanted: Callable[[str], bool], shape: Callable[[Tensor], tuple[int, ...]]) -> None:
    def change(tensor: Tensor) -> tuple[Tensor]:
        return (replace(tensor, shape=shape(tensor)) if tensor.values == "scales" and wanted(tensor.name) else tensor,)

    plan.rewrite(change)


@breaks_as("missing-block-scale", "one FP8 weight has no scale", "QNT101", structure="QNT201")
def missing_scale(plan: Plan) -> None:
    """A loader either dies or multiplies by one."""
    plan.drop(scale_name(plan.expert).__eq__)


@breaks_as("missing-layer-scales", "a layer's FP8 weights have no scales", "QNT101", structure="QNT201")
def missing_layer_scales(plan: Plan) -> None:
    """Every scale of one layer."""
    prefix = plan.prefix
    plan.drop(lambda name: name.startswith(prefix) and is_scale(name))


@breaks_as("scale-grid-rounded-down", "scale grids leave partial edge blocks out", "QNT102", structure="QNT204")
def rounded_down(plan: Plan) -> None:
    """576 rows are 5 blocks of 128, not 4."""
    _reshape_scales(
        plan,
        lambda name: "kv_a_proj_with_mqa" in name,
        lambda tensor: (tensor.origin[0] // plan.block[0], tensor.shape[1]),
    )


@breaks_as("transposed-scale-grid", "a scale grid is transposed", "QNT102", structure="QNT204")
def transposed_grid(plan: Plan) -> None:
    """The same number of scales, each at the wrong block."""
    _reshape_scales(plan, scale_name(plan.expert).__eq__, lambda tensor: tensor.shape[::-1])


@breaks_as("one-scale-per-tensor", "scales are one per tensor, not one per block", "QNT102")
def per_tensor(plan: Plan) -> None:
    """As per-tensor FP8 is stored; the config speaks of blocks."""
    _reshape_scales(plan, lambda _: True, lambda _: (1,))


@breaks_as("orphan-router-scale", "an unquantised router has a scale", "QNT103", structure="QNT202")
def orphan_scale(plan: Plan) -> None:
    """Quantisers that leave a module out sometimes write its scale all the same."""
    weight = plan.router
    shape = plan.rows[weight].shape
    plan.insert(weight, Tensor(scale_name(weight), "F32", _grid(plan, shape), "scales", weight, shape))


@breaks_as("bf16-scales", "scales are BF16", "QNT104")
def bf16_scales(plan: Plan) -> None:
    """A rounded scale moves every weight of its block, and loaders expect F32."""
    plan.alter(is_scale, dtype="BF16")


@breaks_as("e8m0-scales", "scales are F8_E8M0", "QNT104")
def e8m0_scales(plan: Plan) -> None:
    """The release stores powers of two as F32 too."""
    plan.alter(is_scale, dtype="F8_E8M0")


@breaks_as("renamed-block-scales", "scales are named weight_scale", "QNT105")
def renamed_scales(plan: Plan) -> None:
    """The name other formats use; the loader of this one dies."""

    def change(tensor: Tensor) -> tuple[Tensor]:
        return (replace(tensor, name=tensor.name.removesuffix("_inv")) if tensor.values == "scales" else tensor,)

    plan.rewrite(change)


@breaks_as(
    "bf16-export-keeps-config", "all weights are BF16, quantization_config is still there", "QNT106", structure="QNT208"
)
def bf16_export(plan: Plan) -> None:
    """The BF16 export that forgot its config.json."""
    unquantise(plan)


@breaks_as("fp4-export-keeps-config", "all weights are packed FP4, quantization_config is still FP8's", "QNT113")
def fp4_export(plan: Plan) -> None:
    """Another quantiser's tensors beside the config of the checkpoint that they were made from."""

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        if tensor.values == "scales":
            return ()
        return nvfp4_parts(tensor) if tensor.values == "codes" else (tensor,)

    plan.rewrite(change)


@breaks_as(
    "undeclared-quantisation", "weights are FP8, config.json has no quantization_config", "QNT107", structure="QNT209"
)
def undeclared(plan: Plan) -> None:
    """A loader takes the codes for values."""
    del plan.config["quantization_config"]


@breaks_as("raw-fp8-in-bf16", "a BF16 conversion holds an FP8 tensor without scale", "QNT108")
def raw_fp8(plan: Plan) -> None:
    """The published conversion script warns at a missing scale and copies the codes."""
    bf16_conversion(plan)
    plan.alter(plan.expert.__eq__, dtype="F8_E4M3", values="codes")


@breaks_as("unquantised-weight", "one weight is BF16 and has no scale", "QNT109", structure="SHP201")
def unquantised_weight(plan: Plan) -> None:
    """The config does not exempt it."""
    unquantise(plan, plan.expert.__eq__)


@breaks_as("unquantised-weight-with-scale", "one weight is BF16 beside its scale", "QNT109", structure="QNT202")
def unquantised_with_scale(plan: Plan) -> None:
    """A loader that sees a scale multiplies once more."""
    plan.alter(plan.expert.__eq__, dtype="BF16", values="dequantised")


def _quantise_exempt(plan: Plan, name: str) -> None:
    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        if tensor.name != name:
            return (tensor,)
        scale = Tensor(scale_name(name), "F32", _grid(plan, tensor.shape), "scales", tensor.stream, tensor.shape)
        return replace(tensor, dtype="F8_E4M3", values="codes"), scale

    plan.rewrite(change)


@breaks_as("quantised-mtp-projection", "the MTP module's eh_proj is FP8 with a scale", "QNT110")
def quantised_projection(plan: Plan) -> None:
    """A Linear like any other to a quantiser that goes by type; loaders build it unquantised."""
    _quantise_exempt(plan, f"{plan.naming.prefix(plan.mtp_layers[0])}eh_proj.weight")


@breaks_as("quantised-head", "lm_head is FP8 with a scale", "QNT110")
def quantised_head(plan: Plan) -> None:
    """The release leaves both vocabulary matrices in BF16."""
    _quantise_exempt(plan, plan.naming.head)


@breaks_as("quantised-router", "a router is FP8 with a scale", "QNT110")
def quantised_router(plan: Plan) -> None:
    """Routing is computed from the unquantised matrix."""
    _quantise_exempt(plan, plan.router)


@breaks_as("wrapper-exemptions", "exempt modules are named as in a wrapper, with language_model. in front", "QNT114")
def wrapper_exemptions(plan: Plan) -> None:
    """The list of a multimodal checkpoint beside its language model alone."""
    unquantise(plan, lambda name: layer_of(name) in plan.mtp_layers)
    plan.config["quantization_config"]["modules_to_not_convert"] = [
        "lm_head", *(f"language_model.model.layers.{layer}" for layer in plan.mtp_layers),
    ]  # fmt: skip


def _attention_and_mtp(plan: Plan) -> Callable[[str], bool]:
    """What ModelOpt leaves out of this layout: the attention, and MTP modules whole."""
    return lambda name: ".self_attn." in name or plan.naming.layer_of(name) in plan.mtp_layers


_ATTENTION = ["lm_head", "*.self_attn*"]


@breaks_as("forgotten-exclusion", "an NVFP4 export's list of unquantised modules lacks the MTP layer", "QNT120")
def forgotten_exclusion(plan: Plan) -> None:
    """As one was published: the loader of the MTP module looks for codes and scales, and finds BF16."""
    nvfp4_export(plan, _attention_and_mtp(plan), _ATTENTION)


@breaks_as("excess-exclusion", "an NVFP4 export's list of unquantised modules names experts that are NVFP4", "QNT120")
def excess_exclusion(plan: Plan) -> None:
    """A glob takes more than was meant: layer 1* is 10 to 19 too."""
    layers = [f"model.layers.{layer}*" for layer in (*plan.mtp_layers, plan.moe_layer)]
    nvfp4_export(plan, _attention_and_mtp(plan), [*_ATTENTION, *layers])


@breaks_as(
    "unmatched-exclusion",
    "an NVFP4 export's list of unquantised modules has an entry that names nothing",
    "QNT121",
    severity=Severity.INFO,
)
def unmatched_exclusion(plan: Plan) -> None:
    """A misspelt module; what it was meant for is unquantised for another reason here."""
    layers = [f"model.layers.{layer}*" for layer in plan.mtp_layers]
    nvfp4_export(plan, _attention_and_mtp(plan), [*_ATTENTION, *layers, "model.layers.0.self_attn.indexers_proj"])
