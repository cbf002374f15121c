"""The lists of modules that a declaration leaves unquantised, held against the names that the config implies."""

from collections.abc import Iterable

from msgspec import Struct

from auditor.families.expectations import Expectations
from auditor.families.naming import Naming
from auditor.families.selection import Selection
from auditor.format.files import CONFIG
from auditor_schemas.config import ModelConfig

_SIGNS = frozenset("*?[\\")


class Unmatched(Struct, frozen=True):
    """Entries of a list that name nothing there is: where the list is, how many entries it has, and which."""

    file: str
    field: str
    of: int
    entries: tuple[str, ...]
    shown: bool


def unmatched_exclusions(config: ModelConfig, expectations: Expectations) -> tuple[Unmatched, ...]:
    """The entries of each list that name neither a module nor a tensor that the config implies."""
    export, quantization = config.export, config.quantization_config
    found: list[Unmatched] = []
    if export is not None:
        left = _unmatched(export.excluded, expectations)
        found.append(Unmatched(export.file, export.list_field, len(export.excluded.entries), left, export.shown))
    elif quantization is not None:
        for field in ("modules_to_not_convert", "ignored_layers"):
            entries = getattr(quantization, field)
            left = _unmatched(Selection(entries), expectations) if entries else ()
            found.append(Unmatched(CONFIG, f"quantization_config.{field}", len(entries or ()), left, shown=True))
    return tuple(each for each in found if each.entries)


def _unmatched(selection: Selection, expectations: Expectations) -> tuple[str, ...]:
    left = dict.fromkeys(selection.entries)
    for name in _names(expectations):
        for entry in (*selection.matching(name.rpartition(".")[0]), *selection.matching(name)):
            left.pop(entry, None)
        if not left:
            return ()
    of_experts = (name.split(".") for name in _names(expectations) if "{expert}" in name)
    experts = {".".join(parts[:end]) for parts in of_experts for end in range(1, len(parts) + 1)}
    return tuple(entry for entry in left if not _may_name_experts(entry, expectations.naming, experts))


def _may_name_experts(entry: str, naming: Naming, experts: set[str]) -> bool:
    """Whether an entry names one expert, whose number is not looked at, or may do so by a pattern."""
    if "expert" not in entry:
        return False
    place = f"{entry.removesuffix('.weight')}."
    kind = naming.prefix_in(place) + naming.kind_of(place)
    return kind.removesuffix(".") in experts or not naming.prefix_in(place) or not _SIGNS.isdisjoint(entry)


def _names(expectations: Expectations) -> Iterable[str]:
    """The names of all tensors, those of the experts of a layer as one; companions last, as lists name weights."""
    yield from (row.suffix for row in expectations.top)
    for companions in (False, True):
        for template in expectations.templates:
            suffixes = [row.suffix for row in template.rows if (row.companion is not None) == companions]
            for prefix in map(expectations.naming.prefix, template.layers):
                yield from (prefix + suffix for suffix in suffixes)
