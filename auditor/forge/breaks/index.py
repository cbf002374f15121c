"""Breaks of the index and of what it says about the shards."""

import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from auditor.forge.breaks import Break, breaks_as
from auditor.forge.plan import Plan, Shard, Tensor, number
from auditor_schemas.rule import Severity


def _text(
    name: str,
    title: str,
    edit: Callable[[bytes], bytes | None],
    *,
    rule: str = "IDX102",
    severity: Severity = Severity.ERROR,
) -> Break:
    def apply(plan: Plan) -> None:
        plan.edit_index = edit

    return breaks_as(name, title, rule, severity=severity)(apply)


missing_index = _text("missing-index", "the index is not there", lambda _: None, rule="IDX101")
index_not_json = _text("index-not-json", "the index breaks off in the middle", lambda raw: raw[: len(raw) // 2])
index_empty = _text("empty-index", "the index is an empty file", lambda _: b"")
index_without_map = _text(
    "index-without-weight-map", "the index has no weight_map", lambda raw: raw.replace(b'"weight_map"', b'"weights"', 1)
)


index_pointer = _text(
    "index-git-lfs-pointer",
    "the index is a git-lfs pointer",
    lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 8898324\n",
)
index_marked = _text(
    "index-byte-order-mark", "the index begins with a byte order mark", lambda raw: b"\xef\xbb\xbf" + raw
)
total_size_text = _text(
    "textual-total-size",
    "total_size is a number in quotes",
    lambda raw: re.sub(rb'"total_size": ([0-9]+)', rb'"total_size": "\1"', raw),
    rule="IDX120",
    severity=Severity.WARNING,
)


@breaks_as("consolidated-index", "the index has the name that mistral's loaders read", "IDX101")
def consolidated_index(plan: Plan) -> None:
    """All is there, and loaders of this layout look for another name."""

    def rename(directory: Path) -> None:
        (directory / "model.safetensors.index.json").rename(directory / "consolidated.safetensors.index.json")

    plan.afterwards.append(rename)


def _twice(raw: bytes) -> bytes:
    head, opening, entries = raw.partition(b'"weight_map": {')
    first = entries.split(b",", 1)[0]
    return head + opening + first + b"," + entries


index_duplicate_key = _text("index-duplicate-key", "the weight_map has a name twice", _twice)


@breaks_as("index-entry-not-text", "a weight_map entry is a number", "IDX102")
def entry_not_text(plan: Plan) -> None:
    """The entry of a tensor that is there, so that only the index is at fault."""
    name, shard = plan.middle.tensors[1].name, plan.middle.file
    entry = f'"{name}": "{shard}"'
    plan.edit_index = lambda raw: raw.replace(entry.encode(), f'"{name}": 7'.encode(), 1)


@breaks_as("missing-shard", "a shard that the index names is not there", "IDX103")
def missing_shard(plan: Plan) -> None:
    """Loaders that glob for shards leave its weights uninitialised and say nothing."""
    gone = plan.middle.file
    plan.afterwards.append(lambda directory: (directory / gone).unlink())


@breaks_as("missing-last-shards", "a download ended before the last two shards", "IDX103")
def missing_last_shards(plan: Plan) -> None:
    """Partial downloads end somewhere; the index came first."""
    gone = [shard.file for shard in plan.shards[-2:]]

    def remove(directory: Path) -> None:
        for file in gone:
            (directory / file).unlink()

    plan.afterwards.append(remove)


@breaks_as("dotted-shard-paths", "the index spells every shard with ./ before it", "IDX104")
def dotted_paths(plan: Plan) -> None:
    """Loaders that compare paths with the names in the folder find none of them."""
    plan.moved.update({name: f"./{file}" for name, file in plan.weight_map().items()})


@breaks_as("backslash-shard-paths", "the index spells every shard with a dot and a backslash before it", "IDX104")
def backslash_paths(plan: Plan) -> None:
    """As written on a system whose folders are parted so."""
    plan.moved.update({name: f".\\{file}" for name, file in plan.weight_map().items()})


def _unsafe(name: str, title: str, path: str) -> Break:
    def apply(plan: Plan) -> None:
        plan.moved[plan.middle.tensors[1].name] = path

    return breaks_as(name, title, "IDX104")(apply)


parent_path = _unsafe("parent-shard-path", "the index leads out of the checkpoint by ..", "../model.safetensors")
absolute_path = _unsafe("absolute-shard-path", "the index names an absolute path", "/etc/passwd")
backslash_path = _unsafe("backslash-shard-path", "the index names a path with backslashes", "..\\model.safetensors")
nul_path = _unsafe("nul-shard-path", "the index names a path with a NUL", "model.safetensors\x00.txt")


@breaks_as("stray-shard", "a valid shard lies there that the index does not name", "IDX105", severity=Severity.WARNING)
def stray_shard(plan: Plan) -> None:
    """A loader that globs takes it for a part of the model."""
    name = "lora.weight"
    plan.strays.append(Shard("adapter.safetensors", [Tensor(name, "F32", (64, 8), "weights", name, (64, 8))]))


@breaks_as("ghost-index-entry", "the index names a tensor that no shard holds", "IDX106")
def ghost_entry(plan: Plan) -> None:
    """One entry more than there are tensors; the ghost is none that the config implies."""
    plan.moved[f"model.layers.{plan.moe_layer}.self_attn.rotary_emb.inv_freq"] = plan.middle.file


@breaks_as("unindexed-tensors", "the index omits 31 tensors that the shards hold", "IDX107")
def unindexed_tensors(plan: Plan) -> None:
    """The omitted ones lie in the middle of a shard that stays named."""
    for tensor in islice(plan.middle.tensors, 2, 33):
        plan.moved[tensor.name] = None


@breaks_as("misplaced-index-entry", "the index places a tensor in another shard than the one that holds it", "IDX108")
def misplaced_entry(plan: Plan) -> None:
    """The named shard exists, so a check of files alone sees nothing."""
    plan.moved[plan.middle.tensors[1].name] = plan.shards[0].file


@breaks_as("duplicate-tensor", "two shards hold the same tensor", "IDX109")
def duplicate_tensor(plan: Plan) -> None:
    """The last load wins, in whatever order a loader reads."""
    plan.shards[-1].tensors.append(plan.middle.tensors[1])


@breaks_as("official-total-size", "total_size is 2 × the number of elements", "IDX110", severity=Severity.INFO)
def official_total_size(plan: Plan) -> None:
    """As the official indexes have it."""
    plan.total = "elements"


@breaks_as("wrong-total-size", "total_size is neither convention's", "IDX111", severity=Severity.WARNING)
def wrong_total_size(plan: Plan) -> None:
    """Short by one shard, as when shards were added later."""
    plan.total_size = plan.counted_size() - plan.middle.payload


@breaks_as(
    "incomplete-shard-series", "file names count one shard more than there are", "IDX112", severity=Severity.WARNING
)
def incomplete_series(plan: Plan) -> None:
    """Index and shards agree; only the names speak of one more."""
    number(plan.shards, of=len(plan.shards) + 1)


@breaks_as("no-shards", "config.json stands alone", "IDX113")
def no_shards(plan: Plan) -> None:
    """Neither index nor shards."""
    plan.shards.clear()
    plan.edit_index = lambda _: None
