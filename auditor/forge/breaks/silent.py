"""Breaks of values that loaders and most checkers pass over: equal bytes, odd magnitudes, the texture of codes."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from msgspec.structs import replace

from auditor.families.scaling import scale_name
from auditor.forge.breaks.values import Array, block_scales, expert_weight, value_break
from auditor.forge.plan import Plan
from auditor.format.dtypes import FP8
from auditor_schemas.rule import Severity


def _other_expert(plan: Plan) -> str:
    """The same weight of the next expert."""
    return plan.expert.replace(f"{plan.naming.experts}1.", f"{plan.naming.experts}2.")


def _in_file(plan: Plan, name: str, change: Callable[[bytearray, int], None]) -> None:
    """Change the written bytes of a shard; `change` gets them, and where the second whole page of a tensor begins."""
    holder = plan.holder(name)

    def edit(directory: Path) -> None:
        from auditor.forge.write import header_bytes, spans

        path = directory / holder.file
        data = bytearray(path.read_bytes())
        begin = 8 + len(header_bytes(holder)[0]) + spans(holder)[0][name][0]
        change(data, begin + -begin % 4096 + 4096)
        path.write_bytes(data)

    plan.afterwards.append(edit)


@value_break("equal-tensors", "an expert's weight is another expert's", "VAL129")
def equal_tensors(plan: Plan) -> None:
    """One matrix that a merge took from the wrong place, with its scales: the rest of the expert is its own."""
    stream = next(tensor.stream for tensor in plan.tensors() if tensor.name == plan.expert)
    other = _other_expert(plan)
    plan.rewrite(lambda tensor: (replace(tensor, stream=stream) if tensor.stream == other else tensor,))


@value_break("untied-head-is-embedding", "the head is the embedding, which config.json does not tie", "VAL129")
def head_is_embedding(plan: Plan) -> None:
    """An export that tied what was not."""
    naming = plan.naming
    plan.rewrite(lambda tensor: (replace(tensor, stream=naming.embedding) if tensor.stream == naming.head else tensor,))


@value_break("equal-strips", "128 rows of a weight are there twice", "VAL130")
def equal_strips(plan: Plan) -> None:
    """A part of a shard that was written where the next one belongs; here a weight's second rows of blocks."""
    name = next(name for name, row in plan.rows.items() if row.quantised and row.dtype == FP8 and row.shape[0] >= 256)

    def edit(codes: Array) -> Array:
        codes[128:256] = codes[:128]
        return codes

    plan.edit(name.__eq__, edit)


@value_break("doubled-page", "4 KiB of a weight are there twice", "VAL130", also=("VAL109",))
def doubled_page(plan: Plan) -> None:
    """A write that was repeated one page further."""

    def double(data: bytearray, page: int) -> None:
        data[page + 4096 : page + 8192] = data[page : page + 4096]

    _in_file(plan, plan.expert, double)


@value_break("text-in-codes", "4 KiB of a weight are text", "VAL136", severity=Severity.WARNING, also=("VAL109",))
def text_in_codes(plan: Plan) -> None:
    """A page of a download that was a web page."""
    text = b"<p>Too many requests. Please try again later.</p>\n" * 100

    def write(data: bytearray, page: int) -> None:
        data[page : page + 4096] = text[:4096]

    _in_file(plan, plan.expert, write)


@value_break("zeros-in-codes", "4 KiB of a weight are zeros", "VAL137", severity=Severity.WARNING, also=("VAL109",))
def zeros_in_codes(plan: Plan) -> None:
    """A page that was never written."""

    def write(data: bytearray, page: int) -> None:
        data[page : page + 4096] = bytes(4096)

    _in_file(plan, plan.expert, write)


@value_break("random-codes", "4 KiB of a weight are random", "VAL138", severity=Severity.WARNING, also=("VAL109",))
def random_codes(plan: Plan) -> None:
    """A page of compressed or encrypted bytes, in which no code happens to be NaN."""

    def write(data: bytearray, page: int) -> None:
        random = Random(0)  # noqa: S311  # no secret
        codes = (code for code in iter(lambda: random.getrandbits(8), None) if code & 0x7F != 0x7F)
        data[page : page + 4096] = bytes(next(codes) for _ in range(4096))

    _in_file(plan, plan.expert, write)


