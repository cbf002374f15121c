"""Where the bytes are: by dtype, by component, by shard, and the inventory in patterns."""

from dataclasses import dataclass

from auditor_reports import text
from auditor_reports.charts import ColumnChart, Segment, column_chart, stack
from auditor_schemas.inventory import LayoutRow, Storage
from auditor_schemas.report import AuditReport

LAYOUT_ROWS = 1_000
SHARD_ROWS = 1_000
DISTANT_ROWS = 500
# Dtypes that a chart tells apart by shade; others share the last one.
SHADES = 4

# Bits per element, as the safetensors format defines its dtypes.
DTYPE_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DtypeView:
    """What one dtype holds, and its shade in the charts."""

    dtype: str
    shade: str
    elements: str
    size: str
    share: str
    bar: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentView:
    """What one component stores, with what of it each dtype takes."""

    component: str
    tensors: str
    size: str
    share: str
    by_dtype: str
    bar: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardView:
    """One shard in sums."""

    file: str
    size: str
    header: str
    tensors: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DistantView:
    """Weights whose scales another shard holds."""

    weight_file: str
    scale_file: str
    count: str
    weights: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayoutView:
    """Tensors alike in pattern, shape and dtype."""

    pattern: str
    shape: str
    dtype: str
    count: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageView:
    """The storage section; what a report does not have is empty."""

    inventory: Pairs
    dtypes: tuple[DtypeView, ...]
    components: tuple[ComponentView, ...]
    sizes: ColumnChart | None
    counts: ColumnChart | None
    shard_facts: Pairs
    shards: tuple[ShardView, ...]
    shards_hidden: str | None
    distant_summary: str | None
    distant: tuple[DistantView, ...]
    distant_hidden: str | None
    layout: tuple[LayoutView, ...]
    layout_summary: str
    layout_hidden: str | None


def storage_view(report: AuditReport) -> StorageView:
    """The section, worded."""
    stored = report.storage or Storage(components=(), shards=(), distant_scales=())
    shards, distant = stored.shards, stored.distant_scales
    apart = sum(each.count for each in distant)
    return StorageView(
        inventory=_inventory(report),
        dtypes=_dtypes(report),
        components=_components(report, stored),
        sizes=column_chart(
            [(each.file, each.bytes) for each in shards],
            text.size,
            f"Size of each of {text.plural(len(shards), 'shard')}, in the order of their names",
        ),
        counts=column_chart(
            [(each.file, each.tensors) for each in shards],
            lambda count: text.plural(count, "tensor"),
            f"Tensors in each of {text.plural(len(shards), 'shard')}, in the order of their names",
        ),
        shard_facts=_shard_facts(stored),
        shards=tuple(
            ShardView(
                file=each.file,
                size=text.size(each.bytes),
                header=text.size(each.header_bytes),
                tensors=text.number(each.tensors),
            )
            for each in shards[:SHARD_ROWS]
        ),
        shards_hidden=_hidden(len(shards), SHARD_ROWS, "shard"),
        distant_summary=_distant_summary(apart) if report.storage is not None else None,
        distant=tuple(
            DistantView(
                weight_file=each.weight_file,
                scale_file=each.scale_file,
                count=text.number(each.count),
                weights=each.weights[:20],
            )
            for each in distant[:DISTANT_ROWS]
        ),
        distant_hidden=_hidden(len(distant), DISTANT_ROWS, "pair of shards", "pairs of shards"),
        layout=tuple(_layout(row) for row in report.layout[:LAYOUT_ROWS]),
        layout_summary=f"{text.plural(report.inventory.tensors, 'tensor')} in "
        f"{text.plural(len(report.layout), 'pattern')}",
        layout_hidden=_hidden(len(report.layout), LAYOUT_ROWS, "pattern", unlisted=report.left_out.get("layout", 0)),
    )


def _hidden(count: int, shown: int, noun: str, nouns: str | None = None, *, unlisted: int = 0) -> str | None:
    """How many more there are in the JSON, and how many that no report lists."""
    if count <= shown:
        return None
    beyond = f", {text.number(unlisted)} that no report lists" if unlisted else ""
    return f"{text.plural(count - shown, f'more {noun}', nouns and f'more {nouns}')} in the JSON{beyond}"


