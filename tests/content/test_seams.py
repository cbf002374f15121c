"""A tensor that is read in pieces, wherever it is cut, says what one pass over it says."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from auditor.content.asked import answers
from auditor.content.cpu import CpuDevice
from auditor.content.formats import Beside, Blocks
from auditor.content.plan import Part, ScaleAt, ShardPlan
from auditor.content.shard import ShardReader
from auditor.content.units import merged, units_of
from auditor.content.values import ShardValues
from auditor.format.dtypes import packed_bytes
from auditor.format.entries import elements
from auditor.sources import open_source

PAGE = 4096
HEADER = b"{}"


class Shard:
    """A file of one tensor, its scales before it, and the plan to read it."""

    def __init__(self, folder: Path, part: Part, scales: bytes, codes: bytes, gap: int) -> None:
        begin = 8 + len(HEADER) + len(scales) + gap
        data = len(HEADER).to_bytes(8, "little") + HEADER + scales + bytes(gap) + codes
        (folder / "s.safetensors").write_bytes(data)
        scale = None if part.scale is None else replace(part.scale, begin=10, end=10 + len(scales))
        part = replace(part, begin=begin, end=begin + len(codes), scale=scale)
        digest = hashlib.sha256(HEADER).hexdigest()
        self.plan = ShardPlan("s.safetensors", len(data), len(HEADER), digest, (part,), whole=True)
        self._source = open_source(str(folder))

    def read(self, plan: ShardPlan, slab: int) -> ShardValues:
        return ShardReader(self._source, CpuDevice(slab * PAGE), digests=False, tick=lambda _: None).read(plan)


def weight(rows: int, columns: int, blocks: Blocks, *, at_once: bool = True) -> Part:
    grid = (-(-rows // blocks.shape[0]), -(-columns // blocks.shape[1]))
    # What is not read at once is more than any test has: the range is mended where the file is made.
    scale = ScaleAt("s.safetensors", 0, 4 * grid[0] * grid[1], grid)
    return Part("w", "F8_E4M3", (rows, columns), 0, 0, scale=scale, blocks=blocks)


def plain(dtype: str, rows: int, columns: int, **more: object) -> Part:
    return Part("w", dtype, (rows, columns), 0, 0, **more)  # type: ignore[arg-type]  # as the case has it


CODES = Beside("v", "group", False, 6.0)
PARTS: dict[str, Callable[[int], Part]] = {
    "blocks of 128 × 128": lambda rows: weight(rows, 256, Blocks((128, 128), False)),
    "columns left over": lambda rows: weight(rows, 200, Blocks((128, 128), False)),
    "few columns": lambda rows: weight(4 * rows, 64, Blocks((128, 64), True)),
    "no chunk wide": lambda rows: weight(4 * rows, 40, Blocks((128, 128), False)),
    "low blocks": lambda rows: weight(rows, 128, Blocks((48, 64), False)),
    "groups of a row": lambda rows: weight(rows, 256, Blocks((1, 32), True)),
    "high blocks": lambda rows: weight(rows, 192, Blocks((192, 64), False)),
    "BF16": lambda rows: plain("BF16", rows, 100),
    "F32": lambda rows: plain("F32", rows, 37),
    "F16": lambda rows: plain("F16", rows, 64),
    "F8 without scales": lambda rows: plain("F8_E4M3", rows, 100),
    "BF16, of a dimension more": lambda rows: Part("w", "BF16", (rows, 3, 33), 0, 0),
    "packed": lambda rows: plain("I32", rows, 32, packing=8),
    "packed in bytes": lambda rows: plain("U8", rows, 130, packing=2),
    "a table": lambda rows: plain("I32", rows, 24, below=1 << 30),
    "scales as codes": lambda rows: plain("F8_E8M0", 4 * rows, 30, beside=CODES),
    "scales as bytes": lambda rows: plain("U8", 4 * rows, 30, beside=CODES),
    "scales of E4M3": lambda rows: plain("F8_E4M3", 4 * rows, 30, beside=CODES),
    "E8M0": lambda rows: plain("F8_E8M0", rows, 120),
    "I64": lambda rows: plain("I64", rows, 20),
}


def change(codes: np.ndarray, kind: str, where: float, length: int) -> None:
    """Something to find, from somewhere on."""
    begin = int(where * codes.size)
    some = codes[begin : begin + length]
    if kind == "zeros":
        some[:] = 0
    elif kind == "positive":
        some &= 0x7F
    elif kind == "negative zeros":
        some[:] = 0x80
    elif kind == "small":
        some[:] = (some & 0x80) | (some & 0x1F)
    elif kind == "odd":
        some[:] = 0xFF
    elif kind == "doubled":
        page = begin // PAGE * PAGE
        for each in range(page, min(page + length, codes.size - PAGE), PAGE):
            codes[each + PAGE : each + 2 * PAGE] = codes[each : each + PAGE][
                : codes[each + PAGE : each + 2 * PAGE].size
            ]


kinds = st.sampled_from(["zeros", "positive", "negative zeros", "small", "odd", "doubled"])
changes = st.lists(st.tuples(kinds, st.floats(0, 1), st.integers(1, 40_000)), max_size=5)
bases = st.sampled_from(["random", "normal", "zeros", "one"])


def codes_of(size: int, base: str, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    if base == "random":
        return draw.integers(0, 256, size, np.uint8)
    if base == "normal":
        return ((draw.normal(96, 12, size).astype(int) & 0x7E) | (draw.integers(0, 2, size) << 7)).astype(np.uint8)
    return np.full(size, 0 if base == "zeros" else 0x35, np.uint8)


@pytest.mark.parametrize("name", PARTS)
@settings(max_examples=12, deadline=None)
@given(
    rows=st.integers(130, 1500), base=bases, seed=st.integers(0, 99), changed=changes, gap=st.integers(0, 5_000),
    most=st.integers(1, 150_000), slabs=st.tuples(st.integers(1, 128), st.integers(1, 128)),
)  # fmt: skip
def test_pieces_say_together_what_one_pass_says(
    name: str, rows: int, base: str, seed: int, changed: list, gap: int, most: int, slabs: tuple[int, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    part = PARTS[name](rows)
    codes = codes_of(packed_bytes(part.dtype, elements(part.shape)), base, seed)
    for each in changed:
        change(codes, *each)
    scales = b"" if part.scale is None else np.random.default_rng(seed).random(part.scale.bytes // 4, np.float32)
    shard = Shard(tmp_path_factory.mktemp("seams"), part, bytes(scales), codes.tobytes(), 8 * (gap // 8) + 6)
    units = units_of(shard.plan, digests=False, most=most)
    # As nodes send them and places keep them.
    sent = [msgspec.msgpack.encode(shard.read(unit, slabs[0])) for unit in units]
    found = [msgspec.msgpack.decode(each, type=ShardValues) for each in sent]
    assert [msgspec.json.decode(msgspec.json.encode(each), type=ShardValues) for each in found] == found
    assert all(len(each) < 100_000 for each in sent)
    assert all(answers(unit, values) for unit, values in zip(units, found, strict=True))
    assert sum(unit.bytes for unit in units) == shard.plan.bytes
    whole, together = shard.read(shard.plan, slabs[1]), merged(units, found)
    differing = {
        field: (getattr(ours, field), getattr(theirs, field))
        for ours, theirs in ((together, whole), (together.tensors[0], whole.tensors[0]))
        for field in ours.__struct_fields__
        if field != "tensors" and getattr(ours, field) != getattr(theirs, field)
    }
    assert differing == {}


@pytest.mark.parametrize(
    ("part", "rows"),
    [
        (plain("BF16", 1000, 128), [256, 256, 256, 232]),
        (weight(1000, 256, Blocks((128, 128), False)), [256, 256, 256, 232]),
        (weight(1000, 256, Blocks((96, 64), False)), [384, 384, 232]),
        (weight(1000, 256, Blocks((1, 32), True)), [256, 256, 256, 232]),
        (plain("U8", 1000, 256, beside=CODES), [256, 256, 256, 232]),
        (plain("BF16", 256 * 3 + 1, 128), [256, 256, 257]),  # no piece is less than some pages
        (plain("BF16", 1000, 128, digested=True), []),
        (plain("BF16", 1000, 128, beside=CODES), []),
        (plain("F64", 1000, 32), []),
        (Part("w", "BF16", (128_000,), 0, 0), []),
        (weight(1000, 256, Blocks((128, 128), False, 2)), []),
    ],
)
def test_tensors_are_cut_where_strips_and_blocks_begin(part: Part, rows: list[int]) -> None:
    part = replace(part, end=packed_bytes(part.dtype, elements(part.shape)))
    plan = ShardPlan("s", part.end, 0, "", (part,), whole=True)
    units = units_of(plan, digests=False, most=65_536)
    assert [last - first for unit in units for first, last in unit.parts[0].rows] == rows
    assert all(unit.parts[0].piece == bool(rows) for unit in units)
    assert units_of(plan, digests=True, most=65_536) == [plan]


def test_a_tensor_that_shares_its_bytes_is_not_cut() -> None:
    one, other = (replace(plain("BF16", 1000, 128), name=name, end=256_000) for name in ("a", "b"))
    plan = ShardPlan("s", 256_000, 0, "", (one, other), whole=True)
    assert units_of(plan, digests=False, most=65_536) == [plan]
