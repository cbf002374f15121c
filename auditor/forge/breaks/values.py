"""Breaks of tensors' values, which only reading every byte shows. Headers, index and config.json stay sound."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from auditor.families.scaling import scale_name
from auditor.forge.breaks import Apply, Break, breaks_as
from auditor.forge.plan import Plan, Tensor
from auditor.patterns import layer_of
from auditor_schemas.rule import Severity

# An array that an edit gets is numpy's; its own methods are enough, so that listing breaks imports no numpy.
Array = Any


def value_break(
    name: str, title: str, rule: str, *, severity: Severity = Severity.ERROR, also: tuple[str, ...] = ()
) -> Callable[[Apply], Break]:
    """A break that shows at depth full."""
    return breaks_as(name, title, rule, severity=severity, also=also, depth="full")


def expert_weight(plan: Plan, projection: str = "up", number: int = 1) -> str:
    """The name of one routed expert's weight in a middle layer."""
    return f"model.layers.{plan.moe_layer}.mlp.experts.{number}.{projection}_proj.weight"


def _norm(plan: Plan) -> str:
    return f"model.layers.{plan.moe_layer}.post_attention_layernorm.weight"


def block_scales(plan: Plan) -> set[str]:
    """The names of all block scales."""
    return {tensor.name for tensor in plan.tensors() if tensor.values == "scales"}


def _put(value: float, *places: tuple[int, ...]) -> Callable[[Array], Array]:
    """An edit that writes one value at some places."""

    def edit(values: Array) -> Array:
        for place in places:
            values[place] = value
        return values

    return edit


@value_break("nan-codes", "an FP8 weight holds NaN codes", "VAL101", also=("VAL109",))
def nan_codes(plan: Plan) -> None:
    """Both of them, in two blocks; whatever they are multiplied with is NaN."""

    def edit(codes: Array) -> Array:
        codes[3, 130], codes[5, 7], codes[-1, -1] = 0x7F, 0xFF, 0x7F
        return codes

    plan.edit(expert_weight(plan).__eq__, edit)


@value_break("nan-in-norm", "a norm holds NaN", "VAL102")
def nan_in_norm(plan: Plan) -> None:
    """One value of one layer, as a diverged training step leaves it."""
    plan.edit(_norm(plan).__eq__, _put(0x7FC0, (17,)))


@value_break("infinite-router", "a router holds infinity", "VAL102")
def infinite_router(plan: Plan) -> None:
    """As a cast from F32 to F16 and on to BF16 leaves what F16 cannot hold."""
    plan.edit(f"model.layers.{plan.moe_layer}.mlp.gate.weight".__eq__, _put(0xFF80, (1, 2), (3, 4)))


@value_break("nan-scale", "two block scales are NaN", "VAL103", also=("VAL109",))
def nan_scale(plan: Plan) -> None:
    """A block that held NaN when it was quantised."""
    plan.edit(scale_name(expert_weight(plan)).__eq__, _put(float("nan"), (0, 1), (1, 2)))


@value_break("infinite-scale", "a block scale is infinite", "VAL103", also=("VAL109",))
def infinite_scale(plan: Plan) -> None:
    """One block; also what 1 / 0 leaves."""
    plan.edit(scale_name(expert_weight(plan)).__eq__, _put(float("inf"), (1, 0)))


@value_break("zero-scale", "a block scale is zero", "VAL104", also=("VAL109",))
def zero_scale(plan: Plan) -> None:
    """The block's weights are all 0 when it is multiplied."""
    plan.edit(scale_name(expert_weight(plan)).__eq__, _put(0.0, (1, 1)))


@value_break("zero-scales", "all block scales of the checkpoint are zero", "VAL104", also=("VAL109",))
def zero_scales(plan: Plan) -> None:
    """Buffers that were allocated and never filled."""
    plan.edit(block_scales(plan).__contains__, lambda scales: scales * 0)


@value_break("negative-scale", "a block scale is negative", "VAL105", also=("VAL109",))
def negative_scale(plan: Plan) -> None:
    """A flipped sign bit."""

    def edit(scales: Array) -> Array:
        scales[0, 2] = -scales[0, 2]
        return scales

    plan.edit(scale_name(expert_weight(plan)).__eq__, edit)


@value_break("subnormal-scale", "a block scale is subnormal", "VAL106", also=("VAL109",))
def subnormal_scale(plan: Plan) -> None:
    """A GPU that flushes subnormals takes it for 0."""
    plan.edit(scale_name(expert_weight(plan)).__eq__, _put(1e-40, (0, 0)))


