"""Joins what config.json implies with what the headers hold, once, for every rule that compares them."""

from auditor.facts import SCALE_SUFFIX, Expectations, Inventory, Match, Pairing, Row, TensorHeader, is_fp8, scale_name
from auditor.names import layer_of

# What only an MTP module has; a layer behind the declared ones is one by these.
_MTP_MARKS = (".eh_proj.weight", ".enorm.weight", ".hnorm.weight")


def match(inventory: Inventory, expectations: Expectations) -> Match:
    """Missing, unexpected, misshapen and mistyped tensors, each name in its row's light."""
    expected = expectations.names
    actual = inventory.tensors
    missing: dict[str, Row] = {}
    absent: dict[str, Row] = {}
    misshapen: dict[str, Row] = {}
    mistyped: dict[str, Row] = {}
    for name, row in expected.items():
        header = actual.get(name)
        if header is None:
            (absent if row.optional else missing)[name] = row
            continue
        if header.shape != row.shape:
            misshapen[name] = row
        if header.dtype != row.dtype:
            mistyped[name] = row
    unexpected: dict[str, TensorHeader] = {}
    if len(actual) > len(expected) - len(missing) - len(absent):
        unexpected = {name: header for name, header in actual.items() if name not in expected}
    return Match(
        missing,
        absent,
        unexpected,
        misshapen,
        mistyped,
        _missing_layers(actual, missing) if missing else {},
        _undeclared_mtp(expectations, unexpected) if unexpected else {},
    )


def _missing_layers(actual: dict[str, TensorHeader], missing: dict[str, Row]) -> dict[int, tuple[str, ...]]:
    there = {layer_of(name) for name in actual}
    gone: dict[int, list[str]] = {}
    for name in missing:
        layer = layer_of(name)
        if layer is not None and layer not in there:
            gone.setdefault(layer, []).append(name)
    return {layer: tuple(names) for layer, names in gone.items()}


def _undeclared_mtp(expectations: Expectations, unexpected: dict[str, TensorHeader]) -> dict[int, tuple[str, ...]]:
    declared = {layer for template in expectations.templates for layer in template.layers}
    marked = {layer_of(name) for name in unexpected if name.endswith(_MTP_MARKS)} - declared
    found: dict[int, list[str]] = {}
    for name in unexpected:
        layer = layer_of(name)
        if layer is not None and layer in marked:
            found.setdefault(layer, []).append(name)
    return {layer: tuple(names) for layer, names in found.items()}


def pair(inventory: Inventory) -> Pairing:
    """FP8 weights with their scales, both ways, wherever each is stored."""
    tensors = inventory.tensors
    scaled: list[tuple[str, TensorHeader, TensorHeader]] = []
    unscaled: list[str] = []
    for name, header in tensors.items():
        if is_fp8(header):
            scale = tensors.get(scale_name(name))
            if scale is None:
                unscaled.append(name)
            else:
                scaled.append((name, header, scale))
    scales = [name for name in tensors if name.endswith(SCALE_SUFFIX)]
    orphans: list[str] = []
    if len(scales) != len(scaled):
        paired = {scale_name(name) for name, _, _ in scaled}
        orphans = [name for name in scales if name not in paired]
    return Pairing(scaled, unscaled, orphans)
