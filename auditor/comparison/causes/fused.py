"""Tensors stored as fewer or more pieces than the layout has: experts in one stack, projections joined or split."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from auditor.comparison.records import Fusion, Match
from auditor.families.expectations import Expectations, Row
from auditor.families.naming import Naming
from auditor.families.scaling import is_scale
from auditor.format.entries import elements
from auditor.inventory.facts import Inventory

_PIECES = 3  # tensors that are joined in one, or that one is split into
_HELD = 64  # tensors of a block that are tried; no layout has as many
_STORED = 12  # those that are tried as pieces of one

# Layer, block of it (self_attn, mlp), and expert: what is fused lies within one of these, or in a stack of experts.
_Place = tuple[int, str, int | None]


def find_fusions(inventory: Inventory, expectations: Expectations, match: Match) -> tuple[Fusion, ...]:
    """Stored tensors whose shape is that of missing ones together, and missing ones that stored ones make up."""
    gone: dict[_Place, dict[Row, list[str]]] = {}
    for name, row in match.missing.items():
        place = _place(name, expectations.naming)
        if place is not None and row.role != "scale":
            gone.setdefault(place, {}).setdefault(row, []).append(name)
            if place[2] is not None:
                gone.setdefault((*place[:2], None), {}).setdefault(row, []).append(name)
    there: dict[_Place, list[str]] = {}
    for name in match.unexpected if gone else ():
        place = _place(name, expectations.naming)
        if place in gone:
            there.setdefault(place, []).append(name)
    found: list[Fusion] = []
    for place, stored in there.items():
        scales = [name for name in stored if is_scale(name)]
        taken: set[str] = set()
        weights = [name for name in stored if not is_scale(name)][:_HELD]
        for pieces, whole in (
            *_join(weights, gone[place], inventory, taken, one=place[2] is not None),
            *_split(weights, gone[place], inventory, taken),
        ):
            own = [name for name in scales if name.startswith(tuple(each.removesuffix(".weight") for each in pieces))]
            lost = [name for each in whole for name in expectations.beside(each) if name in match.missing]
            found.append(
                Fusion(
                    (*pieces, *own, *whole, *lost),
                    pieces,
                    tuple(dict.fromkeys(map(expectations.naming.kind_of, pieces))),
                    tuple(dict.fromkeys(map(expectations.naming.kind_of, whole))),
                    inventory.tensors[pieces[0]].shape,
                )
            )
    return tuple(found)


def _place(name: str, naming: Naming) -> _Place | None:
    layer = naming.layer_of(name)
    return None if layer is None else (layer, naming.kind_of(name).partition(".")[0], naming.expert_of(name))


def _join(
    stored: Sequence[str], gone: dict[Row, list[str]], inventory: Inventory, taken: set[str], *, one: bool
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Each stored tensor with the missing ones that it holds; those whose names it resembles are tried first.

    `one`: they are of one expert, and not of all.
    """
    for name in stored:
        shape = inventory.tensors[name].shape
        left = [row for row, names in gone.items() if not taken.intersection(names)]
        chosen = (rows for size in range(1, _PIECES + 1) for rows in combinations(left, size))
        for rows in sorted(chosen, key=lambda rows: -_resemblance(name, rows)):
            stacks = {len(gone[row]) for row in rows}
            stack = stacks.pop()
            whole = one or all(len(gone[row]) == max(1, row.experts) for row in rows)
            if stacks or not whole or (stack == 1 and len(rows) == 1):
                continue
            if _is_joint(shape, stack, [row.shape for row in rows]):
                names = tuple(each for row in rows for each in gone[row])
                taken.update(names, (name,))
                yield (name,), names
                break


def _split(
    stored: Sequence[str], gone: dict[Row, list[str]], inventory: Inventory, taken: set[str]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Each missing tensor with stored ones that have its elements together."""
    for row, names in gone.items():
        left = [name for name in stored if name not in taken][:_STORED]
        if len(names) != 1 or taken.intersection(names):
            continue
        for pieces in (each for size in range(2, _PIECES + 1) for each in combinations(left, size)):
            if sum(elements(inventory.tensors[name].shape) for name in pieces) == elements(row.shape):
                taken.update(names, pieces)
                yield pieces, tuple(names)
                break


def _resemblance(name: str, rows: Sequence[Row]) -> int:
    """How many of the tensors' own words are in a name, less those that are not: gate_up_proj is gate and up."""
    held = [row.suffix.rpartition(".")[0].rpartition(".")[2].partition("_proj")[0] in name for row in rows]
    return 2 * sum(held) - len(held)


def _is_joint(shape: tuple[int, ...], stack: int, parts: Sequence[tuple[int, ...]]) -> bool:
    """Whether a shape is that of parts joined along one axis, for each of a stack, in whatever order of axes."""
    if any(len(part) != 2 for part in parts):
        return False
    rows, columns = [part[0] for part in parts], [part[1] for part in parts]
    joints = []
    if len(set(columns)) == 1:
        joints.append((sum(rows), columns[0]))
    if len(set(rows)) == 1:
        joints.append((rows[0], sum(columns)))
    own = sorted(side for side in shape if side != 1)
    return any(
        own == sorted(side for side in sides if side != 1)
        for a, b in joints
        for sides in ((stack, a, b), (stack * a, b), (a, stack * b))
    )
