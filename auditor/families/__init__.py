"""What a config implies. Model families: one file each, found by the FAMILY in it; adding one touches no other."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from auditor.errors import ReadError, UsageError
from auditor.families.expectations import Expectations
from auditor.families.fingerprint import Fingerprint
from auditor.format.entries import TensorHeader
from auditor_schemas.config import ModelConfig


class Published(Struct, frozen=True, kw_only=True):
    """A published parameter figure: `text` as printed, `convention` the key of the count it means.

    `digits` is the number of decimals printed, in units of 10^9. `of` are the layout fields of the checkpoint that it
    is of, where a family has released several.
    """

    name: str
    text: str
    billions: float
    digits: int
    convention: str
    also: tuple[str, ...] = ()
    source: str
    note: str | None = None
    of: Mapping[str, object] = field(default_factory=dict)


# By tensors that are there, a config, and names nobody expected: (field, value) that some of these would follow from.
Shown = Callable[[Mapping[str, TensorHeader], Any, Sequence[str]], Iterator[tuple[str, Any]]]


def _nothing(tensors: Mapping[str, TensorHeader], config: Any, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    del tensors, config, names
    yield from ()


class Family(Struct, frozen=True, kw_only=True):
    """What a family file provides: which model_type it answers to, its config rules and its layout.

    `released` are the layout fields of the published checkpoint: `published` figures are checked only there, and of an
    export only where `exported_as` says that the release is one.
    `apart` are components that are counted by themselves, as no part of the main model.
    `solved` are integer fields that shapes may contradict, each dimension being linear in each; `shown` gives values of
    fields that decide which tensors there are, where unexpected ones show them. `experts_field` counts the routed
    experts; a layer with a tensor of kind `dense_mark` is dense. `nested` is the object of
    config.json that holds the layout's fields, where they are not at its top. `formats` are values of fields of
    quantization_config that the config model reads itself, beside those of FP8 blocks. `fingerprint` are names that
    tell the family, or one that names its tensors alike. `expects` is false for what is no family: nothing follows
    from its config, which may be of any kind or absent.
    """

    name: str
    title: str
    model_types: tuple[str, ...]
    architectures: tuple[str, ...]
    config: type[ModelConfig]
    expectations: Callable[[Any], Expectations]
    released: Mapping[str, object] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    apart: tuple[str, ...] = ("vision",)
    solved: tuple[str, ...] = ()
    shown: Shown = _nothing
    nested: str | None = None
    formats: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    experts_field: str = "n_routed_experts"
    dense_mark: str = "mlp.gate_proj.weight"
    fingerprint: Fingerprint = Fingerprint()
    expects: bool = True


# What stands in a family's place where a checkpoint is held against itself alone.
STRUCTURE = "structure"


def without_family() -> Family:
    """What stands in a family's place where nothing is expected."""
    alone: Family = importlib.import_module(f"{__name__}.{STRUCTURE}").ALONE
    return alone


def family_names() -> list[str]:
    """What an audit may be asked for as: every family, and `structure` for none."""
    return [*sorted(families()), STRUCTURE]


def families() -> dict[str, Family]:
    """Every family by name."""
    found: dict[str, Family] = {}
    for module in pkgutil.iter_modules(__path__):
        family = getattr(importlib.import_module(f"{__name__}.{module.name}"), "FAMILY", None)
        if isinstance(family, Family):
            found[family.name] = family
    if not found:  # a folder that cannot be listed is an empty one to pkgutil
        raise ReadError("the model families of the auditor cannot be listed")
    return found


def family_named(name: str) -> Family:
    """The family of that name, or what stands in its place; raises UsageError that lists the names."""
    if name == STRUCTURE:
        return without_family()
    known = families()
    if name not in known:
        raise UsageError(f"--family {name}: no such family; choose {' or '.join(family_names())}")
    return known[name]


def family_for(model_type: object) -> Family | None:
    """The family that answers to a model_type, or None."""
    return next((family for family in families().values() if model_type in family.model_types), None)
