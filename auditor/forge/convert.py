"""Conversions of a plan that are sound in themselves, as people make them of a release."""

from collections.abc import Callable

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
