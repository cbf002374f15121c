"""Breaks of a shard's bytes: its length field, its header, its size, and what stands in its place."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from auditor.errors import UsageError
from auditor.forge.breaks import Break, breaks_as
from auditor.forge.plan import Plan, Shard
from auditor.forge.write import header_bytes
from auditor_schemas.rule import Severity

_POINTER = b"""version https://git-lfs.github.com/spec/v1
oid sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
size 4302348288
"""
_PAGE = b"<!DOCTYPE html>\n<html><head><title>504 Gateway Time-out</title></head><body>nginx</body></html>\n"
_JSON = b'{"error":"Access to model is restricted. You must be authenticated."}'
_SHORT = 301_000_000  # 8 of 102 shards were that much short in one report


def _instead(name: str, title: str, data: bytes) -> Break:
    def apply(plan: Plan) -> None:
        plan.middle.instead = data

    return breaks_as(name, title, "HDR101")(apply)


lfs_pointer = _instead("git-lfs-pointer", "a shard is a git-lfs pointer", _POINTER)
html_page = _instead("html-page", "a shard is an HTML page", _PAGE)
json_error = _instead("json-error", "a shard is a hub's JSON error message", _JSON)
empty_shard = _instead("empty-shard", "a shard is an empty file", b"")


@breaks_as("zero-filled-shard", "a shard has its size but is all zeros", "HDR101")
def zero_filled(plan: Plan) -> None:
    """What a preallocated download leaves that never came."""
    raw, payload = header_bytes(plan.middle)
    plan.middle.instead, plan.middle.size = b"", 8 + len(raw) + payload


def _declared(name: str, title: str, length: int) -> Break:
    def apply(plan: Plan) -> None:
        plan.middle.declared = length

    return breaks_as(name, title, "HDR102")(apply)


huge_length = _declared("huge-header-length", "a shard's header length is 2^63 - 1", (1 << 63) - 1)
zero_length = _declared("zero-header-length", "a shard's header length is 0", 0)


@breaks_as("cut-in-header", "a shard ends inside its header", "HDR102")
def cut_in_header(plan: Plan) -> None:
    """A download that ended within the first kilobytes."""
    raw, _ = header_bytes(plan.middle)
    plan.middle.instead = len(raw).to_bytes(8, "little") + raw[: len(raw) // 2]


def _edit(name: str, title: str, rule: str, edit: Callable[[bytes], bytes]) -> Break:
    def apply(plan: Plan) -> None:
        plan.middle.edit = edit

    return breaks_as(name, title, rule)(apply)


header_cut = _edit(
    "header-breaks-off",
    "a header's JSON breaks off, its length agreeing",
    "HDR103",
    lambda raw: raw[: len(raw) // 2],
)
header_comma = _edit("header-extra-comma", "a header has a comma too many", "HDR103", lambda raw: raw[:-1] + b",}")
header_not_utf8 = _edit(
    "header-not-utf8",
    "a header holds a byte that is not UTF-8",
    "HDR103",
    lambda raw: raw.replace(b"model.", b"mod\xe9l.", 1),
)
header_array = _edit("header-not-an-object", "a header is an array", "HDR103", lambda raw: b"[" + raw + b"]")


def _repeat(raw: bytes) -> bytes:
    *_, (name, entry) = json.loads(raw).items()
    return raw[:-1] + b"," + _compact({name: entry})[1:]


header_duplicate = _edit("duplicate-header-key", "a header has a tensor twice", "HDR104", _repeat)


def _compact(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _entry(name: str, title: str, change: Callable[[dict[str, Any]], object]) -> Break:
    def edit(raw: bytes) -> bytes:
        document = json.loads(raw)
        change(document[list(document)[2]])
        return _compact(document)

    return _edit(name, title, "HDR105", edit)


unknown_dtype = _entry(
    "unknown-dtype", "a tensor's dtype is none of the format's", lambda entry: entry.update(dtype="FLOAT8_E4M3")
)
negative_dimension = _entry(
    "negative-dimension", "a tensor's shape has a negative dimension", lambda entry: entry["shape"].__setitem__(0, -1)
)
float_dimension = _entry(
    "fractional-dimension",
    "a tensor's shape has a float",
    lambda entry: entry["shape"].__setitem__(0, float(entry["shape"][0])),
)
unknown_key = _entry(
    "unknown-entry-key", "a tensor's entry has a key that the format does not know", lambda entry: entry.update(scale=1)
)
missing_offsets = _entry(
    "missing-data-offsets", "a tensor's entry has no data_offsets", lambda entry: entry.pop("data_offsets")
)
reversed_offsets = _entry(
    "reversed-data-offsets",
    "a tensor's data_offsets end before they begin",
    lambda entry: entry["data_offsets"].reverse(),
)
null_entry = _edit(
    "null-entry",
    "a tensor's entry is null",
    "HDR105",
    lambda raw: _compact({**(document := json.loads(raw)), list(document)[2]: None}),
)


packed_cut = _entry(
    "packed-elements-cut",
    "a tensor of 4-bit elements would end inside a byte",
    lambda entry: entry.update(dtype="F4", shape=[3]),
)
header_nested = _edit(
    "header-nested-deep",
    "a header is nested 3,000 deep",
    "HDR103",
    lambda raw: raw[:-1] + b',"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
)


@breaks_as("packed-dtype", "a router's weights are stored in 4 bits, as the format allows", "SHP102")
def packed_dtype(plan: Plan) -> None:
    """Sound by the format, so it is the config that they contradict."""
    name = plan.router
    plan.alter(lambda each: each == name, dtype="F4")


@breaks_as("wrong-data-span", "a tensor's data_offsets span 4 bytes more than it needs", "HDR105")
def wrong_span(plan: Plan) -> None:
    """The shard's last tensor, and the file is as long as the header says, so its size alone is wrong."""

    def edit(raw: bytes) -> bytes:
        document = json.loads(raw)
        document[list(document)[-1]]["data_offsets"][1] += 4
        return _compact(document)

    plan.middle.edit, plan.middle.excess = edit, 4


