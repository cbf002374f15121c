"""Joins what config.json implies with what the headers hold, once, for every rule that compares them."""

from auditor.facts import Expectations, Inventory, Match, Row


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
    unexpected = {}
    if len(actual) > len(expected) - len(missing) - len(absent):
        unexpected = {name: header for name, header in actual.items() if name not in expected}
    return Match(missing, absent, unexpected, misshapen, mistyped)
