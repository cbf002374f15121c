"""Builds rows from a config: what every family's layout is made of."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import ClassVar, Generic, TypeVar

from msgspec.structs import replace

from auditor.families.expectations import Expectations, Role, Row, Template
from auditor.families.exports import Export
from auditor.families.naming import Naming
from auditor.families.scaling import Quantiser, fp8_blocks
from auditor.format.dtypes import FROM_TORCH, Dtype
from auditor_schemas.config import ModelConfig

_Config = TypeVar("_Config", bound=ModelConfig)


class Layout(ABC, Generic[_Config]):
    """The rows of one config. A family says which rows a layer has; how they are stored follows from the declaration.

    Rows that several layers have in common are one row, which stands for all its layers: make them in `part`.
    """

    naming: Naming = Naming()
    norm_dtype: ClassVar[Dtype | None] = None
    """The dtype of norms where it is not the one of other unquantised weights."""
    norm_allowed: ClassVar[tuple[Dtype, ...]] = ()
    cache_scales: ClassVar[tuple[str, ...]] = ("self_attn.k_proj.k_scale", "self_attn.v_proj.v_scale")
    """Scales of an FP8 cache, as ModelOpt names them by projections that a layer may not even have."""

    def __init__(self, config: _Config) -> None:
        self.config = config
        self.float_dtype: Dtype = FROM_TORCH[config.float_dtype]
        self.export: Export | None = config.export
        self.own = self.quantiser()
        self.exempt = config.quantization_config.exempt if config.quantization_config is not None else frozenset()
        self._parts: dict[object, tuple[Row, ...]] = {}
        self._stored: dict[tuple[Row, Quantiser | None], tuple[Row, ...]] = {}

    # --- what a family says ---

    @abstractmethod
    def top_rows(self) -> Iterable[Row]:
        """The tensors outside the layers."""

    @abstractmethod
    def layer_rows(self, layer: int) -> Sequence[Row]:
        """The tensors of a layer or MTP module, before they are quantised."""

    def mtp_layers(self) -> Sequence[int]:
        """The layers that are MTP modules; behind those of the main model."""
        return range(self.config.num_hidden_layers, self.config.layer_count)

    def quantiser(self) -> Quantiser | None:
        """How linear layers are stored that have no format of their own; None: as floats."""
        quantization = self.config.quantization_config
        if quantization is None or quantization.weight_block_size is None:
            return None
        return fp8_blocks(quantization.weight_block_size, powers_of_two=quantization.scale_fmt == "ue8m0")

    def quantiser_of(self, module: str, own: Quantiser | None, experts: int) -> Quantiser | None:
        """How a linear layer is stored: as an export has it, or in its own format, or as floats where it is exempt."""
        found = None if self.export is None else self.export.quantiser_of(module, experts)
        if found is not None:
            return found
        return None if own is None or self._are_exempt(module, experts) else own

    # --- all of them together ---

    def expectations(self) -> Expectations:
        """Every tensor the config implies. Layers that hold the same rows share one template."""
        mtp = tuple(self.mtp_layers())
        grouped: dict[tuple[Row, ...], list[int]] = {}
        further = self.part("cache", self._cache_rows)
        for layer in (*range(self.config.num_hidden_layers), *mtp):
            rows = (*self.layer_rows(layer), *(further if layer not in mtp else ()))
            grouped.setdefault(self._store(rows, self.naming.prefix(layer)), []).append(layer)
        templates = tuple(Template(tuple(layers), rows) for rows, layers in grouped.items())
        top = self._store(tuple(self.top_rows()), "")
        return Expectations(top, templates, mtp, self.naming, self.own, export=self.export)

    def _cache_rows(self) -> Iterator[Row]:
        """Scales of the cache of keys and values, which belong to no weight; few exports store them."""
        if self.export is not None and self.export.caches:
            for name in self.cache_scales:
                yield Row(name, (), "F32", "scales", "attention", "scale", optional=True, allowed=("BF16", "F16"))

    def part(self, key: object, make: Callable[[], Iterable[Row]]) -> tuple[Row, ...]:
        """Rows that are made once, however many layers have them."""
        if key not in self._parts:
            self._parts[key] = tuple(make())
        return self._parts[key]

    def _store(self, rows: tuple[Row, ...], prefix: str) -> tuple[Row, ...]:
        """The rows of one layer as they are stored; one row in one format is one row, in whatever layers."""
        stored: list[Row] = []
        for row in rows:
            quantiser = row.quantiser
            if quantiser is not None or self._is_exported(row):
                quantiser = self.quantiser_of(prefix + row.suffix.removesuffix(".weight"), quantiser, row.experts)
            key = row, quantiser
            if key not in self._stored:
                self._stored[key] = tuple(_stored(*key))
            stored += self._stored[key]
        return tuple(stored)

    def _is_exported(self, row: Row) -> bool:
        """Whether an export may store a row in another format, whose own are floats."""
        export = self.export
        return export is not None and (row.linear or (export.heads and row.top and row.suffix == self.naming.head))

    def _are_exempt(self, module: str, experts: int) -> bool:
        """Whether a module is exempt, that of routed experts by one name for all or by the names of all."""
        if not self.exempt:
            return False
        one_by_one = (self._is_exempt(module.replace("{expert}", str(expert))) for expert in range(experts))
        return self._is_exempt(module) or (experts > 0 and all(one_by_one))

    def _is_exempt(self, module: str) -> bool:
        parts = module.split(".")
        runs = (parts[a:b] for a in range(len(parts)) for b in range(a + 1, len(parts) + 1))
        return any(".".join(run) in self.exempt for run in runs)

    # --- rows ---

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
        top: bool = False,
        quantiser: Quantiser | None = None,
    ) -> Iterator[Row]:
        """A linear layer that the release quantises, in the layout's format or its own, and its bias if it has one."""
        yield Row(
            f"{name}.weight",
            (rows, columns),
            self.float_dtype,
            component,
            module,
            "weight",
            top=top,
            experts=experts,
            split=split,
            linear=True,
            quantiser=quantiser or self.own,
        )
        if bias:
            yield Row(f"{name}.bias", (rows,), self.float_dtype, component, module, "bias", top=top)

    def plain(
        self,
        name: str,
        shape: tuple[int, ...],
        component: str,
        module: str,
        *,
        role: Role = "weight",
        dtype: Dtype | None = None,
        allowed: tuple[Dtype, ...] = (),
        split: int | None = None,
        optional: bool = False,
        top: bool = False,
        experts: int = 0,
        below: int | None = None,
    ) -> Row:
        """A tensor that is never quantised, `name` being all of its name."""
        return Row(
            name,
            shape,
            dtype or self.float_dtype,
            component,
            module,
            role,
            top=top,
            experts=experts,
            split=split,
            optional=optional,
            allowed=allowed,
            below=below,
        )

    def norm(self, name: str, width: int, module: str, *, component: str = "norms", top: bool = False) -> Row:
        """An RMS norm's gain."""
        dtype = self.norm_dtype or self.float_dtype
        allowed = self.cast_from(dtype, self.norm_allowed)
        return self.plain(
            f"{name}.weight", (width,), component, module, role="norm", dtype=dtype, allowed=allowed, top=top
        )

    def cast_from(self, dtype: Dtype, allowed: tuple[Dtype, ...] = ()) -> tuple[Dtype, ...]:
        """The further dtypes of a small tensor of a dtype: an export may hold it in that of the other weights."""
        cast = self.export is not None and self.float_dtype not in (dtype, *allowed)
        return (*allowed, self.float_dtype) if cast else allowed


def _stored(row: Row, quantiser: Quantiser | None) -> Iterator[Row]:
    """A row as it is stored: itself where it stays unquantised, else its codes and their companions."""
    if quantiser is None:
        yield row if row.quantiser is None else replace(row, quantiser=None)
        return
    codes = f"{row.suffix.removesuffix('weight')}{quantiser.codes}"
    yield replace(
        row,
        suffix=codes,
        shape=quantiser.stored(row.shape),
        dtype=quantiser.dtype,
        quantiser=quantiser,
        shape_of_weight=row.shape,
    )
    for companion in quantiser.companions:
        yield Row(
            companion.of(codes),
            companion.shape(row.shape),
            companion.dtypes[0],
            "scales",
            row.module,
            "scale",
            top=row.top,
            experts=row.experts,
            split=row.split if companion.meaning == "scale" else None,
            optional=companion.optional,
            allowed=companion.dtypes[1:],
            companion=companion,
            codes=codes,
        )
