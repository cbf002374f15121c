"""Weights in another quantisation's format, told by the tensors that each has in the place of one and its scale.

Where the format is declared, what disagrees is the declaration's fault, which another cause tells.
"""

from collections.abc import Mapping

from auditor.comparison.records import Match, Packing
from auditor.families.expectations import Expectations
from auditor.families.scaling import SCALE_SUFFIX
from auditor.format.dtypes import FP8
from auditor.format.entries import TensorHeader
from auditor.inventory.facts import Inventory

_FEW = 2  # a tensor or two of another dtype are damage to these, not a format
_BLOCK_SCALE = f"weight{SCALE_SUFFIX}"
_Parts = Mapping[str, TensorHeader]


def find_packing(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Packing, ...]:
    """One cause for each format, with every tensor of the modules that are stored in it."""
    if expectations.export is not None:
        return ()
    modules: dict[str, dict[str, TensorHeader]] = {}
    for name in dict.fromkeys((*match.unexpected, *match.mistyped, *match.misshapen)):
        module, _, part = name.rpartition(".")
        modules.setdefault(module, {})[part] = inventory.tensors[name]
    formats: dict[tuple[str, str], list[str]] = {}
    for module, odd in modules.items():
        names = {part: f"{module}.{part}" for part in ("weight", _BLOCK_SCALE)}
        usual = {part: inventory.tensors[name] for part, name in names.items() if name in inventory.tensors}
        found = format_of({**usual, **odd})
        if found is not None:
            formats.setdefault(found, []).append(module)
    missing: dict[str, list[str]] = {}
    for name in match.missing:
        missing.setdefault(name.rpartition(".")[0], []).append(name)
    causes = []
    for (name, mark), held in formats.items():
        stored = [f"{module}.{part}" for module in held for part in modules[module]]
        needed = [name for module in held for name in missing.get(module, ())]
        if len(held) > _FEW:
            causes.append(Packing((*stored, *needed), name, f"{held[0]}.{mark}", len(held)))
    return tuple(causes)


def format_of(parts: _Parts) -> tuple[str, str] | None:
    """The format of a module that holds these parts, with the part that tells it; None where it is no known one."""
    if "weight_packed" in parts:
        known = "weight_global_scale" in parts
        return ("compressed-tensors, NVFP4" if known else "compressed-tensors, packed integers"), "weight_packed"
    if "qweight" in parts:
        return ("GPTQ", "g_idx") if "g_idx" in parts else ("AWQ", "qweight")
    if "weight_scale_2" in parts:
        return "NVFP4", "weight_scale_2"
    weight, scale = parts.get("weight"), parts.get("weight_scale") or parts.get("scale")
    if weight is None or weight.dtype not in ("U8", "I8"):
        return None
    if scale is not None and scale.dtype in ("F8_E8M0", "U8"):
        return "MXFP4", "weight"
    if weight.dtype == "U8":
        return ("NVFP4", "weight") if scale is not None and scale.dtype == FP8 else None
    if _BLOCK_SCALE in parts:
        return "block INT8", "weight"
    return ("INT8", "weight") if scale is not None else None
