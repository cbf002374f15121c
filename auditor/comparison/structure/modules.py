"""What belongs together: the tensors under one stem, and the format of weights that they are by the conventions."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from math import prod

from msgspec import Struct

from auditor.comparison.structure.patterns import Numbers, Pattern, is_whole, spelled
from auditor.families.conventions import (
    ATTACHED,
    CACHE_SCALES,
    CERTAIN_COMPANIONS,
    CONVENTIONS,
    FP8_DTYPES,
    Block,
    Convention,
    Shape,
    blocks,
    is_float,
    is_packed,
    split,
    weights,
)
from auditor.format.entries import Kind, elements

# What stands under a stem: the name of each part, `*` in it for the stem's own last component, with dtype and shape.
Parts = tuple[tuple[str, Kind], ...]


class Misfit(Struct, frozen=True):
    """Scales of a shape that no block of the weight gives."""

    scale: str
    shape: Shape
    weight: Shape


class Stored(Struct, frozen=True):
    """How something is stored. `convention` None: no known format of codes, plain values for example.

    `codes` is the part that holds the weight, where one does; `weight` the shape that it stands for. `blocks`: those
    that the scales may belong to. `lacking`: companions that the format needs. `orphans`: companions of no codes.
    `beside`: companions that the format does not have. `unscaled`: codes without any scale.
    """

    codes: str | None = None
    convention: Convention | None = None
    weight: Shape = ()
    blocks: tuple[Block, ...] = ()
    lacking: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    misfit: Misfit | None = None
    unscaled: bool = False

    @property
    def parameters(self) -> int:
        """Values that it stands for; companions are none."""
        return elements(self.weight) if self.codes is not None else 0


class Module(Struct, frozen=True, dict=True):
    """Stems alike in everything but their numbers: what stands under each of them."""

    stem: str
    parts: Parts
    numbers: Numbers
    stored: Stored

    @cached_property
    def count(self) -> int:
        """How many there are."""
        return sum(map(len, self.numbers.values()))

    def kind(self, part: str) -> Kind:
        """Dtype and shape of a part."""
        return dict(self.parts)[part]

    @property
    def main(self) -> tuple[str, Kind]:
        """The part that holds the weight, or the first one."""
        held = dict(self.parts)
        part = self.stored.codes if self.stored.codes is not None else self.parts[0][0]
        return part, held[part]

    @property
    def format(self) -> str:
        """The format's name; that of plain values is empty."""
        return self.stored.convention.name if self.stored.convention is not None else ""

    def text(self, part: str) -> str:
        """The pattern of a part."""
        return part_of(self.stem, part)

    def names(self, part: str, numbers: Numbers | None = None) -> tuple[str, ...]:
        """The names of a part, of all that are here or of some."""
        return tuple(spelled(self.text(part), self.numbers if numbers is None else numbers))


def part_of(stem: str, part: str) -> str:
    """The pattern of a part under a stem."""
    if not part:
        return stem
    return f"{stem}{part[1:]}" if part[0] == "*" else f"{stem}.{part}"


def modules_of(patterns: Mapping[str, Pattern], bits: int | None = None) -> tuple[Module, ...]:
    """All stems with what they hold. `bits` are those that packed codes are declared to have."""
    read: dict[Parts, Stored] = {}
    found: list[Module] = []
    for stem, held in _stems(patterns).items():
        for parts, numbers in _alike(held).items():
            if parts not in read:
                read[parts] = stored(dict(parts), bits)
            found.append(Module(stem, parts, numbers, read[parts]))
    return tuple(found)


def _stems(patterns: Mapping[str, Pattern]) -> dict[str, dict[str, Pattern]]:
    stems: dict[str, dict[str, Pattern]] = {}
    for text, pattern in patterns.items():
        stem, part = (text, "") if is_whole(text) else split(text)
        stems.setdefault(stem, {})[part] = pattern
    for text in [each for each, held in stems.items() if list(held) == [""] and not is_whole(each)]:
        _attach(stems, text)
    return stems


def _attach(stems: dict[str, dict[str, Pattern]], text: str) -> None:
    """Put a companion whose suffix is part of its last component to the codes that it belongs to."""
    for suffix, codes in ATTACHED:
        base = text.removesuffix(suffix)
        held = stems.get(base + codes)
        if base == text or held is None or text not in stems:
            continue
        own = "" if "" in held else "*"
        if own not in held or not any(is_packed(dtype) for dtype, _ in held[own].kinds):
            continue
        if codes:  # both have a suffix, and what is before it is the stem
            stems[base] = {**stems.get(base, {}), f"*{codes}": held[own], f"*{suffix}": stems.pop(text)[""]}
            del stems[base + codes]
        else:
            held["*"] = held.pop(own)
            held[f"*{suffix}"] = stems.pop(text)[""]
        return


def _alike(held: Mapping[str, Pattern]) -> dict[Parts, Numbers]:
    """The stems of one pattern by what they hold."""
    every = [(part, kind, numbers) for part in sorted(held) for kind, numbers in held[part].kinds.items()]
    first = every[0][2]
    if len(every) == len(held) and all(numbers == first for _, _, numbers in every[1:]):
        return {tuple((part, kind) for part, kind, _ in every): first}
    found: dict[Parts, dict[tuple[int, ...], list[int]]] = {}
    for leading in dict.fromkeys(leading for _, _, numbers in every for leading in numbers):
        here = [(part, kind, numbers[leading]) for part, kind, numbers in every if leading in numbers]
        if len(here) == len({part for part, _, _ in here}) and all(lasts == here[0][2] for _, _, lasts in here):
            found.setdefault(tuple((part, kind) for part, kind, _ in here), {})[leading] = list(here[0][2])
            continue
        by_last: dict[int, dict[str, Kind]] = {}
        for part, kind, lasts in here:
            for last in lasts:
                by_last.setdefault(last, {})[part] = kind  # of a name in several shards the last, as loaders take it
        for last, parts in sorted(by_last.items()):
            found.setdefault(tuple(parts.items()), {}).setdefault(leading, []).append(last)
    return dict(found)


