"""What a forged checkpoint will hold, file by file and tensor by tensor, before a byte of it is written.

The names, shapes and dtypes are the family's expectations, the placement is the release's. A plan is
mutable so that a break can change it; everything that follows from a change (index, offsets, total_size,
shard numbers) is derived when the plan is written.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from auditor.families import family_for
from auditor.families.expectations import Expectations, Row
from auditor.families.scaling import SCALE_SUFFIX
from auditor.format.dtypes import packed_bytes
from auditor.format.entries import elements
from auditor.patterns import layer_of

Edit = Callable[[Any], Any]
Values = Literal["weights", "norms", "biases", "codes", "scales", "dequantised"]


class Tensor(Struct, frozen=True, gc=False):
    """One tensor to write. `values` says how real content is made, from the random stream called `stream`.

    A weight's codes and its scales share one stream, and so do a vocabulary matrix and its MTP copy.
    `origin` is the shape of the matrix that scales belong to.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    values: Values
    stream: str
    origin: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes in the shard."""
        return packed_bytes(self.dtype, elements(self.shape))


@dataclass
class Shard:
    """One shard to write; all fields after the first two are departures from a sound file.

    `gaps` are bytes left free before a tensor (negative: it begins inside its predecessor). `edit` changes
    the header's bytes. `declared` is written as the header's length. `excess` bytes follow the last tensor
    (negative: are missing). `instead` takes the whole file's place, grown to `size` where that is given.
    """

    file: str
    tensors: list[Tensor]
    metadata: dict[str, str] | None = field(default_factory=lambda: {"format": "pt"})
    gaps: dict[str, int] = field(default_factory=dict)
    edit: Callable[[bytes], bytes] | None = None
    declared: int | None = None
    excess: int = 0
    instead: bytes | None = None
    size: int | None = None

    @property
    def payload(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.size for tensor in self.tensors)


@dataclass
class Plan:
    """One checkpoint to write.

    `rows` are the sound checkpoint's tensors in storage order, `total` the convention of total_size.
    Departures: `moved` maps names to other index entries (None: omitted), `strays` are no part of the
    checkpoint, `edit_config` and `edit_index` change a file's bytes (None: it is not written), `edits` change the
    content of the tensors they name, `afterwards` runs on the written directory. An edit gets an array of the
    tensor's shape (of FP8 and BF16 the bit patterns) and returns what is written in its place.
    """

    config: dict[str, Any]
    rows: dict[str, Row]
    shards: list[Shard]
    mtp_layers: tuple[int, ...]
    block: tuple[int, int]
    powers_of_two: bool
    total: Literal["payload", "elements"]
    total_size: int | None = None
    moved: dict[str, str | None] = field(default_factory=dict)
    strays: list[Shard] = field(default_factory=list)
    edit_config: Callable[[bytes], bytes | None] | None = None
    edit_index: Callable[[bytes], bytes | None] | None = None
    edits: dict[str, Edit] = field(default_factory=dict)
    afterwards: list[Callable[[Path], None]] = field(default_factory=list)

    @property
    def middle(self) -> Shard:
        """A shard with neighbours on both sides."""
        return self.shards[len(self.shards) // 2]

    @property
    def moe_layer(self) -> int:
        """A mixture-of-experts layer in the middle of the main model."""
        return int(self.config["first_k_dense_replace"] + self.config["num_hidden_layers"]) // 2

    def tensors(self) -> Iterator[Tensor]:
        """Every tensor, shard after shard."""
        for shard in self.shards:
            yield from shard.tensors

    def distinct(self) -> dict[str, Tensor]:
        """Every tensor by name; of a name in several shards the last, as loaders take it."""
        return {tensor.name: tensor for tensor in self.tensors()}

    def row(self, name: str) -> Row | None:
        """What the sound checkpoint has under a name."""
        return self.rows.get(name)

    def holder(self, name: str) -> Shard:
        """The shard that holds a tensor."""
        return next(shard for shard in self.shards if any(tensor.name == name for tensor in shard.tensors))

    def rewrite(self, change: Callable[[Tensor], Iterable[Tensor]]) -> None:
        """Put in each tensor's place what `change` makes of it; shards left empty go, the others are renumbered."""
        for shard in self.shards:
            shard.tensors = [new for old in shard.tensors for new in change(old)]
        kept = [shard for shard in self.shards if shard.tensors]
        if len(kept) < len(self.shards):
            self.shards = kept
            number(kept)

    def drop(self, unwanted: Callable[[str], bool]) -> None:
        """Leave out the tensors whose name is unwanted."""
        self.rewrite(lambda tensor: () if unwanted(tensor.name) else (tensor,))

    def alter(self, wanted: Callable[[str], bool], **changes: Any) -> None:
        """Change fields of the tensors whose name is wanted."""
        self.rewrite(lambda tensor: (replace(tensor, **changes) if wanted(tensor.name) else tensor,))

    def insert(self, after: str, tensor: Tensor) -> None:
        """Add a tensor behind another."""
        self.rewrite(lambda old: (old, tensor) if old.name == after else (old,))

    def edit(self, wanted: Callable[[str], bool], change: Edit) -> None:
        """Change the content of the tensors whose name is wanted."""
        self.edits.update({tensor.name: change for tensor in self.tensors() if wanted(tensor.name)})

    def weight_map(self) -> dict[str, str]:
        """The index's entries. Of a tensor in several shards the first is named: the copy came later."""
        entries: dict[str, str] = {}
        for shard in self.shards:
            for tensor in shard.tensors:
                entries.setdefault(tensor.name, shard.file)
        for name, path in self.moved.items():
            if path is None:
                del entries[name]
            else:
                entries[name] = path
        return entries

    def counted_size(self) -> int:
        """metadata.total_size by the plan's convention."""
        if self.total_size is not None:
            return self.total_size
        every = self.distinct().values()
        if self.total == "payload":
            return sum(tensor.size for tensor in every)
        # The official indexes give 2 bytes to every element, scales included, as before quantisation.
        return 2 * sum(elements(tensor.shape) for tensor in every)


