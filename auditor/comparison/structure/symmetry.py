"""Completeness by symmetry: experts beside the experts of their layer, layers beside the layers of their stack."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice

from msgspec import Struct

from auditor.comparison.structure.modules import Module, part_of
from auditor.comparison.structure.patterns import MARK, is_whole, spell
from auditor.families.conventions import CERTAIN_COMPANIONS
from auditor.format.entries import Kind

# A component before the number of an expert ends in this.
_EXPERTS = "experts"
# Components before the numbers of a stack's layers. What torch calls a Sequential is numbered too, and has holes where
# its modules hold nothing.
_STACKS = frozenset({"layers", "layer", "blocks", "block", "h", "resblocks"})
# A stack of fewer layers shows nothing by its own symmetry.
_LEAST_LAYERS = 4
# What a layer may lack of another class and still look like one of it.
_FEW = 3
_LEAST_CLASS = 2


class Hole(Struct, frozen=True):
    """Experts of one layer that lack a module which the others have, or that are not there at all.

    `names` are tensors that are not there, `of` how many experts have the module.
    """

    container: str
    module: str
    experts: tuple[int, ...]
    names: tuple[str, ...]
    of: int


class OtherExperts(Struct, frozen=True):
    """Layers whose experts are numbered otherwise than those of most layers of their stack, or begin beyond 0.

    `names` are of the first of these experts, `absent` those that would make them as usual.
    """

    container: str
    layers: tuple[int, ...]
    first: int
    last: int
    usual: tuple[int, int]
    names: tuple[str, ...]
    absent: tuple[str, ...]


class Gap(Struct, frozen=True):
    """Numbers that a stack of layers lacks between those it has, or in front of them.

    `names` are what the layers would have if they were like most.
    """

    stack: str
    layers: tuple[int, ...]
    first: int
    last: int
    names: tuple[str, ...]


class Smaller(Struct, frozen=True):
    """A layer that lacks what others have: `others` of them, all of its stack or a class of it."""

    stack: str
    layer: int
    names: tuple[str, ...]
    others: int


class OddKind(Struct, frozen=True):
    """Tensors of one pattern whose dtype or shape is another than that of most."""

    pattern: str
    actual: Kind
    usual: Kind
    names: tuple[str, ...]
    of: int


class Symmetry(Struct, frozen=True, dict=True):
    """What the modules of a checkpoint say of each other."""

    modules: Sequence[Module]

    # --- experts ---

    @cached_property
    def _experts(self) -> dict[str, dict[tuple[int, ...], dict[str, set[int]]]]:
        """By what stands before an expert's number, by the layer's numbers and by module: the experts that have it."""
        found: dict[str, dict[tuple[int, ...], dict[str, set[int]]]] = {}
        for module in self.modules:
            container, tail = _of_expert(module.stem)
            if not container:
                continue
            sets = found.setdefault(container, {})
            for leading, lasts in module.numbers.items():
                sets.setdefault(leading, {}).setdefault(tail, set()).update(lasts)
        return found

    @cached_property
    def expert_sets(self) -> int:
        """How many sets of experts there are: one for each layer that has any."""
        return sum(map(len, self._experts.values()))

    @cached_property
    def _parts(self) -> dict[str, list[str]]:
        """The patterns of what stands under each stem in most places."""
        most: dict[str, Module] = {}
        for module in self.modules:
            if module.stem not in most or most[module.stem].count < module.count:
                most[module.stem] = module
        return {stem: [module.text(part) for part, _ in module.parts] for stem, module in most.items()}

    def _names(self, stem: str, leading: tuple[int, ...], last: int) -> Iterator[str]:
        for text in self._parts[stem]:
            yield spell(text, leading, last)

    @cached_property
    def holes(self) -> tuple[Hole, ...]:
        """Experts that lack what the others of their layer have."""
        return tuple(self._holes())

    def _holes(self) -> Iterator[Hole]:
        for container, sets in self._experts.items():
            for leading, tails in sets.items():
                every = set().union(*tails.values())
                if (
                    all(len(each) == len(every) for each in tails.values())
                    and len(every) == max(every) - min(every) + 1
                ):
                    continue
                shown = spell(container, leading, 0).removesuffix("0")
                low = min(every)
                span = range(low, min(max(every), low + _MOST_NUMBERS) + 1)
                for tail, held in tails.items():
                    gone = [expert for expert in span if expert not in held] if _is_usual(held, every) else []
                    del gone[len(every) :]
                    if gone:
                        stem = f"{container}{MARK}{tail}"
                        names = tuple(name for expert in gone for name in self._names(stem, leading, expert))
                        yield Hole(shown, tail.removeprefix("."), tuple(gone), names, len(held))

    @cached_property
    def other_experts(self) -> tuple[OtherExperts, ...]:
        """Layers with other experts than most."""
        return tuple(self._other_experts())

    def _other_experts(self) -> Iterator[OtherExperts]:
        for container, sets in self._experts.items():
            spans: dict[tuple[int, int], list[tuple[int, ...]]] = {}
            for leading, tails in sets.items():
                every = set().union(*tails.values())
                spans.setdefault((min(every), max(every)), []).append(leading)
            usual = max(spans, key=lambda each: len(spans[each]))
            for span, layers in spans.items():
                odd = span != usual and 4 * len(layers) <= len(sets) and len(spans[usual]) * 4 >= 3 * len(sets)
                if not odd and span[0] == 0:
                    continue
                stem = next(f"{container}{MARK}{tail}" for tail in sets[layers[0]])
                names = tuple(name for leading in layers[:_MOST] for name in self._names(stem, leading, span[0]))
                numbers = tuple(leading[0] if leading else 0 for leading in layers[:_MOST])
                others = [
                    each for each in range(usual[0], min(usual[1], _MOST_NUMBERS) + 1) if not span[0] <= each <= span[1]
                ]
                stems = [f"{container}{MARK}{tail}" for tail in sets[layers[0]]]
                absent = (
                    name
                    for leading in layers
                    for expert in others
                    for stem in stems
                    for name in self._names(stem, leading, expert)
                )
                yield OtherExperts(container, numbers, *span, usual, names, tuple(islice(absent, _MOST_NAMES)))

    # --- layers ---

    @cached_property
    def _stacks(self) -> dict[str, dict[str, dict[int, list[tuple[tuple[int, ...], int]]]]]:
        """By what stands before a layer's number, by stem: the layers that have it, each with numbers of one there."""
        found: dict[str, dict[str, dict[int, list[tuple[tuple[int, ...], int]]]]] = {}
        for module in self.modules:
            before, mark, _ = module.stem.partition(MARK)
            if not mark or is_whole(module.stem) or before.rpartition(".")[0].rpartition(".")[2] not in _STACKS:
                continue
            layers = found.setdefault(before, {}).setdefault(module.stem, {})
            for leading, lasts in module.numbers.items():
                if leading:
                    layers.setdefault(leading[0], []).append((leading, lasts[0]))
                else:
                    for last in lasts:
                        layers.setdefault(last, []).append(((), last))
        return found

    @cached_property
    def stacks(self) -> int:
        """How many stacks of layers there are."""
        return len(self._stacks)

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """Stacks that lack layers."""
        return tuple(self._gaps())

    def _gaps(self) -> Iterator[Gap]:
        for stack, stems in self._stacks.items():
            layers = set().union(*stems.values())
            if len(layers) < 2 or len(stems) < _LEAST_LAYERS:
                continue
            first, last = min(layers), max(layers)
            if len(layers) <= last < 3 * len(layers):
                gone = tuple(layer for layer in range(last) if layer not in layers)
                usual = Counter(self._signatures[stack].values()).most_common(1)[0][0]
                names = (name for layer in gone for name in self._gone(stack, layer, usual))
                yield Gap(stack, gone, first, last, tuple(islice(names, _MOST_NAMES)))

    @cached_property
    def _signatures(self) -> dict[str, dict[int, frozenset[str]]]:
        """By stack, the stems that each layer has."""
        found: dict[str, dict[int, frozenset[str]]] = {}
        for stack, stems in self._stacks.items():
            of: dict[int, list[str]] = {}
            for stem, layers in stems.items():
                for layer in layers:
                    of.setdefault(layer, []).append(stem)
            shared: dict[frozenset[str], frozenset[str]] = {}
            signatures = {layer: frozenset(held) for layer, held in of.items()}
            found[stack] = {layer: shared.setdefault(each, each) for layer, each in signatures.items()}
        return found

    @cached_property
    def lacking_layers(self) -> tuple[Smaller, ...]:
        """Layers between the first and the last that lack what every other layer of their stack has."""
        return tuple(self._lacking_layers())

    def _lacking_layers(self) -> Iterator[Smaller]:
        for stack, layers in self._signatures.items():
            if len(layers) < _LEAST_LAYERS:
                continue
            counts = Counter(stem for each in layers.values() for stem in each)
            nearly = {stem for stem, count in counts.items() if count == len(layers) - 1}
            if not nearly:
                continue
            first, last = min(layers), max(layers)
            for layer, signature in layers.items():
                gone = nearly - signature
                own = any(counts[stem] == 1 for stem in signature)
                if gone and not own and layer not in (first, last):
                    yield Smaller(stack, layer, self._gone(stack, layer, gone), len(layers) - 1)

    @cached_property
    def lone_layers(self) -> tuple[Smaller, ...]:
        """Layers unlike any other that lack a few things of a class of layers that is otherwise the same."""
        return tuple(self._lone_layers())

    def _lone_layers(self) -> Iterator[Smaller]:
        told = {(each.stack, each.layer) for each in self.lacking_layers}
        for stack, layers in self._signatures.items():
            classes = Counter(layers.values())
            large = [signature for signature, count in classes.items() if count >= _LEAST_CLASS]
            for layer, signature in layers.items():
                if classes[signature] > 1 or (stack, layer) in told or len(classes) > _FEW_CLASSES:
                    continue
                near = [each for each in large if signature < each and len(each - signature) <= _FEW]
                if near:
                    closest = min(near, key=lambda each: (len(each - signature), -classes[each]))
                    gone = self._gone(stack, layer, closest - signature)
                    yield Smaller(stack, layer, gone, classes[closest])

    def _gone(self, stack: str, layer: int, stems: Iterable[str]) -> tuple[str, ...]:
        """The names that a layer would have of stems that another layer has."""
        names: list[str] = []
        for stem in sorted(stems):
            numbers = next(iter(self._stacks[stack][stem].values()))[:_MOST]
            for leading, last in numbers:
                moved = ((layer, *leading[1:]), last) if leading else ((), layer)
                names.extend(self._names(stem, *moved))
        return tuple(names)

    # --- kinds ---

    @cached_property
    def odd_experts(self) -> tuple[OddKind, ...]:
        """Tensors of experts unlike those of most experts of their layer."""
        return tuple(self._odd_experts())

    def _odd_experts(self) -> Iterator[OddKind]:
        for stem, alike in self._differing.items():
            if not _of_expert(stem)[0]:
                continue
            by_layer: dict[tuple[int, ...], list[tuple[Module, Sequence[int]]]] = {}
            for module in alike:
                for leading, lasts in module.numbers.items():
                    by_layer.setdefault(leading, []).append((module, lasts))
            for leading, here in by_layer.items():
                counts: Counter[tuple[str, Kind]] = Counter()
                for module, lasts in here:
                    counts[_likeness(module)] += len(lasts)
                if len(counts) < 2:
                    continue
                usual = max(counts, key=counts.__getitem__)
                for module, lasts in here:
                    if _likeness(module) != usual:
                        part, kind = module.main
                        names = module.names(part, {leading: lasts})
                        yield OddKind(part_of(stem, part), kind, usual[1], names, counts.total())

    @cached_property
    def odd_kinds(self) -> tuple[OddKind, ...]:
        """Tensors of other dtype or shape than most of their pattern, in the same format."""
        return tuple(self._odd_kinds())

    def _odd_kinds(self) -> Iterator[OddKind]:
        told = {name for each in self.odd_experts for name in each.names}
        for stem, alike in self._differing.items():
            counts: Counter[tuple[str, Kind]] = Counter()
            for module in alike:
                counts[_likeness(module)] += module.count
            usual, most = counts.most_common(1)[0]
            if most < _LEAST_CLASS or 4 * most < 3 * counts.total():
                continue
            for module in alike:
                likeness = _likeness(module)
                # Layers with a width of their own come in classes, one in six or so; damage comes alone.
                scheduled = counts[likeness] > max(1, counts.total() // _SCHEDULED)
                if likeness == usual or likeness[0] != usual[0] or scheduled:
                    continue
                part, kind = module.main
                names = tuple(name for name in module.names(part) if name not in told)
                if names:
                    yield OddKind(part_of(stem, part), kind, usual[1], names, counts.total())

    @cached_property
    def _differing(self) -> dict[str, list[Module]]:
        """The stems of which there is more than one kind."""
        found: dict[str, list[Module]] = {}
        for module in self.modules:
            # What is said of codes without scales is said elsewhere.
            whole = module.stored.codes is not None and not (module.stored.unscaled or module.stored.beside)
            if whole and module.stored.codes not in CERTAIN_COMPANIONS:
                found.setdefault(module.stem, []).append(module)
        return {stem: alike for stem, alike in found.items() if len({_likeness(each) for each in alike}) > 1}


# Of one layer no more is spelled out, and of numbers no more looked at: a hostile one may be anything.
_MOST = 4_096
_MOST_NUMBERS = 65_536
_MOST_NAMES = 50_000
_SCHEDULED = 20
# Layers of a stack that are of more classes than this are of none.
_FEW_CLASSES = 64


def _likeness(module: Module) -> tuple[str, Kind]:
    """What is alike in weights alike: the format, and dtype and shape of what it stands for."""
    return module.format, (module.main[1][0], module.stored.weight)


def _is_usual(held: set[int], every: set[int]) -> bool:
    """Whether most experts have a module, so that the others lack it."""
    return 2 * len(held) > len(every)


def _of_expert(stem: str) -> tuple[str, str]:
    """What stands before and behind an expert's number, where the last number of a stem is one."""
    before, mark, tail = stem.rpartition(MARK)
    if not mark or is_whole(stem) or not before.endswith(f"{_EXPERTS}."):
        return "", ""
    return before, tail


def kinds_shown(kind: Kind) -> Mapping[str, object]:
    """Dtype and shape as findings have them."""
    return {"dtype": kind[0], "shape": list(kind[1])}
