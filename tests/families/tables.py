"""Published header dumps and configs, and what a config gives in the same terms; apart from the code under test."""

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from auditor.families import Family, family_for
from auditor.families.configure import Configuration, configure
from auditor.families.expectations import Expectations
from auditor.inventory.facts import ConfigFile
from auditor_schemas.policy import Limits

DATA = Path(__file__).parents[1] / "data"
Kind = tuple[tuple[int, ...], str]

BITS = {"F8_E4M3": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BF16": 16, "F16": 16, "F32": 32, "I32": 32, "I64": 64}


def config_of(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((DATA / f"config.{name}.json").read_text())
    return fields


def expanded(pattern: str) -> Iterator[str]:
    """Every name that a pattern stands for, {0-2,4} being 0, 1, 2 and 4."""
    parts = re.split(r"\{([0-9,\-]+)\}", pattern)
    lists = []
    for text in parts[1::2]:
        ends = [part.partition("-") for part in text.split(",")]
        lists.append([number for a, _, b in ends for number in range(int(a), int(b or a) + 1)])
    for numbers in product(*lists):
        yield "".join(text + str(number) for text, number in zip(parts[::2], (*numbers, ""), strict=True))


def table_of(name: str) -> dict[str, Kind]:
    """Every tensor of a published header dump with its shape and dtype."""
    table: dict[str, Kind] = {}
    for line in (DATA / f"inventory.{name}.tsv").read_text().splitlines()[1:]:
        pattern, shape, dtype, _ = line.split("\t")
        sides = () if shape == "scalar" else tuple(int(side) for side in shape.split("x"))
        for each in expanded(pattern):
            assert each not in table
            table[each] = (sides, dtype)
    return table


def configured(fields: object) -> Configuration:
    return configure(ConfigFile("read", json.dumps(fields).encode()), Limits())


def faults(fields: object) -> list[tuple[str, str | None]]:
    """The faults of a config, each as its kind and the field that it is of."""
    return [(fault.kind, fault.field) for fault in configured(fields).faults]


def family_of(fields: dict[str, Any]) -> Family:
    family = family_for(fields["model_type"])
    assert family is not None
    return family


def expected(fields: dict[str, Any]) -> Expectations:
    """What a config gives that has no fault."""
    found = configured(fields)
    assert not found.faults, found.faults
    assert found.family is not None
    assert found.config is not None
    return found.family.expectations(found.config)


def kinds(fields: dict[str, Any]) -> dict[str, Kind]:
    return {name: (row.shape, row.dtype) for name, row in expected(fields).names.items()}


def totals(tensors: dict[str, Kind]) -> tuple[int, int, int]:
    """Tensors, stored elements, payload bytes."""
    elements = size = 0
    for shape, dtype in tensors.values():
        count = 1
        for side in shape:
            count *= side
        elements += count
        size += count * BITS[dtype] // 8
    return len(tensors), elements, size


def changed(fields: dict[str, Any], **changes: Any) -> tuple[dict[str, Kind], dict[str, Kind]]:
    """What is there before fields are changed and is not afterwards, and the other way round, of shapes and dtypes."""
    before, after = kinds(fields), kinds({**fields, **changes})
    gone = {name: kind for name, kind in before.items() if after.get(name) != kind}
    come = {name: kind for name, kind in after.items() if before.get(name) != kind}
    return gone, come


def behind_layers(names: object) -> set[str]:
    """What names have behind the numbers of their layers and experts."""
    assert isinstance(names, dict | set)
    numbered = (re.sub(r"^(.*?\.)?(layers|mtp|blocks)\.\d+\.", "", name) for name in names)
    return {re.sub(r"experts\.\d+\.", "experts.N.", name) for name in numbered}
