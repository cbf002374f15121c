"""The map of the checkpoint: each layer's modules with the worst that was found, and which cells a finding is in."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from msgspec.structs import replace

from auditor.comparison.records import Match
from auditor.families.expectations import Expectations
from auditor.patterns import ranges
from auditor.verdict.attribute import Attributed
from auditor_schemas.report import Cell
from auditor_schemas.rule import Failure

Worst = Literal["passed", "info", "warning", "error", "unread"]
# Cells of the map that a report lists, far above what any layout within the limits needs.
MOST = 50_000
# A finding in more places of a module is told by layers alone, and beyond that by the first and the last.
MOST_PLACES = 4_096
_RANK: tuple[Worst, ...] = ("passed", "info", "warning", "error", "unread")
# What the config implies nothing about.
_OTHER = "other"


def map_cells(
    expectations: Expectations | None, match: Match | None, failures: Iterable[Failure]
) -> tuple[tuple[Cell, ...], int]:
    """The map: each layer's modules with their worst outcome and counts; and how many cells are left out."""
    if expectations is None or match is None:
        return (), 0
    counts: dict[tuple[int | None, str], dict[str, int]] = {}
    worst: dict[tuple[int | None, str], Worst] = {}
    for row in expectations.top:
        counts.setdefault((None, row.module), {"expected": 0})["expected"] += 1
    for template in expectations.templates:
        held: dict[str, int] = {}
        for row in template.rows:
            held[row.module] = held.get(row.module, 0) + max(1, row.experts)
        for layer in template.layers:
            for module, count in held.items():
                counts[layer, module] = {"expected": count}
    most = max(MOST, len(counts))
    beyond: set[tuple[int | None, str]] = set()  # no more is kept of those that are left out
    faulted: dict[Worst, dict[str, None]] = {}  # a tensor that several rules fault counts once for each severity
    for failure in failures:
        severity: Worst = "unread" if failure.rule.slug == "unread-file" else failure.rule.severity.value
        faulted.setdefault(severity, {}).update(dict.fromkeys(_subjects(failure, expectations)))
    for severity, names in faulted.items():
        cells = Counter((layer, module) for module, layer, _ in _places(list(names), expectations))
        for key, count in cells.items():
            if key not in counts and len(counts) >= most:
                beyond.add(key)
                continue
            counts.setdefault(key, {"expected": 0})[severity] = count
            if _RANK.index(severity) > _RANK.index(worst.get(key, "passed")):
                worst[key] = severity
    for name, row in match.missing.items():
        seen = counts[expectations.naming.layer_of(name), row.module]
        seen["missing"] = seen.get("missing", 0) + 1
    ordered = sorted(counts.items(), key=lambda each: (each[0][0] is None, each[0][0] or 0, each[0][1]))
    kept = tuple(
        Cell(layer=layer, module=module, worst=worst.get((layer, module), "passed"), counts=count)
        for (layer, module), count in ordered[:MOST]
    )
    return kept, len(ordered[MOST:]) + len(beyond)


def locate(found: tuple[Attributed, ...], expectations: Expectations | None) -> tuple[Attributed, ...]:
    """The findings with the cells of the map that each is in; of none where there is no map."""
    if expectations is None:
        return found
    return tuple(
        replace(each, finding=each.finding.model_copy(update={"cells": text}))
        if (text := _cells_of(each.failures, expectations))
        else each
        for each in found
    )


def _cells_of(failures: Iterable[Failure], expectations: Expectations) -> str:
    """The cells of some failures together, as a finding words them."""
    names = list(dict.fromkeys(name for failure in failures for name in _subjects(failure, expectations)))
    places: dict[str, set[tuple[int, ...]]] = {}  # by module: none of its numbers, the layer's, or also the expert's
    for module, *numbers in set(_places(names, expectations)):
        places.setdefault(module, set()).add(tuple(number for number in numbers if number is not None))
    return ";".join(f"{module}:{','.join(_word(of))}" for module, of in sorted(places.items()))


def _word(places: set[tuple[int, ...]]) -> Iterator[str]:
    if len(places) > MOST_PLACES:
        places = {place[:1] for place in places}
    layers = [place[0] for place in places if place]
    if () in places:
        yield "top"
    if len(places) > MOST_PLACES:
        yield f"{min(layers)}-{max(layers)}"
        return
    for width in (1, 2):
        alike = {place for place in places if len(place) == width}
        if alike:
            yield from sorted("/".join(numbers.strip("{}") for numbers in box) for box in ranges(alike))


def _places(names: Sequence[str], expectations: Expectations) -> Iterator[tuple[str, int | None, int | None]]:
    """The module of each tensor, its layer, and of a module of experts which one."""
    naming = expectations.naming
    for name, row in zip(names, expectations.rows_of(names), strict=True):
        expert = naming.expert_of(name) if row is not None and row.experts else None
        yield _OTHER if row is None else row.module, naming.layer_of(name), expert


def _subjects(failure: Failure, expectations: Expectations) -> Sequence[str]:
    """The tensors whose cells a failure marks: what it is about, or else what it takes of what is expected."""
    return failure.tensors or tuple(
        each for each in failure.takes if isinstance(each, str) and expectations.row_of(each)
    )
