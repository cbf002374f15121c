"""Modules of an export that are stored in another format than it declares: its list of what is left out is wrong.

A list that forgets a layer makes a loader build modules in fewer bits for weights that are plain; one that names too
much makes it build plain ones for codes. Either way hundreds of tensors disagree, and one line of the list is why.
"""

from auditor.comparison.causes.packed import format_of
from auditor.comparison.records import Match, Misdeclared
from auditor.families.expectations import Expectations, Row
from auditor.format.dtypes import FLOATS, Dtype
from auditor.inventory.facts import Inventory

_FEW = 2  # a module or two in another format are damage to these


def find_misdeclared(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Misdeclared, ...]:
    """One cause for each format that is declared and each that is found in its place."""
    if expectations.export is None:
        return ()
    odd: dict[str, list[str]] = {}
    linear: dict[str, Row] = {}
    for held in (match.missing, match.misshapen, match.mistyped, match.unexpected):
        for name in held:
            odd.setdefault(name.rpartition(".")[0], []).append(name)
    for held in (match.missing, match.misshapen, match.mistyped):
        linear.update({name.rpartition(".")[0]: row for name, row in held.items() if row.linear})
    found: dict[tuple[str, str], list[str]] = {}
    for module, row in linear.items():
        there = _found(inventory, module, row, odd[module])
        needed = row.dtype if row.quantiser is None else row.quantiser.name
        if there is not None and there != needed:
            found.setdefault((needed, there), []).append(module)
    causes = []
    for (needed, there), modules in found.items():
        stored = [name for module in modules for name in odd[module] if name in inventory.tensors]
        explains = tuple(dict.fromkeys(name for module in modules for name in odd[module]))
        if len(modules) > _FEW:
            causes.append(
                Misdeclared(explains, needed, there, tuple(modules), stored[0], _named(expectations, modules))
            )
    return tuple(causes)


def _found(inventory: Inventory, module: str, row: Row, odd: list[str]) -> Dtype | str | None:
    """The format that a module is stored in, which is a plain weight's dtype; None where nothing tells."""
    weight = inventory.tensors.get(f"{module}.weight")
    if weight is not None and weight.dtype in FLOATS:
        shape = row.shape if row.shape_of_weight is None else row.shape_of_weight
        return weight.dtype if weight.shape == shape else None
    parts = {name.rpartition(".")[2]: inventory.tensors[name] for name in odd if name in inventory.tensors}
    told = format_of(parts if weight is None else {**parts, "weight": weight})
    return None if told is None else told[0]


def _named(expectations: Expectations, modules: list[str]) -> tuple[str, ...]:
    """The entries of the list that name any of the modules."""
    export = expectations.export
    assert export is not None
    return tuple(dict.fromkeys(entry for module in modules for entry in export.excluded.matching(module)))
