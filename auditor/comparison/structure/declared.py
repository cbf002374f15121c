"""What a checkpoint declares of its quantisation, wherever writers put that, beside what its tensors are."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from msgspec import Struct

from auditor.comparison.structure.modules import Module
from auditor.comparison.structure.pairing import Pairs
from auditor.comparison.structure.patterns import MARK, is_whole, spell
from auditor.errors import UsageError
from auditor.families.conventions import CONVENTIONS, Block, is_float
from auditor.families.expressions import Automaton, UnreadableError
from auditor.families.quantised import DECLARATIONS, SIDECAR
from auditor.globs import matcher

_WORDS = ("quant_method", "quant_algo", "moe_quant_algo", "format", "expert_dtype", "mode")
_EXPRESSION = "re:"
_EXCLUSIONS = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude")
# Files that declare a quantisation and are not read.
OTHER_DECLARATIONS = ("quantize_config.json", "quant_config.json", "quant_model_description.json", "params.json")
# Declarations of which nothing follows when there are no codes: of what is done on loading, or of activations.
_SERIALISED = frozenset({"fp8", "gptq", "awq", "mxfp4", "mxfp8", "fbgemm_fp8", "compressed-tensors", "modelopt"})

# More than any declaration needs; what is beyond is not compared.
_MOST_ENTRIES = 20_000
_MOST_STEMS = 20_000
_MOST_COMPARISONS = 4_000_000
_NUMBER = re.compile(r"(?<![^.])(0|[1-9][0-9]{0,8})(?![^.])")


class Declaration(Struct, frozen=True, dict=True):
    """A declared quantisation: the file and field, the words for methods and formats, block, bits, what it leaves out.

    `inclusive`: it names the modules that it is of, so that others need no exclusion. `values`: whether it says that
    weights are stored as codes at all.
    """

    file: str
    field: str
    words: frozenset[str]
    block: Block | None
    bits: int | None
    exclusions: tuple[str, ...]
    exclusion_field: str
    inclusive: bool
    values: bool

    @property
    def shown(self) -> str:
        """Its words, for a person."""
        return " ".join(sorted(self.words)) or "no method"

    @property
    def is_known(self) -> bool:
        """Whether some convention answers to one of its words."""
        return any(self.words.intersection(convention.declared) for convention in CONVENTIONS)

    def explains(self, module: Module) -> bool:
        """Whether a format is among those that it names."""
        convention = module.stored.convention
        return convention is None or bool(self.words.intersection(convention.declared))

    @property
    def expects_codes(self) -> bool:
        """Whether weights have to be stored as codes."""
        return self.values and bool(self.words & _SERIALISED)


def declaration_of(fields: Mapping[str, Any] | None, beside: Mapping[str, Any] | None) -> Declaration | None:
    """What config.json declares, at its top or in an object of it, or else hf_quant_config.json."""
    for field, held, top in _places(fields or {}):
        return _declaration("config.json", field, held, top)
    sidecar = (beside or {}).get("quantization")
    return _declaration(SIDECAR, "quantization", sidecar, {}) if isinstance(sidecar, dict) else None


def _places(fields: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    for key in DECLARATIONS:
        if isinstance(fields.get(key), dict):
            yield key, fields[key], fields
    for name, inner in islice(fields.items(), 1000):
        if isinstance(inner, dict):
            for key in DECLARATIONS:
                if isinstance(inner.get(key), dict):
                    yield f"{name}.{key}", inner[key], inner


def _declaration(file: str, field: str, held: Mapping[str, Any], top: Mapping[str, Any]) -> Declaration:
    groups = [each for each in _values(held.get("config_groups")) if isinstance(each, dict)]
    layers = [each for each in _values(held.get("quantized_layers")) if isinstance(each, dict)]
    words = {
        value.lower() for each in (held, *groups, *layers) for key in _WORDS if isinstance(value := each.get(key), str)
    }
    if isinstance(top.get("expert_dtype"), str):
        words.add(top["expert_dtype"].lower())
    if field.rpartition(".")[2] == "quantization" and file == "config.json" and "bits" in held:
        words.add("mlx")
    if not words and "producer" in held:  # ModelOpt's own, which may lack a method
        words.add("modelopt")
    key = next((each for each in _EXCLUSIONS if isinstance(held.get(each), list)), "")
    entries = held.get(key) if key else None
    plain = "dense" in words or (groups and not any(each.get("weights") for each in groups))
    without = "modelopt" in words and not any(
        isinstance(held.get(each), str) for each in ("quant_algo", "moe_quant_algo")
    )
    return Declaration(
        file=file,
        field=field,
        words=frozenset(word for word in words if len(word) <= 64),
        block=_block(held.get("weight_block_size")),
        bits=_bits([held, *(each.get("weights") for each in groups)]),
        exclusions=tuple(
            each for each in (entries or ())[:_MOST_ENTRIES] if isinstance(each, str) and 0 < len(each) <= 512
        ),
        exclusion_field=f"{field}.{key}" if key else field,
        inclusive=bool(layers) or any(each.get("targets") not in (None, ["Linear"]) for each in groups),
        values=not plain and not (without and not layers),
    )


def _values(held: object) -> Iterable[Any]:
    return islice(held.values(), _MOST_ENTRIES) if isinstance(held, dict) else ()


def _bits(places: Iterable[object]) -> int | None:
    """The bits of a code, where one number is declared for all."""
    found = {each.get(key) for each in places if isinstance(each, dict) for key in ("bits", "w_bit", "num_bits")}
    numbers = {each for each in found if type(each) is int and 0 < each < 9}
    return numbers.pop() if len(numbers) == 1 else None


def _block(held: object) -> Block | None:
    if isinstance(held, list) and len(held) == 2 and all(type(side) is int and 0 < side < 1 << 24 for side in held):
        return Block(held[0], held[1])
    return None


class Plain(Struct, frozen=True):
    """Weights stored as plain values although others of their pattern are codes, and nothing leaves them out."""

    pattern: str
    dtype: str
    format: str
    names: tuple[str, ...]
    others: int


class Declared(Struct, frozen=True, dict=True):
    """A declaration beside the modules that are there."""

    declaration: Declaration
    pairs: Pairs

    @property
    def modules(self) -> Sequence[Module]:
        """The modules that are there."""
        return self.pairs.modules

    @cached_property
    def absent(self) -> bool:
        """Whether codes are declared and there are none of any kind."""
        return self.declaration.expects_codes and not self.pairs.coded

    @cached_property
    def unexplained(self) -> tuple[Module, ...]:
        """Weights in a format that the declaration, which is of known ones, does not name."""
        if not self.declaration.is_known:
            return ()
        return tuple(module for module in self.modules if module.format and not self.declaration.explains(module))

    @cached_property
    def other_block(self) -> tuple[Block, tuple[Module, ...]] | None:
        """The block of FP8 weights, where all of them have another than the declared one."""
        declared = self.declaration.block
        fp8 = [module for module in self.modules if module.format == "FP8" and module.stored.blocks]
        if declared is None or not fp8:
            return None
        if any(declared in (Block(each.rows, each.columns) for each in module.stored.blocks) for module in fp8):
            return None
        largest = max(fp8, key=lambda module: module.count)
        return largest.stored.blocks[0], tuple(fp8)

    # --- what is left out ---

    @cached_property
    def _entries(self) -> tuple[frozenset[str], tuple[str, ...], bool]:
        """Names, globs, and whether there is something else, which nobody here evaluates."""
        names, globs, other = set(), [], False
        for entry in self.declaration.exclusions:
            if entry.startswith(_EXPRESSION):
                continue
            if "[" in entry or "{" in entry:
                other = True
            elif "*" in entry or "?" in entry:
                globs.append(entry)
            else:
                names.add(entry)
        return frozenset(names), tuple(dict.fromkeys(globs)), other or self._expressions is None

    @cached_property
    def _expressions(self) -> "tuple[tuple[str, ...], Automaton] | None":
        """Regular expressions of how a name begins, and what matches them all at once; None where one is unreadable."""
        texts = tuple(dict.fromkeys(each for each in self.declaration.exclusions if each.startswith(_EXPRESSION)))
        automaton = Automaton()
        try:
            for each in texts:
                automaton.add_expression(each.removeprefix(_EXPRESSION))
        except UnreadableError:
            return None
        return texts, automaton

    def _matching(self, names: Iterable[str]) -> Iterator[str]:
        """The expressions that match one of the names."""
        texts, automaton = self._expressions or ((), Automaton())
        if texts:
            for name in names:
                yield from (texts[each] for each in automaton.matching(name))

    @cached_property
    def _places(self) -> int:
        return sum(len(module.numbers) for module in self.modules)

    @cached_property
    def judged(self) -> bool:
        """Whether there are exclusions, and few enough to be compared with all modules."""
        names, globs, _ = self._entries
        few = len(globs) * self._places <= _MOST_COMPARISONS and len(self.modules) <= _MOST_STEMS
        return bool(names or globs or (self._expressions and self._expressions[0])) and few

    def _covering(self, module: Module, leading: tuple[int, ...], last: int) -> str | None:
        """The entry that leaves a module out: its name, what it lies in, or a run of its components; or a pattern."""
        names, globs, _ = self._entries
        name = spell(module.stem, leading, last)
        whole = [spell(module.text(part), leading, last) for part, _ in module.parts]
        for each in (name, *whole):
            if each in names:
                return each
        pieces = name.split(".")
        for begin in range(len(pieces)):
            for end in range(len(pieces), begin, -1):
                run = ".".join(pieces[begin:end])
                if run in names:
                    return run
        above = [".".join(pieces[:end]) for end in range(1, len(pieces))]
        for glob in globs:
            match = _matcher(glob)
            if match is not None and any(match(each) for each in (name, *whole, *above)):
                return glob
        return next(self._matching((name, *whole)), None)

    @cached_property
    def plain(self) -> tuple[Plain, ...]:
        """Weights that the declaration says are codes, as others of their pattern are, and that are none."""
        unknown = self._entries[2] or self.declaration.inclusive or not self.declaration.is_known
        many = len(self._entries[1]) * self._places > _MOST_COMPARISONS
        return () if unknown or many else tuple(self._plain())

    def _plain(self) -> Iterator[Plain]:
        by_stem: dict[str, list[Module]] = {}
        for module in self.modules:
            by_stem.setdefault(module.stem, []).append(module)
        for alike in by_stem.values():
            coded = [module for module in alike if module.format]
            if not coded or len(alike) == len(coded):
                continue
            for module in alike:
                part, (dtype, shape) = module.main
                if module.format or not is_float(dtype) or len(shape) < 2:
                    continue
                left = {
                    leading: lasts
                    for leading, lasts in module.numbers.items()
                    if leading and not self._covering(module, leading, lasts[0])
                }
                if () in module.numbers:
                    alone = [last for last in module.numbers[()] if not self._covering(module, (), last)]
                    left.update({(): alone} if alone else {})
                if left:
                    others = sum(each.count for each in coded)
                    yield Plain(module.text(part), dtype, coded[0].format, module.names(part, left), others)

    @cached_property
    def idle(self) -> tuple[str, ...]:
        """Entries that leave nothing out."""
        return tuple(self._idle()) if self.judged else ()

    def _idle(self) -> Iterator[str]:
        names, globs, _ = self._entries
        wanted: dict[str, list[str]] = {}
        for name in names:
            wanted.setdefault(_NUMBER.sub(MARK, name), []).append(name)
        found: dict[str, list[tuple[Module, int]]] = {}
        for module in self.modules:
            if is_whole(module.stem):
                continue
            for text in {module.text(part) for part, _ in module.parts}:
                pieces = text.split(".")
                for begin in range(len(pieces)):
                    for end in range(begin + 1, len(pieces) + 1):
                        run = ".".join(pieces[begin:end])
                        if run in wanted:
                            before = sum(piece == MARK for piece in pieces[:begin])
                            found.setdefault(run, []).append((module, before))
        looks = 0
        for run, entries in wanted.items():
            for entry in entries:
                numbers = tuple(map(int, _NUMBER.findall(entry)))
                held = found.get(run, ())
                looks += sum(len(module.numbers) for module, _ in held) if numbers else 0
                if looks > _MOST_COMPARISONS:
                    return
                if not any(not numbers or _has(module, before, numbers) for module, before in held):
                    yield entry
        for glob in globs:
            match = _matcher(glob)
            # One with a number may be of an expert, of which one alone is looked at.
            if match is None or any(map(str.isdigit, glob)):
                continue
            if not any(match(name) for name in self._examples):
                yield glob
        expressions = (self._expressions or ((), None))[0]
        if expressions:
            used = set(self._matching(self._examples))
            yield from (each for each in expressions if each not in used and not any(map(str.isdigit, each)))

    @cached_property
    def _examples(self) -> tuple[str, ...]:
        """The names of modules, of what is under and above them: of experts the first of each layer."""
        names = dict.fromkeys(
            spell(module.text(part), leading, lasts[0])
            for module in self.modules
            for leading, lasts in module.numbers.items()
            for part, _ in module.parts
        )
        every = dict.fromkeys(name[:at] for name in names for at, letter in enumerate(name) if letter == ".")
        return (*names, *every)

    @cached_property
    def coded_exclusions(self) -> dict[str, tuple[str, ...]]:
        """Entries that name modules whose weights are codes all the same, with these weights."""
        found: dict[str, list[str]] = {}
        if self.judged:
            for module in self.modules:
                if not module.format:
                    continue
                for leading, lasts in module.numbers.items():
                    for last in lasts if not leading else lasts[:1]:
                        entry = self._covering(module, leading, last)
                        if entry is not None:
                            some = {leading: lasts if leading else [last]}
                            found.setdefault(entry, []).extend(module.names(module.main[0], some))
        return {entry: tuple(names) for entry, names in found.items()}


def _matcher(glob: str) -> Any:
    try:
        return matcher(glob)
    except UsageError:
        return None


def _has(module: Module, before: int, numbers: tuple[int, ...]) -> bool:
    """Whether a module has these numbers at this place among its own."""
    end = before + len(numbers)
    for leading, lasts in module.numbers.items():
        if end <= len(leading):
            if leading[before:end] == numbers:
                return True
        elif leading[before:] == numbers[:-1] and numbers[-1] in lasts:
            return True
    return False
