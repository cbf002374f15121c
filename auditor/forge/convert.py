"""Conversions of a plan that are sound in themselves, as people make them of a release."""

from collections.abc import Callable
from math import ceil
from typing import Any

from msgspec.structs import replace

from auditor.forge.plan import Plan, Tensor


def bf16_conversion(plan: Plan) -> None:
    """What a correct FP8 to BF16 cast leaves: the same names without scales, and no quantization_config."""
    unquantise(plan)
    del plan.config["quantization_config"]


def unquantise(plan: Plan, wanted: Callable[[str], bool] = lambda _: True) -> None:
    """Put dequantised BF16 in place of the FP8 weights whose name is wanted, and drop their scales."""

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        if tensor.values == "codes" and wanted(tensor.name):
            return (replace(tensor, dtype="BF16", values="dequantised"),)
        if tensor.values == "scales" and wanted(tensor.stream):
            return ()
        return (tensor,)

    plan.rewrite(change)


def nvfp4_parts(tensor: Tensor) -> tuple[Tensor, ...]:
    """What stands in the place of an FP8 weight: two values a byte, a scale per 16 columns, and two scalars."""
    rows, columns = tensor.shape
    module = tensor.name.removesuffix(".weight")
    packed, blocks = (rows, ceil(columns / 2)), (rows, ceil(columns / 16))
    return (
        replace(tensor, dtype="U8", shape=packed, values="weights", origin=packed),
        Tensor(f"{module}.weight_scale", "F8_E4M3", blocks, "weights", f"{module}.weight_scale", blocks),
        Tensor(f"{module}.weight_scale_2", "F32", (), "biases", f"{module}.weight_scale_2", ()),
        Tensor(f"{module}.input_scale", "F32", (), "biases", f"{module}.input_scale", ()),
    )


def nvfp4_export(plan: Plan, left_out: Callable[[str], bool], exclude: list[str]) -> None:
    """What ModelOpt makes of a plan, but for the weights that are left out, with its declaration of them."""
    unquantise(plan, left_out)

    def change(tensor: Tensor) -> tuple[Tensor, ...]:
        if tensor.values == "scales":
            return ()
        return nvfp4_parts(tensor) if tensor.values == "codes" else (tensor,)

    plan.rewrite(change)
    declared: dict[str, Any] = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16}
    plan.sidecar = {"producer": {"name": "modelopt"}, "quantization": {**declared, "exclude_modules": exclude}}
    del plan.config["quantization_config"]