# --- the format of one ---


def stored(parts: Mapping[str, Kind], bits: int | None = None) -> Stored:
    """The format that parts are, by the first convention that they fit."""
    second = None
    for convention in CONVENTIONS:
        codes, scale = parts.get(convention.codes), parts.get(convention.scale)
        if codes is None or scale is None:
            continue
        if codes[0] not in convention.dtypes or scale[0] not in convention.scale_dtypes:
            continue
        found = _fit(convention, parts, bits)
        if found.misfit is None and (not found.blocks or found.blocks[0].usual):
            return found
        if second is None or (second.misfit is not None and found.misfit is None):
            second = found
    return second if second is not None else _without_format(parts)


def _fit(convention: Convention, parts: Mapping[str, Kind], bits: int | None) -> Stored:
    """Parts as codes of a format: the shape of the weight, and the blocks that its scales are of."""
    (dtype, shape), scale = parts[convention.codes], parts[convention.scale][1]
    if convention.transposed:
        scale = scale[::-1]
    best: tuple[Shape, list[Block]] | None = None
    first: Shape = ()
    for weight in weights(convention, shape, dtype, bits):
        first = first or weight
        if convention.opaque or not _agrees(convention, parts, weight):
            continue
        found = blocks(weight, scale)
        if convention.blocks:
            found = [block for block in found if block in convention.blocks]
        if found and (best is None or found[0].likelihood > best[1][0].likelihood):
            best = weight, found
        if best is not None and bits in convention.bits:
            break  # what is declared comes first
    untold = best is not None or convention.opaque or not elements(first)
    misfit = None if untold else Misfit(convention.scale, scale, first)
    weight, found = best or (first, [])
    if convention.opaque:
        weight = (2 * prod(shape),) if dtype == "U8" else shape
    return Stored(
        codes=convention.codes,
        convention=convention,
        weight=weight,
        blocks=tuple(found),
        lacking=tuple(part for part in convention.required if part not in parts),
        beside=tuple(
            part
            for part in parts
            if part != convention.codes and _is_companion(part) and part not in convention.companions
        ),
        misfit=misfit,
    )


def _agrees(convention: Convention, parts: Mapping[str, Kind], weight: Shape) -> bool:
    """Whether what GPTQ and AWQ have beside codes and scales has the size that this many bits give it."""
    if not convention.transposed or len(weight) != 2:
        return True
    rows, columns = weight
    order, zeros = parts.get("g_idx"), parts.get("qzeros")
    codes = parts[convention.codes][1]
    bits = 32 * prod(codes) // max(1, rows * columns)
    return (order is None or order[1] == (columns,)) and (
        zeros is None or zeros[1][1:] in ((rows * bits // 32,), (-(-rows * bits // 32),))
    )


def _without_format(parts: Mapping[str, Kind]) -> Stored:
    """Parts that are no format that is known: plain values, codes without scales, companions without codes."""
    codes = next(
        (part for part in ("weight", "weight_packed", "qweight", "weight._data", "*", "") if part in parts), None
    )
    if codes is None:
        codes = next((part for part in parts if not _is_companion(part)), None)
    companions = tuple(part for part in parts if part != codes and _is_companion(part))
    if codes is None:
        alone = next((part for part in parts if part not in CERTAIN_COMPANIONS), None)
        orphans = tuple(part for part in parts if _is_orphan(part, parts[part]))
        rest = alone if alone is not None and alone not in orphans else None
        return Stored(codes=rest, weight=parts[rest][1] if rest is not None else (), orphans=orphans)
    dtype, shape = parts[codes]
    if is_float(dtype) or not is_packed(dtype):
        # Scales of a cache stand beside weights of any dtype.
        orphans = tuple(part for part in companions if part not in CACHE_SCALES and _is_orphan(part, parts[part]))
        return Stored(codes=codes, weight=shape, orphans=orphans)
    scales = tuple(part for part in companions if _scales_codes(part))
    return Stored(codes=codes, weight=shape, beside=scales, unscaled=not scales and _are_codes(codes, dtype, shape))


def _are_codes(part: str, dtype: str, shape: Shape) -> bool:
    """Whether a tensor needs scales: a matrix of one-byte floats, or one of integers under a weight's own name."""
    if len(shape) < 2:
        return False
    return dtype in FP8_DTYPES or part in ("weight_packed", "qweight") or (part == "weight" and dtype in ("I8", "U8"))


def _scales_codes(part: str) -> bool:
    return any(part == convention.scale for convention in CONVENTIONS)


def _is_companion(part: str) -> bool:
    return part in _COMPANIONS or part.startswith("weight.quant_state.")


def _is_orphan(part: str, kind: Kind) -> bool:
    """Whether a part that stands without codes is something's companion for certain.

    Several layouts name a parameter `scale` or `scales`; only one that is stored as exponents is none.
    """
    return part in CERTAIN_COMPANIONS or part in CACHE_SCALES or kind[0] == "F8_E8M0"


_COMPANIONS = frozenset(each for convention in CONVENTIONS for each in convention.companions) | CACHE_SCALES


def formats(modules: Iterator[Module] | tuple[Module, ...]) -> dict[str, list[Module]]:
    """The modules of each format; plain ones are of none."""
    found: dict[str, list[Module]] = {}
    for module in modules:
        if module.format:
            found.setdefault(module.format, []).append(module)
    return found
