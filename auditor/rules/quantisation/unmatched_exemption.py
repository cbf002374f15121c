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
        if row.quantised and inventory.tensors[name].dtype in QUANTISABLE and name.startswith(_LAYERS)
    ]
    field = "ignored_layers" if quantization.modules_to_not_convert is None else "modules_to_not_convert"
    foreign = dict(_foreign(getattr(quantization, field) or ())) if plain else {}
    meant: dict[str, dict[str, str]] = {}
    for name in plain:
        found = next((foreign[run] for run in _runs(name) if run in foreign), None)
        if found is not None:
            prefix, entry = found
            meant.setdefault(prefix, {})[name] = entry
    for prefix, matched in meant.items():
        entries = list(dict.fromkeys(matched.values()))
        more = f" and {len(entries) - 1:,} more match" if len(entries) > 1 else " matches"
        yield RULE.failure(
            f"{named(entries[0])}{more} no module; with 'model.' in the place of {named(prefix)} "
            f"{plural(len(matched), 'weight')} match, all {inventory.tensors[next(iter(matched))].dtype}",
            file="config.json",
            field=f"quantization_config.{field}",
            expected="model." + entries[0].removeprefix(prefix),
            actual=entries[0],
            tensors=tuple(matched),
            takes=(*matched, *chain.from_iterable(map(expectations.beside, matched))),
        )


_LAYERS = "model.layers."


def _foreign(entries: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, str]]]:
    """What entries name behind their prefix, for those of which the layout's own names have another prefix."""
    for entry in entries:
        prefix, layers, rest = f".{entry}".partition(".layers.")
        if layers and prefix not in ("", ".model"):
            yield f"layers.{rest}", (prefix.removeprefix(".") + ".", entry)


def _runs(name: str) -> Iterator[str]:
    """The runs of components of a weight's module that begin at `layers`."""
    parts = name.removeprefix("model.").split(".")[:-1]
    return (".".join(parts[:end]) for end in range(2, len(parts) + 1))
