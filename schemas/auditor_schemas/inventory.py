"""What a checkpoint stores, in sums and in patterns, and where its bytes are."""

from auditor_schemas.record import Record


class InventorySummary(Record):
    """The inventory in sums. Sizes in bytes; `elements` include scales; `by_dtype` counts elements."""

    tensors: int
    shards: int
    elements: int
    payload_bytes: int
    file_bytes: int
    by_dtype: dict[str, int]


class LayoutRow(Record):
    """Tensors alike in pattern, shape and dtype; `files` are shards in {a-b} patterns."""

    pattern: str
    shape: tuple[int, ...]
    dtype: str
    files: tuple[str, ...]
    count: int


class ComponentBytes(Record):
    """What a component stores in one dtype; a component's block scales are counted with it."""

    component: str
    dtype: str
    tensors: int
    bytes: int


class ShardSummary(Record):
    """One shard in sums: its whole size, its header's, and how many tensors it holds."""

    file: str
    bytes: int
    header_bytes: int
    tensors: int


class DistantScales(Record):
    """FP8 weights of one shard whose block scales another shard holds; `weights` in {a-b} patterns."""

    weight_file: str
    scale_file: str
    count: int
    weights: tuple[str, ...]


class Storage(Record):
    """Where the bytes are: by component and dtype, by shard, and which weights lie apart from their scales."""

    components: tuple[ComponentBytes, ...]
    shards: tuple[ShardSummary, ...]
    distant_scales: tuple[DistantScales, ...]
