"""Codes with their companions both ways, and the blocks of their scales: what is there, and what is odd about it."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property

from msgspec import Struct

from auditor.comparison.structure.modules import Misfit, Module
from auditor.families.conventions import CONVENTIONS, FP8_DTYPES, Block
from auditor.format.entries import elements


class Lacking(Struct, frozen=True):
    """Weights without companions that others of their format have. `companion` names what is lacking."""

    module: Module
    companion: str
    dtype: str
    names: tuple[str, ...]
    absent: tuple[str, ...]
    others: int


class Orphans(Struct, frozen=True):
    """Companions of nothing. `beside` is the dtype of the `weights` beside them, None where these are not there."""

    part: str
    shape: tuple[int, ...]
    beside: str | None
    names: tuple[str, ...]
    weights: tuple[str, ...]


class Unfit(Struct, frozen=True):
    """Scales of a shape that no block of the weight gives, or only one that nobody uses."""

    misfit: Misfit
    block: Block | None
    usual: Block | None
    names: tuple[str, ...]


class OddBlock(Struct, frozen=True):
    """Scales for another block than those of most weights of the format have."""

    format: str
    block: Block
    usual: Block
    names: tuple[str, ...]
    others: int


class Unknown(Struct, frozen=True):
    """Codes beside companions that are of no format together."""

    dtype: str
    companions: tuple[str, ...]
    names: tuple[str, ...]


class Found(Struct, frozen=True):
    """Weights of one format: how many, in which blocks most of them, and what they are stored as."""

    format: str
    dtype: str
    scale: str
    block: Block | None
    weights: int
    elements: int
    parameters: int
    example: str
    blocks: int


class Pairs(Struct, frozen=True, dict=True):
    """Codes and companions of all modules."""

    modules: Sequence[Module]

    @cached_property
    def coded(self) -> int:
        """How many weights are stored as codes."""
        return sum(each.count for each in self.modules if each.format or each.stored.unscaled or each.stored.beside)

    @cached_property
    def companions(self) -> int:
        """How many companions there are."""
        return sum(
            each.count * len(each.parts) if each.stored.codes is None else each.count * (len(each.parts) - 1)
            for each in self.modules
        )

    @cached_property
    def _paired(self) -> Counter[str]:
        """How many weights of each class of codes have their scales."""
        found: Counter[str] = Counter()
        for module in self.modules:
            if module.format:
                found[_class_of(module)] += module.count
        return found

    @cached_property
    def _shared(self) -> frozenset[str]:
        """Stems that have one scale for everything below them."""
        return frozenset(
            module.stem
            for module in self.modules
            if module.stored.codes is None and any(elements(kind[1]) == 1 for _, kind in module.parts)
        )

    def _is_shared(self, module: Module) -> bool:
        """Whether something above a module has one scale for it."""
        stem = module.stem
        while self._shared and "." in stem:
            stem = stem.rpartition(".")[0]
            if stem in self._shared:
                return True
        return False

    @cached_property
    def lacking(self) -> tuple[Lacking, ...]:
        """Weights that lack what others of their format have."""
        return tuple(self._lacking())

    def _lacking(self) -> Iterator[Lacking]:
        having: Counter[tuple[str, str]] = Counter()
        for module in self.modules:
            if module.stored.convention is not None:
                for part in module.stored.convention.required:
                    if part not in module.stored.lacking:
                        having[module.format, part] += module.count
        for module in self.modules:
            part, (dtype, _) = module.main
            for companion in module.stored.lacking:
                if having[module.format, companion]:
                    yield Lacking(
                        module, companion, dtype, module.names(part), module.names(companion),
                        having[module.format, companion],
                    )  # fmt: skip
            if module.stored.unscaled and self._paired[_class_of(module)] and not self._is_shared(module):
                scale = self._usual_scale(_class_of(module))
                absent = module.names(scale) if part != "" or scale[0] == "*" else ()
                yield Lacking(module, scale, dtype, module.names(part), absent, self._paired[_class_of(module)])

    def _usual_scale(self, kind: str) -> str:
        counts: Counter[str] = Counter()
        for module in self.modules:
            if module.stored.convention is not None and _class_of(module) == kind:
                counts[module.stored.convention.scale] += module.count
        return counts.most_common(1)[0][0]

    @cached_property
    def unscaled(self) -> tuple[Lacking, ...]:
        """Weights in codes of which none of their kind has scales, or all lack the same."""
        return tuple(self._unscaled())

    def _unscaled(self) -> Iterator[Lacking]:
        told = {(each.module.stem, each.module.parts, each.companion) for each in self.lacking}
        for module in self.modules:
            part, (dtype, _) = module.main
            for companion in module.stored.lacking:
                if (module.stem, module.parts, companion) not in told:
                    yield Lacking(module, companion, dtype, module.names(part), module.names(companion), 0)
            if module.stored.unscaled and not self._paired[_class_of(module)] and not self._is_shared(module):
                yield Lacking(module, "a scale", dtype, module.names(part), (), 0)

    @cached_property
    def orphans(self) -> tuple[Orphans, ...]:
        """Companions of more than one value whose weight is not there, or no codes."""
        return tuple(each for each in self._orphans if elements(each.shape) > 1)

    @cached_property
    def orphan_scalars(self) -> tuple[Orphans, ...]:
        """Companions of one value of which the same is true, and that nothing below them shares."""
        return tuple(each for each in self._orphans if elements(each.shape) <= 1)

    @cached_property
    def _orphans(self) -> tuple[Orphans, ...]:
        found = []
        stems = sorted({module.stem for module in self.modules})
        for module in self.modules:
            if not module.stored.orphans:
                continue
            beside = None if module.stored.codes is None else module.main[1][0]
            for part in module.stored.orphans:
                shape = module.kind(part)[1]
                # Scales of a cache stand in the module that keeps it; one for several tables stands above them.
                if elements(shape) <= 1 and _has_below(stems, module.stem):
                    continue
                codes = module.main[0] if beside is not None else self._codes_of.get(module.stem) or _codes_for(part)
                weights = module.names(codes)
                found.append(Orphans(part, shape, beside, module.names(part), weights))
        return tuple(found)

    @cached_property
    def _with_block(self) -> dict[tuple[str, str], Counter[Block]]:
        """By format and by the name of its scales, how many weights have scales that may be of each block."""
        counts: dict[tuple[str, str], Counter[Block]] = {}
        for module in self.modules:
            convention = module.stored.convention
            if convention is not None:
                of = counts.setdefault((convention.name, convention.scale), Counter())
                for block in module.stored.blocks:
                    of[_plain(block)] += module.count
        return counts

    @cached_property
    def _codes_of(self) -> dict[str, str]:
        """What holds the codes under each stem, where it does."""
        return {module.stem: module.stored.codes for module in self.modules if module.format and module.stored.codes}

    @cached_property
    def usual_blocks(self) -> dict[tuple[str, str], Block]:
        """The block that the scales of most weights of a format, by the name of these, belong to."""
        counts = self._with_block
        return {key: max(of, key=lambda block: (of[block], block.usual)) for key, of in counts.items() if of}

    def _usual(self, module: Module) -> Block | None:
        convention = module.stored.convention
        return None if convention is None else self.usual_blocks.get((convention.name, convention.scale))

    @cached_property
    def unfit(self) -> tuple[Unfit, ...]:
        """Scales that fit no block, or an unusual one that is not that of most."""
        found = []
        for module in self.modules:
            convention, usual = module.stored.convention, self._usual(module)
            if convention is None:
                continue
            names = module.names(convention.scale) if module.stored.misfit or module.stored.blocks else ()
            if module.stored.misfit is not None:
                found.append(Unfit(module.stored.misfit, None, usual, names))
            elif module.stored.blocks and not module.stored.blocks[0].usual and usual not in module.stored.blocks:
                misfit = Misfit(convention.scale, module.kind(convention.scale)[1], module.stored.weight)
                found.append(Unfit(misfit, module.stored.blocks[0], usual, names))
        return tuple(found)

    @cached_property
    def odd_blocks(self) -> tuple[OddBlock, ...]:
        """Scales of another usual block than most, and those of most where that is unusual."""
        found = []
        for module in self.modules:
            convention, usual, here = module.stored.convention, self._usual(module), module.stored.blocks
            if convention is None or usual is None or not here or not (here[0].usual or usual in here):
                continue
            if usual in map(_plain, here) and usual.usual:
                continue
            of = convention.name, convention.scale
            names = module.names(convention.scale)
            found.append(OddBlock(convention.name, here[0], usual, names, self._with_block[of][usual]))
        return tuple(found)

    @cached_property
    def unknown(self) -> tuple[Unknown, ...]:
        """Codes with companions of no format, or with some that their format does not have."""
        return tuple(
            Unknown(module.main[1][0], module.stored.beside, module.names(module.main[0]))
            for module in self.modules
            if module.stored.beside
        )

    @cached_property
    def found(self) -> tuple[Found, ...]:
        """The formats of weights, by the dtype of their codes and the name of their scales; most weights first."""
        alike: dict[tuple[str, str, str], list[Module]] = {}
        for module in self.modules:
            convention = module.stored.convention
            if convention is not None:
                key = (convention.name, module.main[1][0], convention.scale)
                alike.setdefault(key, []).append(module)
        found = [
            Found(
                format=name,
                dtype=dtype,
                scale=scale,
                block=self.usual_blocks.get((name, scale)),
                weights=sum(each.count for each in modules),
                elements=sum(each.count * elements(each.main[1][1]) for each in modules),
                parameters=sum(each.count * each.stored.parameters for each in modules),
                example=modules[0].names(modules[0].main[0], _first(modules[0]))[0],
                blocks=len({each.stored.blocks[0] for each in modules if each.stored.blocks}),
            )
            for (name, dtype, scale), modules in alike.items()
        ]
        return tuple(sorted(found, key=lambda each: (-each.weights, each.format, each.scale)))

    @cached_property
    def parameters(self) -> int:
        """Values that all tensors stand for once they are unpacked; companions are none."""
        return sum(module.count * module.stored.parameters for module in self.modules)


def _first(module: Module) -> dict[tuple[int, ...], list[int]]:
    leading, lasts = next(iter(module.numbers.items()))
    return {leading: [lasts[0]]}


def _plain(block: Block) -> Block:
    """A block whether or not rows begin anew somewhere."""
    return Block(block.rows, block.columns)


def _class_of(module: Module) -> str:
    """What kind of codes a module has, beside which one without scales lacks them."""
    part, (dtype, _) = module.main
    if dtype in FP8_DTYPES:
        return "FP8"
    return f"{part} {dtype}"


def _codes_for(part: str) -> str:
    """What holds the codes that a companion of this name goes with."""
    return next((each.codes for each in CONVENTIONS if part in each.companions and each.codes[0] != "*"), "weight")


def _has_below(stems: Sequence[str], stem: str) -> bool:
    at = bisect_right(stems, f"{stem}.")
    return at < len(stems) and stems[at].startswith(f"{stem}.")
