"""What a forged checkpoint will hold, file by file and tensor by tensor, before a byte of it is written.

The names, shapes and dtypes are the family's expectations, the placement is the release's. A plan is
mutable so that a break can change it; everything that follows from a change (index, offsets, total_size,
shard numbers) is derived when the plan is written.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from dataclasses import replace as dataclass_replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from auditor.families.configure import configure
from auditor.families.expectations import Expectations, Row
from auditor.families.naming import Naming
from auditor.families.scaling import Quantiser
from auditor.format.dtypes import FP8, packed_bytes
from auditor.format.entries import elements
from auditor.inventory.facts import ConfigFile
from auditor_schemas.policy import Limits

Edit = Callable[[Any], Any]
Values = Literal["weights", "norms", "biases", "codes", "scales", "dequantised", "further"]


class Tensor(Struct, frozen=True, gc=False):
    """One tensor to write. `values` says how real content is made, from the random stream called `stream`.

    A weight's codes and its scales share one stream, and so do a vocabulary matrix and its MTP copy.
    `origin` is the shape of the matrix that scales belong to. What else a format has beside codes is `further`.
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

    `rows` are the sound checkpoint's tensors in storage order, `naming` says where their layers stand. FP8 weights are
    in blocks of `block`. `total` is the convention of total_size, `sidecar` what stands in hf_quant_config.json.
    Departures: `moved` maps names to other index entries (None: omitted), `strays` are no part of the
    checkpoint, `edit_config` and `edit_index` change a file's bytes (None: it is not written), `edits` change the
    content of the tensors they name, `afterwards` runs on the written directory. An edit gets an array of the
    tensor's shape (of FP8 and BF16 the bit patterns) and returns what is written in its place.
    """

    config: dict[str, Any]
    rows: dict[str, Row]
    naming: Naming
    shards: list[Shard]
    mtp_layers: tuple[int, ...]
    block: tuple[int, int]
    powers_of_two: bool
    total: Literal["payload", "elements"]
    sidecar: dict[str, Any] | None = None
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

    @cached_property
    def moe_layer(self) -> int:
        """A mixture-of-experts layer in the middle of the main model."""
        experts = {self.naming.layer_of(name) for name, row in self.rows.items() if row.experts}
        layers = sorted(layer for layer in experts if layer is not None and layer not in self.mtp_layers)
        return layers[len(layers) // 2]

    @cached_property
    def prefix(self) -> str:
        """What names of that layer begin with."""
        return self.naming.prefix(self.moe_layer)

    @cached_property
    def router(self) -> str:
        """The router's weight of that layer."""
        return next(
            name
            for name, row in self.rows.items()
            if name.startswith(self.prefix) and row.module == "router" and row.role == "weight"
        )

    @cached_property
    def input_norm(self) -> str:
        """The first norm of that layer that is as wide as the model."""
        return next(name for name, row in self.rows.items() if name.startswith(self.prefix) and row.module == "norms")

    @cached_property
    def final_norm(self) -> str:
        """The norm before the head."""
        return next(name for name, row in self.rows.items() if row.top and row.module == "norms")

    @cached_property
    def expert(self) -> str:
        """The second weight of the second routed expert of that layer."""
        first = f"{self.prefix}{self.naming.experts}1."
        return [name for name, row in self.rows.items() if name.startswith(first) and row.role == "weight"][1]

    @property
    def experts(self) -> int:
        """How many routed experts that layer has."""
        return self.rows[self.expert].experts

    def copy(self) -> "Plan":
        """The same, which no change of this one changes."""
        shards, strays = (
            [dataclass_replace(each, tensors=list(each.tensors), gaps=dict(each.gaps)) for each in several]
            for several in (self.shards, self.strays)
        )
        return dataclass_replace(
            self,
            config=deepcopy(self.config),
            sidecar=deepcopy(self.sidecar),
            shards=shards,
            strays=strays,
            moved=dict(self.moved),
            edits=dict(self.edits),
            afterwards=list(self.afterwards),
        )

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

    A shard is closed as soon as it holds `limit` elements; a new one begins at each of `stages` (layers). `sidecar` is
    its hf_quant_config.json; `without` ends the names of tensors that may be absent, and are.
    """

    config: str
    sidecar: str | None = None
    without: tuple[str, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    limit: int = 1 << 32
    stages: tuple[int, ...] = ()
    total: Literal["payload", "elements"] = "payload"


# The release was saved by pipeline stages: the first with the embedding, the last but one with the final
# norm and the head, the last the MTP module alone. Full shards hold 2^32 elements (4.0 GiB of FP8).
_STAGES = (7, 15, 23, 31, 39, 47, 54, 61)

_CACHE = (".k_scale", ".v_scale")

LIKES: dict[str, Like] = {
    "v3": Like(config="deepseek-v3", stages=_STAGES, total="elements"),
    "v3.2": Like(config="deepseek-v3.2", stages=_STAGES, total="elements"),
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
    ),
    "glm-5.1": Like(config="glm-5.1"),
    "glm-5.2-fp8": Like(config="glm-5.2-fp8"),
    "kimi-k2": Like(config="kimi-k2-instruct"),
    "minimax-m2.7": Like(config="minimax-m2.7"),
    "qwen3-30b-fp8": Like(config="qwen3-30b-a3b-fp8"),
    "mimo-v2.5": Like(config="mimo-v2.5"),
    "mimo-v2.5-pro": Like(config="mimo-v2.5-pro"),
    "kimi-k2.5": Like(config="kimi-k2.5"),
    "kimi-k3": Like(config="kimi-k3"),
    "glm-5.3-flash-fp8": Like(config="glm-5.3-flash-fp8"),
    "v4-flash": Like(config="deepseek-v4-flash-0731"),
    "v4-flash-preview": Like(config="deepseek-v4-flash"),
    "v4-pro": Like(config="deepseek-v4-pro-0813"),
    "v4-pro-preview": Like(config="deepseek-v4-pro"),
    "v4.1-flash": Like(config="deepseek-v4.1-flash"),
    "v3.1-nvfp4": Like(config="deepseek-v3.1-nvfp4", sidecar="deepseek-v3.1-nvfp4.hf_quant_config"),
    "v3.2-nvfp4": Like(config="deepseek-v3.2-nvfp4", sidecar="deepseek-v3.2-nvfp4.hf_quant_config"),
    "v4-flash-nvfp4": Like(config="deepseek-v4-flash-nvfp4"),
    "glm-5.2-nvfp4": Like(config="glm-5.2-nvfp4", without=_CACHE),
    "glm-5.3-flash-nvfp4": Like(config="glm-5.3-flash-nvfp4", without=_CACHE),
    "kimi-k2.6-nvfp4": Like(config="kimi-k2.6-nvfp4", without=_CACHE),
}  # fmt: skip


def plan(like: str) -> Plan:
    """The plan of a sound checkpoint like one of LIKES."""
    chosen = LIKES[like]
    sidecar = None if chosen.sidecar is None else _document(chosen.sidecar)
    return plan_of_config({**_document(chosen.config), **deepcopy(chosen.changes)}, sidecar, chosen)


def plan_of_config(config: dict[str, Any], sidecar: dict[str, Any] | None, placement: Like) -> Plan:
    """The plan of a sound checkpoint with that config.json, placed as another is."""
    config = {name: value for name, value in config.items() if name != "auto_map"}  # names code that is not forged
    read = configure(_file(config), Limits(), sidecar=lambda: _file(sidecar))
    assert read.family is not None, read
    assert read.config is not None, read
    return plan_of_expectations(read.family.expectations(read.config), config, sidecar, placement)


def plan_of_expectations(
    expectations: Expectations, config: dict[str, Any], sidecar: dict[str, Any] | None, placement: Like
) -> Plan:
    """The plan of a sound checkpoint with those tensors."""
    naming = expectations.naming
    rows = {name: row for name, row in _store(expectations).items() if not name.endswith(placement.without)}
    own = usual(rows.values())
    return Plan(
        config,
        rows,
        naming,
        _place([_tensor(name, row, rows, naming) for name, row in rows.items()], placement, naming),
        expectations.mtp_layers,
        (128, 128) if own is None else own.block,
        own is not None and own.powers_of_two,
        placement.total,
        sidecar,
    )


def _document(name: str) -> dict[str, Any]:
    text = resources.files("auditor.forge").joinpath("configs", f"{name}.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def _file(document: dict[str, Any] | None) -> ConfigFile:
    return ConfigFile("absent") if document is None else ConfigFile("read", json.dumps(document).encode())


def usual(rows: Iterable[Row]) -> Quantiser | None:
    """The FP8 blocks that most weights are in; None where nothing is in any."""
    formats = Counter(row.quantiser for row in rows if row.quantiser is not None and row.dtype == FP8)
    return formats.most_common(1)[0][0] if formats else None


def _store(expectations: Expectations) -> dict[str, Row]:
    """Every expected tensor in storage order: embedding, layer by layer, what else is outside them, head.

    What an MTP module has beside its decoder layer comes last, so that it lies in the last shard.
    """
    layers: dict[int | None, list[tuple[str, Row]]] = {}
    extras: list[tuple[str, Row]] = []
    for name, row in expectations.names.items():
        layer = expectations.naming.layer_of(name)
        (extras if row.module == "mtp" else layers.setdefault(layer, [])).append((name, row))
    embedding, *rest = layers.pop(None)
    mtp = set(expectations.mtp_layers)
    ordered = [embedding]
    for layer in sorted(layer for layer in layers if layer is not None):
        if layer in mtp and rest:
            ordered.extend(rest)
            rest = []
        ordered.extend(layers[layer])
    return dict([*ordered, *rest, *extras])


_VALUES: dict[str, Values] = {"norm": "norms", "bias": "biases", "router_bias": "biases", "table": "further"}


def _tensor(name: str, row: Row, rows: dict[str, Row], naming: Naming) -> Tensor:
    """A tensor to write. A copy of the vocabulary is made of the same stream as the original."""
    if row.companion is not None and row.codes is not None:
        codes = f"{name.rpartition('.')[0]}.{row.codes.rpartition('.')[2]}"
        values: Values = "scales" if row.companion.meaning == "scale" else "further"
        return Tensor(name, row.dtype, row.shape, values, codes, rows[codes].shape)
    if row.quantised:
        return Tensor(name, row.dtype, row.shape, "codes", name, row.shape)
    original = naming.copies.get(name.removeprefix(naming.prefix_in(name)), name)
    return Tensor(name, row.dtype, row.shape, _VALUES.get(row.role, "weights"), original, row.shape)


def _place(tensors: list[Tensor], like: Like, naming: Naming) -> list[Shard]:
    shards: list[Shard] = []
    begins = set(like.stages)
    held = like.limit
    previous: int | None = None
    for tensor in tensors:
        layer = naming.layer_of(tensor.name)
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
