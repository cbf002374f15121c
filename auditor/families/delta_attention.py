"""Kimi Delta Attention: linear attention with a gate for each channel, as several families have it."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec import Struct

from auditor.families.expectations import Row
from auditor.families.layout import Layout
from auditor.format.dtypes import Dtype

# Gives the rows of a linear layer by name, rows, columns and the axis that tensor parallelism divides.
Linear = Callable[[str, int, int, int | None], Iterable[Row]]


class DeltaAttention(Struct, frozen=True, kw_only=True):
    """The dimensions of such a layer, and what families store differently.

    `decays` is the length of A_log. `full_gate`: the output's gate is one projection, and not one of low rank.
    `convolution` is the dtype of the short convolutions and of the output's norm, the usual one of each first.
    """

    heads: int
    head_dim: int
    kernel: int
    decays: int
    full_gate: bool
    convolution: tuple[Dtype, ...]
    norm: tuple[Dtype, ...]

    def rows(self, layout: Layout[Any], width: int, linear: Linear) -> Iterator[Row]:
        """The tensors of one layer."""
        inner, module, prefix = self.heads * self.head_dim, "attention", "self_attn"
        for name in ("q", "k", "v"):
            yield from linear(f"{prefix}.{name}_proj", inner, width, 0)
            shape, (dtype, *further) = (inner, 1, self.kernel), self.convolution
            yield layout.plain(
                f"{prefix}.{name}_conv1d.weight", shape, module, module, dtype=dtype, allowed=tuple(further), split=0
            )
        yield layout.plain(f"{prefix}.A_log", (self.decays,), module, module, dtype="F32")
        yield layout.plain(f"{prefix}.dt_bias", (inner,), module, module, role="bias", dtype="F32", split=0)
        yield from linear(f"{prefix}.b_proj", self.heads, width, 0)
        for gate in ("f",) if self.full_gate else ("f", "g"):
            yield from linear(f"{prefix}.{gate}_a_proj", self.head_dim, width, None)
            yield from linear(f"{prefix}.{gate}_b_proj", inner, self.head_dim, 0)
        if self.full_gate:
            yield from linear(f"{prefix}.g_proj", inner, width, 0)
        dtype, *further = self.norm
        yield layout.plain(
            f"{prefix}.o_norm.weight",
            (self.head_dim,),
            module,
            module,
            role="norm",
            dtype=dtype,
            allowed=tuple(further),
        )
        yield from linear(f"{prefix}.o_proj", width, inner, 1)
