"""The map of the checkpoint: layers down, modules across, each cell with the worst that was found in it."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditor_reports import text
from auditor_reports.view_findings import FindingsView
from auditor_schemas.inventory import LayoutRow
from auditor_schemas.report import Cell

# Rows stand in blocks side by side, so that 62 layers fit one screen.
BLOCK_ROWS = 31
LAYERS = 1_024
MODULES = 32
EXPERTS = 4_096

MARKS = {"passed": "·", "info": "i", "warning": "!", "error": "✘", "unread": "?"}
WORDS = {
    "passed": "nothing found",
    "info": "worth knowing",
    "warning": "warning",
    "error": "error",
    "unread": "not read",
}
# Modules in the order of a forward pass; others follow as they come.
_ACROSS = (
    "embedding", "attention", "indexer", "dense_mlp", "router", "experts", "shared_experts", "norms", "mtp", "head",
)  # fmt: skip
_NAMES = {"experts": "routed experts", "mtp": "MTP extras"}
_EXPERTS = re.compile(r"\.mlp\.experts\.(?:\{[0-9]{1,9}-)?([0-9]{1,9})[}.]")
_ORDER = {"error": 0, "unread": 1, "warning": 2, "info": 3, "passed": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class CellView:
    """One cell; `state` is empty where the layer has no such module, `target` the finding it leads to.

    `number` counts what fails in it, in few characters.
    """

    state: str = ""
    mark: str = ""
    number: str = ""
    title: str = ""
    layer: str = ""
    module: str = ""
    target: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some rows of the map with their own headings; a module is its identifier and its name."""

    caption: str
    modules: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str, tuple[CellView, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MapView:
    """The map in blocks; `legend` has a state, its mark, its words and how many cells show it."""

    blocks: tuple[Block, ...]
    legend: tuple[tuple[str, str, str, str], ...]
    summary: str
    experts: int
    left_out: str | None


def checkpoint_map(cells: tuple[Cell, ...], findings: FindingsView, layout: tuple[LayoutRow, ...]) -> MapView:
    """The cells as tables: what stands outside the layers first, then the layers."""
    targets = _Targets(findings)
    outside = [cell for cell in cells if cell.layer is None]
    inside = [cell for cell in cells if cell.layer is not None]
    blocks: list[Block] = []
    if outside:
        blocks.append(_block("outside the layers", outside, [None], targets))
    layers = sorted({cell.layer for cell in inside if cell.layer is not None})
    modules = _across(cell.module for cell in inside)
    by_layer: dict[int, list[Cell]] = {}
    for cell in inside:
        assert cell.layer is not None
        by_layer.setdefault(cell.layer, []).append(cell)
    kept = layers[:LAYERS]
    parts = -(-len(kept) // BLOCK_ROWS)
    rows = -(-len(kept) // parts) if parts else 1
    for begin in range(0, len(kept), rows):
        chunk = kept[begin : begin + rows]
        members = [cell for layer in chunk for cell in by_layer[layer]]
        blocks.append(_block(_layers(chunk[0], chunk[-1]), members, chunk, targets, modules=modules))
    tally: dict[str, int] = {}
    for cell in cells:
        tally[cell.worst] = tally.get(cell.worst, 0) + 1
    left = []
    if len(layers) > LAYERS:
        left.append(text.plural(len(layers) - LAYERS, "layer"))
    if len(modules) > MODULES:
        left.append(text.plural(len(modules) - MODULES, "module"))
    return MapView(
        blocks=tuple(blocks),
        legend=tuple((s, MARKS[s], WORDS[s], text.number(tally[s])) for s in sorted(tally, key=_ORDER.__getitem__)),
        summary=f"{text.plural(len(layers), 'layer')}, {text.plural(len(cells), 'cell')}",
        experts=_experts(layout),
        left_out=f"{text.listed(left)} more are in the JSON" if left else None,
    )


def _experts(layout: tuple[LayoutRow, ...]) -> int:
    """How many routed experts a layer has, by the highest number that the inventory holds."""
    numbers = (int(found[1]) for row in layout if (found := _EXPERTS.search(row.pattern)) is not None)
    return min(EXPERTS, max(numbers, default=-1) + 1)


def _across(modules: Iterable[str]) -> list[str]:
    ranks = {module: rank for rank, module in enumerate(_ACROSS)}
    return sorted(dict.fromkeys(modules), key=lambda module: ranks.get(module, len(ranks)))


def _layers(first: int, last: int) -> str:
    return f"layer {first}" if first == last else f"layers {first} to {last}"


def _name(module: str) -> str:
    return _NAMES.get(module, text.words(module))


def _block(
    caption: str,
    cells: Iterable[Cell],
    layers: Sequence[int | None],
    targets: "_Targets",
    *,
    modules: list[str] | None = None,
) -> Block:
    by_place = {(cell.layer, cell.module): cell for cell in cells}
    present = _across(module for _, module in by_place)
    columns = [module for module in modules or present if module in present][:MODULES]
    return Block(
        caption=caption,
        modules=tuple((module, _name(module)) for module in columns),
        rows=tuple(
            (
                "—" if layer is None else str(layer),
                "" if layer is None else str(layer),
                tuple(_cell(by_place.get((layer, module)), targets) for module in columns),
            )
            for layer in layers
        ),
    )


def _cell(cell: Cell | None, targets: "_Targets") -> CellView:
    if cell is None:
        return CellView()
    where = f"layer {cell.layer}, {_name(cell.module)}" if cell.layer is not None else _name(cell.module)
    counts = ", ".join(f"{number:,} {text.words(name)}" for name, number in cell.counts.items())
    failing = cell.counts.get(cell.worst, 0)
    return CellView(
        state=cell.worst,
        mark=MARKS[cell.worst],
        number=_short(failing) if failing and cell.worst != "passed" else "",
        title=f"{where}: {WORDS[cell.worst]}{f' ({counts})' if counts else ''}",
        layer="" if cell.layer is None else str(cell.layer),
        module=cell.module,
        target=None if cell.worst == "passed" else targets.of(cell),
    )


def _short(count: int) -> str:
    """A count in at most four characters: 7, 512, 1.5k, 46k, 3M."""
    for unit, size in (("", 1), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)):
        if count < 1_000 * size:
            scaled = count / size
            return f"{scaled:.1f}{unit}".replace(".0", "") if unit and scaled < 10 else f"{int(scaled)}{unit}"
    return "∞"


class _Targets:
    """Leads from a cell to the heaviest finding on the page that is in it."""

    def __init__(self, findings: FindingsView) -> None:
        self._spans: dict[str, list[tuple[int, int, str]]] = {}
        self._top: dict[str, str] = {}
        for group in findings.groups:
            for view in group.findings:
                for module, _, places in (each.rpartition(":") for each in view.cells):
                    for layers in {place.partition("/")[0] for place in places.split(",")}:
                        first, _, last = layers.partition("-")
                        if first.isdigit():
                            self._spans.setdefault(module, []).append((int(first), int(last or first), view.anchor))
                        else:
                            self._top.setdefault(module, view.anchor)

    def of(self, cell: Cell) -> str:
        if cell.layer is None:
            return self._top.get(cell.module, "findings")
        layer = cell.layer
        return next((anchor for a, b, anchor in self._spans.get(cell.module, ()) if a <= layer <= b), "findings")