def _distant_summary(apart: int) -> str:
    if not apart:
        return "Every scale lies in the shard of its weight."
    verb = "lies" if apart == 1 else "lie"
    weights = text.plural(apart, "FP8 weight")
    return f"{weights} {verb} in another shard than {'its' if apart == 1 else 'their'} scale: a loader must see both."


def _inventory(report: AuditReport) -> Pairs:
    inventory = report.inventory
    return (
        ("tensors", text.number(inventory.tensors)),
        ("shards", text.number(inventory.shards)),
        ("elements, scales included", text.number(inventory.elements)),
        ("payload", f"{text.number(inventory.payload_bytes)} B ({text.size(inventory.payload_bytes)})"),
        ("files", f"{text.number(inventory.file_bytes)} B ({text.size(inventory.file_bytes)})"),
    )


def _shades(report: AuditReport) -> dict[str, str]:
    """A shade for each dtype, the heaviest first."""
    order = sorted(report.inventory.by_dtype, key=lambda dtype: (-(_dtype_bytes(report, dtype) or 0), dtype))
    return {dtype: f"shade-{min(position, SHADES - 1)}" for position, dtype in enumerate(order)}


def _dtype_bytes(report: AuditReport, dtype: str) -> int | None:
    return (report.inventory.by_dtype[dtype] * DTYPE_BITS[dtype] + 7) // 8 if dtype in DTYPE_BITS else None


def _dtypes(report: AuditReport) -> tuple[DtypeView, ...]:
    shades = _shades(report)
    sizes = {dtype: _dtype_bytes(report, dtype) for dtype in shades}
    whole = sum(size or 0 for size in sizes.values())
    return tuple(
        DtypeView(
            dtype=dtype,
            shade=shade,
            elements=text.number(report.inventory.by_dtype[dtype]),
            size="—" if sizes[dtype] is None else text.size(sizes[dtype] or 0),
            share="—" if sizes[dtype] is None else text.share(sizes[dtype] or 0, whole),
            bar=stack([(shade, sizes[dtype] or 0, "")], whole),
        )
        for dtype, shade in shades.items()
    )


def _components(report: AuditReport, stored: Storage) -> tuple[ComponentView, ...]:
    shades = _shades(report)
    grouped: dict[str, list[tuple[str, int, int]]] = {}
    for each in stored.components:
        grouped.setdefault(each.component, []).append((each.dtype, each.bytes, each.tensors))
    sums = {component: sum(size for _, size, _ in parts) for component, parts in grouped.items()}
    whole, largest = sum(sums.values()), max(sums.values(), default=0)
    return tuple(
        ComponentView(
            component=text.words(component),
            tensors=text.number(sum(tensors for _, _, tensors in parts)),
            size=text.size(sums[component]),
            share=text.share(sums[component], whole),
            by_dtype=", ".join(f"{dtype} {text.size(size)}" for dtype, size, _ in parts),
            bar=stack([(shades.get(dtype, "shade-3"), size, "") for dtype, size, _ in parts], largest),
        )
        for component, parts in grouped.items()
    )


def _shard_facts(stored: Storage) -> Pairs:
    if not stored.shards:
        return ()
    sizes = sorted((each.bytes, each.file) for each in stored.shards)
    counts = sorted((each.tensors, each.file) for each in stored.shards)
    middle = len(stored.shards) // 2
    return (
        ("smallest shard", f"{text.size(sizes[0][0])}, {sizes[0][1]}"),
        ("median shard", f"{text.size(sizes[middle][0])}, {text.plural(counts[middle][0], 'tensor')}"),
        ("largest shard", f"{text.size(sizes[-1][0])}, {sizes[-1][1]}"),
        ("fewest and most tensors", f"{counts[0][0]:,} and {counts[-1][0]:,} in a shard"),
    )


def _layout(row: LayoutRow) -> LayoutView:
    return LayoutView(
        pattern=row.pattern, shape=text.shape(row.shape), dtype=row.dtype, count=text.number(row.count), files=row.files
    )