@value_break("flipped-exponent-bit", "a router holds 10^36", "VAL131")
def flipped_exponent(plan: Plan) -> None:
    """The highest bit of the exponent of one BF16, which is no NaN and no infinity."""

    def edit(bits: Array) -> Array:
        bits[1, 2] ^= 0x4000
        return bits

    plan.edit(plan.router.__eq__, edit)


@value_break("big-endian-norm", "a norm's bytes are in the other order", "VAL132", also=("VAL102", "VAL131"))
def big_endian(plan: Plan) -> None:
    """As a machine of another byte order writes it."""
    plan.edit(plan.input_norm.__eq__, lambda bits: bits.byteswap())


@value_break("f16-bits-in-router", "a router's BF16 are F16 bits", "VAL132")
def f16_in_router(plan: Plan) -> None:
    """Bytes of a checkpoint in F16 behind a header that says BF16: weights of 10^-16."""
    plan.edit(plan.router.__eq__, _as_f16)


@value_break("f16-bits-in-norm", "a norm's BF16 are F16 bits", "VAL133", severity=Severity.WARNING)
def f16_in_norm(plan: Plan) -> None:
    """The same of numbers about 1, which are a hundredth then."""
    plan.edit(plan.input_norm.__eq__, _as_f16)


def _as_f16(bits: Array) -> Array:
    return (bits.astype("<u4") << 16).view("<f4").astype("<f2").view("<u2")


@value_break("zero-rows", "a quarter of the head is zeros", "VAL134")
def zero_rows(plan: Plan) -> None:
    """One of four ranks' parts that was allocated and never filled; the MTP module's copy alike."""

    def edit(bits: Array) -> Array:
        bits[len(bits) // 4 : len(bits) // 2] = 0
        return bits

    stream = plan.naming.head
    plan.edit({tensor.name for tensor in plan.tensors() if tensor.stream == stream}.__contains__, edit)


@value_break("doubled-rows", "half of the embedding is the other half", "VAL135")
def doubled_rows(plan: Plan) -> None:
    """Two ranks' parts of which one was taken twice; the MTP module's copy alike."""

    def edit(bits: Array) -> Array:
        half = len(bits) // 2
        bits[half : 2 * half] = bits[:half]
        return bits

    stream = plan.naming.embedding
    plan.edit({tensor.name for tensor in plan.tensors() if tensor.stream == stream}.__contains__, edit)


@value_break("large-scale", "one block scale is 256 times too large", "VAL108", severity=Severity.WARNING)
def large_scale(plan: Plan) -> None:
    """A flipped bit of the exponent, as of a multiplication that happened twice."""

    def edit(scales: Array) -> Array:
        scales[1, 1] *= 256
        return scales

    plan.edit(scale_name(expert_weight(plan)).__eq__, edit)


@value_break("small-scale", "one block scale is 256 times too small", "VAL108", severity=Severity.WARNING)
def small_scale(plan: Plan) -> None:
    """The same the other way: the block all but vanishes."""

    def edit(scales: Array) -> Array:
        scales[1, 1] /= 256
        return scales

    plan.edit(scale_name(expert_weight(plan)).__eq__, edit)


@value_break("vanishing-scales", "one weight's scales are 2^24 times too small", "VAL120", also=("VAL109",))
def vanishing_scales(plan: Plan) -> None:
    """Far below its kind, which agrees: no model has such a weight, and no expert decays in one matrix alone."""
    plan.edit(scale_name(expert_weight(plan)).__eq__, lambda scales: scales / 2**24)


@value_break(
    "f16-rounded-scales", "all block scales went through F16", "VAL116", severity=Severity.WARNING, also=("VAL109",)
)
def f16_rounded_scales(plan: Plan) -> None:
    """F32 again, but with the 11 significant bits of F16."""
    plan.edit(block_scales(plan).__contains__, lambda scales: scales.astype("<f2").astype("<f4"))