@value_break(
    "arbitrary-scales-as-ue8m0", "scale_fmt is ue8m0, block scales are no powers of two", "VAL107", also=("VAL109",)
)
def arbitrary_scales(plan: Plan) -> None:
    """Kernels for ue8m0 read the exponent alone."""
    plan.powers_of_two = False
    plan.config["quantization_config"]["scale_fmt"] = "ue8m0"


@value_break("reciprocal-scale-grid", "one weight's scales are stored as reciprocals", "VAL120", also=("VAL109",))
def reciprocal_grid(plan: Plan) -> None:
    """The name says inverse and the format means the multiplier."""
    plan.edit(scale_name(expert_weight(plan)).__eq__, lambda scales: 1 / scales)


@value_break("reciprocal-scales", "all block scales are stored as reciprocals", "VAL120", also=("VAL109",))
def reciprocal_scales(plan: Plan) -> None:
    """No tensor differs from its kind, so only the magnitude itself shows it."""
    plan.edit(block_scales(plan).__contains__, lambda scales: 1 / scales)


@value_break("unit-scales", "all block scales are 1", "VAL120", also=("VAL109",))
def unit_scales(plan: Plan) -> None:
    """Buffers that were allocated with ones and never filled: codes of up to 448 are taken for the weights."""
    plan.edit(block_scales(plan).__contains__, lambda scales: scales * 0 + 1)


