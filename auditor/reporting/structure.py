"""What an audit without a family reports: the formats of weights, the patterns of tensors, and what these stand for."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from auditor.comparison.structure.modules import Module
from auditor.comparison.structure.pairing import Found, Pairs
from auditor.comparison.structure.patterns import shown_pattern
from auditor.inventory.facts import Blocked
from auditor.text import plural
from auditor_schemas.figures import Count, Figure
from auditor_schemas.report import Verdict
from auditor_schemas.structure import FormatTally, PatternTally, StructureSummary
from auditor_schemas.wording import CONSISTENT, STRUCTURE_ONLY

# Patterns that a report lists, far above what any layout within the limits needs.
MOST = 50_000


def structure(facts: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    """The parts of a report that only an audit without a family has; none for any other."""
    pairs, declared = facts["pairs"], facts["declared"]
    if isinstance(pairs, Blocked):
        return {}
    patterns = list(islice((row for module in pairs.modules for row in _patterns(module)), MOST))
    declaration = None if isinstance(declared, Blocked) else declared.declaration
    return {
        "figures": tuple(_figures(pairs)),
        "meaning": CONSISTENT if verdict == "passed" else STRUCTURE_ONLY,
        "structure": StructureSummary(
            parameters=pairs.parameters,
            declared=None if declaration is None else f"{declaration.shown} ({declaration.file}: {declaration.field})",
            formats=tuple(_tally(found) for found in pairs.found),
            patterns=tuple(sorted(patterns, key=lambda each: (each.pattern, each.dtype, each.shape))),
        ),
    }


def _tally(found: Found) -> FormatTally:
    return FormatTally(
        format=found.format,
        dtype=found.dtype,
        scales=found.scale,
        block=None if found.block is None else str(found.block),
        weights=found.weights,
        stored_elements=found.elements,
        parameters=found.parameters,
        example=found.example,
    )


def _patterns(module: Module) -> Iterator[PatternTally]:
    for part, (dtype, shape) in module.parts:
        of_weight = part == module.stored.codes
        yield PatternTally(
            pattern=shown_pattern(module.text(part)),
            dtype=dtype,
            shape=shape,
            count=module.count,
            parameters=module.count * module.stored.parameters if of_weight else 0,
        )


def _figures(pairs: Pairs) -> Iterator[Figure]:
    counts = [
        Count(
            convention="after unpacking, scales and the like left out",
            parameters=pairs.parameters,
            deviation_percent=None,
        )
    ]
    counts += [
        Count(convention=_words(found), parameters=found.parameters, deviation_percent=None) for found in pairs.found
    ]
    yield Figure(name="values stored", published=None, source=None, counts=tuple(counts), verdict="not_applicable")


def _words(found: Found) -> str:
    block = "" if found.block is None else f" {found.block}"
    return f"of these in {found.format}: {plural(found.weights, 'weight')} of {found.dtype}, {found.scale}{block}"