def _shorten(shard: Shard) -> None:
    shard.excess = -min(_SHORT, shard.payload // 3)


@breaks_as("truncated-shard", "a shard is short of its last bytes", "HDR106")
def truncated(plan: Plan) -> None:
    """Memory mapping reads zeros there, and the model talks gibberish."""
    _shorten(plan.middle)


@breaks_as("truncated-shards", "several shards are short of their last bytes", "HDR106")
def several_truncated(plan: Plan) -> None:
    """Every second shard, as an interrupted parallel download leaves them."""
    for shard in plan.shards[1::2][:8]:
        _shorten(shard)


@breaks_as("trailing-bytes", "bytes follow a shard's last tensor", "HDR107")
def trailing(plan: Plan) -> None:
    """What no tensor owns may be anything."""
    plan.middle.excess = 4096


@breaks_as("overlapping-tensors", "a tensor begins inside its predecessor", "HDR108")
def overlapping(plan: Plan) -> None:
    """By 16 bytes; the file is as long as the header says."""
    plan.middle.gaps[plan.middle.tensors[2].name] = -16


@breaks_as("uncovered-bytes", "bytes between two tensors belong to none", "HDR109")
def uncovered(plan: Plan) -> None:
    """A hole that a shard may not have: safetensors refuses it."""
    plan.middle.gaps[plan.middle.tensors[2].name] = 64


@breaks_as("missing-metadata", "no shard has __metadata__", "HDR110", severity=Severity.WARNING)
def missing_metadata(plan: Plan) -> None:
    """What an FP8 to BF16 cast leaves that does not pass metadata; transformers then refuses to load."""
    for shard in plan.shards:
        shard.metadata = None


@breaks_as("metadata-without-format", "a shard's __metadata__ has no format", "HDR110", severity=Severity.WARNING)
def metadata_without_format(plan: Plan) -> None:
    """Other keys are fine, format is the one that loaders read."""
    plan.middle.metadata = {"source": "converted"}


@breaks_as("null-metadata", "every shard's __metadata__ is null", "HDR110", severity=Severity.WARNING)
def null_metadata(plan: Plan) -> None:
    """What a writer makes of metadata that it was not given; safetensors reads it as none."""

    def edit(raw: bytes) -> bytes:
        return _compact({**json.loads(raw), "__metadata__": None})

    for shard in plan.shards:
        shard.edit = edit


@breaks_as("outside-symlink", "a shard is a symlink out of the checkpoint", "HDR112", severity=Severity.INFO)
def outside_symlink(plan: Plan) -> None:
    """Its target lies in a folder beside, named like the checkpoint with .outside behind."""
    file = plan.middle.file

    def link(directory: Path) -> None:
        path = directory.resolve() / file
        beside = path.parent.with_name(path.parent.name + ".outside")
        if beside.exists():
            raise UsageError(f"{beside}: is there already; the shard behind the symlink would go there")
        beside.mkdir()
        path.rename(beside / file)
        path.symlink_to(Path("..") / beside.name / file)

    plan.afterwards.append(link)


def _replace(name: str, title: str, make: Callable[[Path], None]) -> Break:
    def apply(plan: Plan) -> None:
        file = plan.middle.file

        def replace(directory: Path) -> None:
            (directory / file).unlink()
            make(directory / file)

        plan.afterwards.append(replace)

    return breaks_as(name, title, "HDR114")(apply)


fifo = _replace("fifo-shard", "a shard is a FIFO", lambda path: os.mkfifo(path))
folder = _replace("folder-shard", "a shard is a folder", lambda path: path.mkdir())
