"""A family is one file and its config model: nothing else of the auditor knows one by its name."""

import ast
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import auditor
import auditor.families
from auditor.families import families

HOME = Path(auditor.__file__).parent
# Each family, and what several of them are made of, is a module that holds or extends a layout.
SHARED = {
    "configure", "conventions", "expectations", "exports", "expressions", "fingerprint", "layout", "naming",
    "quantised", "releases", "scaling", "selection", "structure",
}  # fmt: skip
OWN = {path.stem for path in (HOME / "families").glob("*.py")} - SHARED - {"__init__"}
NAMES = {each for family in families().values() for each in (family.name, *family.model_types, *family.architectures)}


def known(tree: ast.AST) -> Iterator[str]:
    """What a module imports of a family, or calls one by."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (name for name in (f"{node.module}.{each.name}" for each in node.names) if named(name))
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names if named(each.name))
        elif isinstance(node, ast.Constant) and node.value in NAMES:
            yield str(node.value)


def named(module: str) -> bool:
    """Whether a module is one of a family."""
    parts = module.split(".")
    return parts[:2] == ["auditor", "families"] and len(parts) > 2 and parts[2] in OWN


def test_every_family_is_a_module_of_its_own():
    assert {import_module(f"auditor.families.{name}").FAMILY.name for name in OWN if has_family(name)} == {*families()}


def has_family(name: str) -> bool:
    return hasattr(import_module(f"auditor.families.{name}"), "FAMILY")


def test_no_other_room_names_a_family():
    rooms = [path for path in HOME.rglob("*.py") if path.relative_to(HOME).parts[0] not in ("families", "forge")]
    assert len(rooms) > 300
    found = {str(path.relative_to(HOME)): [*known(ast.parse(path.read_text("utf-8")))] for path in rooms}
    assert {path: names for path, names in found.items() if names} == {}


def test_what_all_families_share_names_none():
    found = {name: [*known(ast.parse((HOME / "families" / f"{name}.py").read_text("utf-8")))] for name in SHARED}
    assert {name: names for name, names in found.items() if names} == {}
