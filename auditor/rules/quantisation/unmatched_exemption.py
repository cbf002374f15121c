"""Names of exempt modules are this layout's; those with a wrapper's prefix match nothing, and exempt nothing."""

from collections.abc import Iterator
from itertools import chain

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.format.dtypes import QUANTISABLE
from auditor.inventory.facts import Inventory
from auditor.text import named, plural
from auditor_schemas.config import QuantizationConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="QNT114",
    slug="unmatched-exemption",
    title="Exempt names match no module but for another prefix",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="FP8 weights",
)


def check(
    inventory: Inventory, quantization: QuantizationConfig, match: Match, expectations: Expectations
) -> Iterator[Failure]:
    """One failure per prefix with which names match nothing, and without which they match unquantised weights."""
    plain = [
        name
        for name, row in match.mistyped.items()
        if row.quantised and inventory.tensors[name].dtype in QUANTISABLE and not row.top
    ]
    field = "ignored_layers" if quantization.modules_to_not_convert is None else "modules_to_not_convert"
    entries = (getattr(quantization, field) or ()) if plain else ()
    foreign = {stack.prefix: dict(_foreign(entries, *_cut(stack.prefix))) for stack in expectations.naming.stacks}
    meant: dict[tuple[str, str], dict[str, str]] = {}
    for name in plain:
        stack = expectations.naming.place(expectations.naming.layer_of(name) or 0)[0]
        own = _cut(stack)[0]
        found = next((foreign[stack][run] for run in _runs(name.removeprefix(own)) if run in foreign[stack]), None)
        if found is not None:
            prefix, entry = found
            meant.setdefault((own, prefix), {})[name] = entry
    for (own, prefix), matched in meant.items():
        names = list(dict.fromkeys(matched.values()))
        more = f" and {len(names) - 1:,} more match" if len(names) > 1 else " matches"
        how = f"with {named(own)} in the place of {named(prefix)}" if own else f"without {named(prefix)}"
        yield RULE.failure(
            f"{named(names[0])}{more} no module; {how} "
            f"{plural(len(matched), 'weight')} match, all {inventory.tensors[next(iter(matched))].dtype}",
            file="config.json",
            field=f"quantization_config.{field}",
            expected=own + names[0].removeprefix(prefix),
            actual=names[0],
            tensors=tuple(matched),
            takes=(*matched, *chain.from_iterable(map(expectations.beside, matched))),
        )


def _cut(stack: str) -> tuple[str, str]:
    """What stands before the word for layers in a layout's names, and that word: 'model.' and 'layers'."""
    before, _, word = stack.removesuffix(".").rpartition(".")
    return f"{before}." if before else "", word


def _foreign(entries: tuple[str, ...], own: str, word: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """What entries name behind their prefix, for those of which the layout's own names have another prefix."""
    for entry in entries:
        prefix, found, rest = f".{entry}".partition(f".{word}.")
        prefix = f"{prefix}.".removeprefix(".")
        # A name is matched wherever its components stand, so one with the end of the own prefix is no other.
        if found and prefix and not f".{own}".endswith(f".{prefix}"):
            yield f"{word}.{rest}", (prefix, entry)


def _runs(name: str) -> Iterator[str]:
    """The runs of components of a weight's module that it begins with, with the number of its layer at least."""
    parts = name.split(".")[:-1]
    return (".".join(parts[:end]) for end in range(2, len(parts) + 1))