@value_break("text-in-scales", "one weight's scales are text", "VAL120", also=("VAL109",))
def text_in_scales(plan: Plan) -> None:
    """Bytes of a web page, each four of them a number of 10^30 and the like."""

    def edit(scales: Array) -> Array:
        text = b"<p>Too many requests. Please try again later. "
        count = scales.size * 4
        return type(scales)(scales.shape, scales.dtype, (text * (count // len(text) + 1))[:count])

    plan.edit(scale_name(expert_weight(plan)).__eq__, edit)


@value_break("huge-scale", "one block scale is 65,536 times too large", "VAL108", severity=Severity.WARNING)
def huge_scale(plan: Plan) -> None:
    """A flipped bit of the exponent; the block still round-trips."""

    def edit(scales: Array) -> Array:
        scales[1, 1] *= 65536
        return scales

    plan.edit(scale_name(expert_weight(plan)).__eq__, edit)


@value_break("overflowing-scale", "one block scale times its codes is infinite", "VAL118", also=("VAL120",))
def overflowing_scale(plan: Plan) -> None:
    """A number itself, and so are the codes."""

    def edit(scales: Array) -> Array:
        scales[1, 1] = 3e38
        return scales

    plan.edit(scale_name(expert_weight(plan)).__eq__, edit)


@value_break(
    "swapped-scales",
    "two weights of different magnitude have each other's scales",
    "VAL108",
    severity=Severity.WARNING,
    also=("VAL109",),
)
def swapped_scales(plan: Plan) -> None:
    """Two of one expert's, all whose up_proj are 256 times larger here than the gate_proj of the same shape."""
    gate, up = scale_name(expert_weight(plan, "gate")), scale_name(expert_weight(plan, "up"))
    streams = {tensor.name: tensor.stream for tensor in plan.tensors() if tensor.name in (gate, up)}
    plan.alter(gate.__eq__, stream=streams[up])
    plan.alter(up.__eq__, stream=streams[gate])
    larger = {name for name in block_scales(plan) if ".mlp.experts." in name and ".up_proj." in name}
    plan.edit((larger - {up} | {gate}).__contains__, lambda scales: scales * 256)


@value_break("bf16-rounded-scales", "all block scales went through BF16", "VAL116", severity=Severity.WARNING)
def rounded_scales(plan: Plan) -> None:
    """F32 again, but their last 16 bits are gone; every weight of a block is off by up to 0.39 %."""

    def edit(scales: Array) -> Array:
        bits = scales.view("<u4")
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).view("<f4")

    plan.edit(block_scales(plan).__contains__, edit)


@value_break("lost-code-bit", "one block's codes have lost a bit", "VAL109", severity=Severity.WARNING)
def lost_code_bit(plan: Plan) -> None:
    """The exponent's highest: the block's largest weights are gone, and its scale no longer follows from them."""

    def edit(codes: Array) -> Array:
        codes[:128, :128] &= 0xBF
        return codes

    plan.edit(expert_weight(plan).__eq__, edit)


@value_break("zero-weight", "an FP8 weight is entirely zero", "VAL110", also=("VAL109",))
def zero_weight(plan: Plan) -> None:
    """A buffer that was allocated and never filled."""
    plan.edit(expert_weight(plan).__eq__, lambda codes: codes * 0)


@value_break(
    "zeroed-expert", "a routed expert was quantised from zeros", "VAL119", severity=Severity.WARNING, also=("VAL114",)
)
def zeroed_expert(plan: Plan) -> None:
    """As pruning leaves experts in place, and padding makes more of them."""
    prefix = f"model.layers.{plan.moe_layer}.mlp.experts.1."
    scales = {name for name in block_scales(plan) if name.startswith(prefix)}
    codes = {tensor.name for tensor in plan.tensors() if tensor.name.startswith(prefix)} - scales
    plan.edit(codes.__contains__, lambda codes: codes * 0)
    plan.edit(scales.__contains__, lambda scales: scales * 0 + scales.dtype.type(1e-4) / scales.dtype.type(448))


@value_break("unscaled-codes", "BF16 weights are FP8 codes without their scales", "VAL123")
def unscaled_codes(plan: Plan) -> None:
    """A conversion to BF16 that cast the codes and never multiplied."""
    weights = {tensor.name for tensor in plan.tensors() if tensor.values == "codes"}
    del plan.config["quantization_config"]
    plan.drop(block_scales(plan).__contains__)
    plan.alter(weights.__contains__, dtype="BF16", values="weights")

    def edit(bits: Array) -> Array:
        from auditor.content.fp8 import decode_table, encode_bf16, encode_e4m3

        weight = (bits.astype("<u4") << 16).view("<f4")
        return encode_bf16(decode_table()[encode_e4m3(weight * (448 / abs(weight).max()))])

    plan.edit(weights.__contains__, edit)


@value_break("zero-norm", "a norm is entirely zero", "VAL110")
def zero_norm(plan: Plan) -> None:
    """Whatever passes it is 0."""
    plan.edit(_norm(plan).__eq__, lambda bits: bits * 0)


@value_break("constant-norm", "a norm is 1 throughout", "VAL111", severity=Severity.WARNING)
def constant_norm(plan: Plan) -> None:
    """As it was initialised: never trained, or not loaded before it was saved."""
    plan.edit(_norm(plan).__eq__, lambda bits: bits * 0 + 0x3F80)


@value_break(
    "zero-filled-tail",
    "a shard's second half is zeros",
    "VAL112",
    also=("VAL104", "VAL109", "VAL110", "VAL114", "VAL124"),
)
def zero_filled_tail(plan: Plan) -> None:
    """A truncated download, made as long as it should be."""
    file = plan.middle.file

    def cut(directory: Path) -> None:
        path = directory / file
        size = path.stat().st_size
        with path.open("r+b") as shard:
            shard.truncate(size // 2)
            shard.truncate(size)

    plan.afterwards.append(cut)


def _stale(plan: Plan, ending: str) -> None:
    name = f"model.layers.{plan.mtp_layers[0]}.{ending}.weight"
    plan.alter(name.__eq__, stream=name)


@value_break("stale-mtp-embedding", "the MTP module's embedding is not the main model's", "VAL113")
def stale_embedding(plan: Plan) -> None:
    """A fine-tune that trained the main model's alone."""
    _stale(plan, "embed_tokens")


@value_break("stale-mtp-head", "the MTP module's head is not the main model's", "VAL113")
def stale_head(plan: Plan) -> None:
    """The same of the other end."""
    _stale(plan, "shared_head.head")


def _copy(plan: Plan, old: str, new: str) -> None:
    """Give the tensors below one prefix the content of those below another."""

    def change(tensor: Tensor) -> tuple[Tensor]:
        if not tensor.name.startswith(new):
            return (tensor,)
        return (replace(tensor, stream=old + tensor.stream.removeprefix(new)),)

    plan.rewrite(change)


@value_break("identical-experts", "two experts of a layer are the same", "VAL114", severity=Severity.WARNING)
def identical_experts(plan: Plan) -> None:
    """A merge that wrote one expert twice."""
    prefix = f"model.layers.{plan.moe_layer}.mlp.experts."
    _copy(plan, f"{prefix}1.", f"{prefix}2.")


@value_break("identical-layers", "two layers are the same", "VAL115", severity=Severity.WARNING, also=("VAL114",))
def identical_layers(plan: Plan) -> None:
    """As a model that was made deeper by repeating layers, and never trained on."""
    layer = plan.moe_layer
    assert any(layer_of(tensor.name) == layer + 1 for tensor in plan.tensors())
    _copy(plan, f"model.layers.{layer}.", f"model.layers.{layer + 1}.")