@dataclass(frozen=True, kw_only=True)
class Like:
    """A checkpoint to resemble: a released config with changes, and its placement.

    A shard is closed as soon as it holds `limit` elements; a new one begins at each of `stages` (layers).
    """

    config: str
    changes: dict[str, Any] = field(default_factory=dict)
    limit: int
    stages: tuple[int, ...] = ()
    total: Literal["payload", "elements"]


# The release was saved by pipeline stages: the first with the embedding, the last but one with the final
# norm and the head, the last the MTP module alone. Full shards hold 2^32 elements (4.0 GiB of FP8).
_STAGES = (7, 15, 23, 31, 39, 47, 54, 61)

LIKES: dict[str, Like] = {
    "v3": Like(config="deepseek-v3", limit=1 << 32, stages=_STAGES, total="elements"),
    "v3.2": Like(config="deepseek-v3.2", limit=1 << 32, stages=_STAGES, total="elements"),
    "tiny": Like(
        config="deepseek-v3",
        # No dimension is a multiple of the block where that can be helped: edge blocks are where tools err.
        changes={
            "first_k_dense_replace": 1, "hidden_size": 320, "intermediate_size": 448, "kv_lora_rank": 176,
            "max_position_embeddings": 1024, "moe_intermediate_size": 192, "n_group": 4, "n_routed_experts": 8,
            "num_attention_heads": 4, "num_experts_per_tok": 2, "num_hidden_layers": 4, "num_key_value_heads": 4,
            "q_lora_rank": 160, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "topk_group": 2, "v_head_dim": 72,
            "vocab_size": 520,
        },
        limit=2_000_000,
        total="payload",
    ),
}  # fmt: skip


def plan(like: str) -> Plan:
    """The plan of a sound checkpoint like one of LIKES."""
    chosen = LIKES[like]
    text = resources.files("auditor.forge").joinpath("configs", f"{chosen.config}.json").read_text("utf-8")
    config: dict[str, Any] = {**json.loads(text), **chosen.changes}
    config.pop("auto_map", None)  # names code that is not forged
    family = family_for(config["model_type"])
    assert family is not None
    expectations = family.expectations(family.config.model_validate(config))
    rows = _store(expectations)
    quantization = config["quantization_config"]
    rows_per_block, columns_per_block = quantization["weight_block_size"]
    return Plan(
        config,
        rows,
        _place([_tensor(name, row, rows) for name, row in rows.items()], chosen),
        expectations.mtp_layers,
        (rows_per_block, columns_per_block),
        quantization.get("scale_fmt") == "ue8m0",
        chosen.total,
    )


def _store(expectations: Expectations) -> dict[str, Row]:
    """Every expected tensor in storage order: embedding, layer by layer, final norm, head.

    What an MTP module has beside its decoder layer comes last, so that it lies in the last shard.
    """
    layers: dict[int | None, list[tuple[str, Row]]] = {}
    extras: list[tuple[str, Row]] = []
    for name, row in expectations.names.items():
        (extras if row.module == "mtp" else layers.setdefault(layer_of(name), [])).append((name, row))
    embedding, *rest = layers.pop(None)
    mtp = set(expectations.mtp_layers)
    ordered = [embedding]
    for layer in sorted(layer for layer in layers if layer is not None):
        if layer in mtp and rest:
            ordered.extend(rest)
            rest = []
        ordered.extend(layers[layer])
    return dict([*ordered, *rest, *extras])


_VALUES: dict[str, Values] = {"scale": "scales", "norm": "norms", "bias": "biases", "router_bias": "biases"}
_COPIES = {"mtp_embedding": "model.embed_tokens.weight", "mtp_head": "lm_head.weight"}


def _tensor(name: str, row: Row, rows: dict[str, Row]) -> Tensor:
    values = _VALUES.get(row.role, "codes" if row.quantised else "weights")
    if row.role == "scale":
        weight = name.removesuffix(SCALE_SUFFIX)
        return Tensor(name, row.dtype, row.shape, values, weight, rows[weight].shape)
    return Tensor(name, row.dtype, row.shape, values, _COPIES.get(row.component, name), row.shape)


def _place(tensors: list[Tensor], like: Like) -> list[Shard]:
    shards: list[Shard] = []
    begins = set(like.stages)
    held = like.limit
    previous: int | None = None
    for tensor in tensors:
        layer = layer_of(tensor.name)
        if held >= like.limit or (layer != previous and layer in begins):
            shards.append(Shard("", []))
            held = 0
        shards[-1].tensors.append(tensor)
        held += elements(tensor.shape)
        previous = layer
    number(shards)
    return shards


def number(shards: list[Shard], *, of: int | None = None) -> None:
    """Name shards as the release does: five digits, then six."""
    count = len(shards) if of is None else of
    for position, shard in enumerate(shards, 1):
        shard.file = f"model-{position:05d}-of-{count:06d}.safetensors"
