"""The facts about structure that rules ask for by name: what a checkpoint says of itself, and what it declares."""

from typing import Any

from msgspec import Struct

from auditor.comparison.structure.declared import OTHER_DECLARATIONS, Declaration, Declared, declaration_of
from auditor.comparison.structure.modules import Module, modules_of
from auditor.comparison.structure.pairing import Pairs
from auditor.comparison.structure.patterns import MOST_PATTERNS, gather
from auditor.comparison.structure.symmetry import Symmetry
from auditor.errors import Unread
from auditor.families.configure import Configuration
from auditor.families.quantised import SIDECAR
from auditor.inventory.facts import Blocked, ConfigFile, Inventory

_NAMES = ("patterns", "modules", "pairs", "symmetry", "declared", "undeclared")


_TOO_MANY = (
    f"the names of tensors are of more than {MOST_PATTERNS:,} patterns, which nobody can hold against each other"
)


class Undeclared(Struct, frozen=True):
    """What is stored as codes although config.json is there and nothing declares that."""

    pairs: Pairs


def structure_facts(inventory: Inventory, config_file: ConfigFile, configuration: Configuration) -> dict[str, Any]:
    """Facts for an audit that expects nothing; Blocked where a family says more."""
    if configuration.family is None or configuration.family.expects:
        return dict.fromkeys(_NAMES, Blocked("the family says what is expected"))
    declaration = declaration_of(configuration.fields, configuration.beside)
    patterns = gather(inventory)
    if patterns is None:
        return dict.fromkeys(_NAMES, Blocked(_TOO_MANY))
    modules: tuple[Module, ...] = modules_of(patterns, None if declaration is None else declaration.bits)
    pairs = Pairs(modules)
    declared = _declared(pairs, declaration, inventory, config_file, configuration)
    return {"patterns": patterns, "modules": modules, "pairs": pairs, "symmetry": Symmetry(modules), **declared}


def _declared(
    pairs: Pairs,
    found: Declaration | None,
    inventory: Inventory,
    config_file: ConfigFile,
    configuration: Configuration,
) -> dict[str, Any]:
    if config_file.outside:
        blocked = Blocked("config.json is reached by a link that leaves the checkpoint")
        return {"declared": blocked, "undeclared": blocked}
    if found is not None:
        return {"declared": Declared(found, pairs), "undeclared": Blocked(f"{found.file} declares a quantisation")}
    elsewhere = next((each for each in (SIDECAR, *OTHER_DECLARATIONS) if each in inventory.entries), None)
    if configuration.fields is None:
        reason = "config.json says nothing"
    elif elsewhere is not None:
        reason = f"{elsewhere} is there, which may declare one"
    else:
        reason = ""
    return {
        "declared": Blocked("no quantisation is declared"),
        "undeclared": Blocked(reason) if reason else Undeclared(pairs),
    }


def unread_patterns(facts: dict[str, Any]) -> list[Unread]:
    """Why the structure was not looked at although nothing else was asked for."""
    patterns = facts["patterns"]
    return [Unread(_TOO_MANY, "limit")] if isinstance(patterns, Blocked) and patterns.reason == _TOO_MANY else []


def count_structure(facts: dict[str, Any]) -> dict[str, int]:
    """How many subjects of each kind there are for rules about structure to look at."""
    pairs, symmetry, declared = facts["pairs"], facts["symmetry"], facts["declared"]
    if isinstance(pairs, Blocked):
        return {}
    return {
        "weights in codes": pairs.coded,
        "companions": pairs.companions,
        "expert sets": symmetry.expert_sets,
        "layer stacks": symmetry.stacks,
        "declarations": 0 if isinstance(declared, Blocked) else 1,
        "exclusions": 0 if isinstance(declared, Blocked) else len(declared.declaration.exclusions),
    }
