"""The kernel of weight blocks on the CPU, for numba to compile: one pass over a strip of FP8 codes; and sums of rows.

Shapes: R and C are a strip's rows and columns, r and c its blocks. A chunk is 64 codes of a row, from a multiple of 64
columns on; a page is 4 KiB of the file, to which a chunk counts that begins in it.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from auditor.content.kernels.compiled import compiled, kernel

PAGE_BITS = 12
CHUNK = 64
SMALL = 0x20  # codes below stand for less than 0.125, of 448
_TILE = 8192
_ROWS = 8
_TURN = 5  # bits; after 64 turns a word is where it was
_MIX = 0x9E3779B97F4A7C15
_BYTES = ir.VectorType(ir.IntType(8), CHUNK)
_WORDS = ir.VectorType(ir.IntType(64), 8)


def _pointer(target: Any, builder: Any, kind: Any, array: Any, position: Any) -> Any:
    return builder.gep(target.make_array(kind)(target, builder, array).data, [position])


def _turned(builder: Any, state: Any, loaded: Any) -> Any:
    """A sum over 64-bit words that depends on their order."""
    turn = builder.module.declare_intrinsic("llvm.fshl.v8i64", (), ir.FunctionType(_WORDS, [_WORDS, _WORDS, _WORDS]))
    turned = builder.call(turn, [state, state, ir.Constant(_WORDS, [_TURN] * 8)])
    return builder.add(turned, builder.bitcast(loaded, _WORDS))


def _folding(rows: int) -> Any:
    """What folds `rows` rows of a chunk, from code `at` on, into its lanes from column `left` on.

    It returns how many codes are ±0, and of how many rows they are all of one sign. Codes that are small and not ±0 are
    added to those of their page, and all to the state of the sum. In LLVM's vectors, because the order of reading
    decides the speed: lanes stay in registers, and each line's successor is on its way, as many rows further. A
    prefetch behind the end of memory does nothing.
    """
    index = types.intp
    byte, half, word = ir.IntType(8), ir.IntType(32), ir.IntType(64)
    line = byte.as_pointer()

    def folded(  # type: ignore[no-untyped-def]  # these are numba's and LLVM's objects
        context, codes, at, columns, signed_lanes, unsigned_lanes, left, state, small, phase
    ):
        del context, at, columns, left, phase  # always whole numbers
        signature = types.UniTuple(types.int64, 2)(  # type: ignore[no-untyped-call]  # numba has no types
            codes, index, index, signed_lanes, unsigned_lanes, index, state, small, index
        )
        return signature, generated

    def generated(target, builder, signature, given):  # type: ignore[no-untyped-def]  # as above
        def pointer(array: int, position: Any) -> Any:
            return _pointer(target, builder, signature.args[array], given[array], position)

        def vector(array: int, position: Any, kind: Any) -> Any:
            return builder.bitcast(pointer(array, position), kind.as_pointer())

        def every(value: int) -> Any:
            return ir.Constant(_BYTES, [value] * CHUNK)

        def bits(comparison: Any) -> Any:
            return builder.bitcast(comparison, word)

        fetch = builder.module.declare_intrinsic(
            "llvm.prefetch", [line], ir.FunctionType(ir.VoidType(), [line, half, half, half])
        )
        position, stride, column, phase = given[1], given[2], given[5], given[8]
        zero = ir.Constant(word, 0)
        places = vector(3, column, _BYTES), vector(4, column, _BYTES), vector(6, zero, _WORDS)
        signed, unsigned, state = (builder.load(place, align=1) for place in places)
        ahead = builder.mul(stride, ir.Constant(stride.type, rows))
        zeros = alike = zero
        for _ in range(rows):
            loaded = builder.load(vector(0, position, _BYTES), align=1)
            next_line = builder.bitcast(pointer(0, builder.add(position, ahead)), line)
            builder.call(fetch, [next_line, half(0), half(3), half(1)])  # to read, into every cache, data
            unsigned = builder.select(builder.icmp_unsigned(">", loaded, unsigned), loaded, unsigned)
            signed = builder.select(builder.icmp_signed(">", loaded, signed), loaded, signed)
            size = builder.and_(loaded, every(0x7F))
            empty = bits(builder.icmp_unsigned("==", size, every(0)))
            negative = bits(builder.icmp_signed("<", loaded, every(0)))
            none = builder.ctpop(empty)
            few = builder.sub(builder.ctpop(bits(builder.icmp_unsigned("<", size, every(SMALL)))), none)
            zeros = builder.add(zeros, none)
            one_sign = builder.icmp_unsigned("<=", builder.add(negative, word(1)), word(1))
            alike = builder.add(alike, builder.zext(one_sign, word))
            state = _turned(builder, state, loaded)
            page = pointer(7, builder.lshr(builder.add(position, phase), word(PAGE_BITS)))
            builder.store(builder.add(builder.load(page), builder.trunc(few, half)), page)
            position = builder.add(position, stride)
        for place, value in zip(places, (signed, unsigned, state), strict=True):
            builder.store(value, place, align=1)
        return target.make_tuple(builder, signature.return_type, [zeros, alike])

    return intrinsic(folded)


_fold_rows, _fold_row = _folding(_ROWS), _folding(1)


@intrinsic
def _add_words(context, codes, at, state):  # type: ignore[no-untyped-def]  # as above
    """Add the 64 codes from `at` on to the state of the sum, as the folding of rows does."""
    del context, at

    def generated(target, builder, signature, given):  # type: ignore[no-untyped-def]  # as above
        places = [
            builder.bitcast(_pointer(target, builder, kind, array, position), vector.as_pointer())
            for kind, array, position, vector in (
                (signature.args[0], given[0], given[1], _BYTES),
                (signature.args[2], given[2], ir.Constant(ir.IntType(64), 0), _WORDS),
            )
        ]
        loaded, state = (builder.load(place, align=1) for place in places)
        builder.store(_turned(builder, state, loaded), places[1], align=1)
        return target.get_dummy_value()

    return types.void(codes, types.intp, state), generated


@compiled
def _largest(lanes: Any) -> Any:
    largest = lanes[0]
    for k in range(lanes.size):
        largest = max(largest, lanes[k])
    return largest


@compiled
def _add_code(state: Any, column: int, code: Any) -> None:
    """Add one code of those at the end of a row that are no whole chunk."""
    lane = column & 7
    turned = state[lane] << np.uint64(_TURN) | state[lane] >> np.uint64(64 - _TURN)
    state[lane] = turned + np.uint64(code)


@compiled
def _sum_of(state: Any) -> Any:
    """64 bits of a state."""
    mixed = np.uint64(0)
    for k in range(state.size):
        mixed = (mixed ^ state[k]) * np.uint64(_MIX)
        mixed ^= mixed >> np.uint64(32)
    return mixed


@kernel((types.uint8[::1], types.int64, types.int64, types.int64, types.int64))
def reduce_strip(strip: Any, columns: int, block_rows: int, block_columns: int, phase: int) -> Any:
    """Reduce a strip of FP8 codes, which begins `phase` bytes behind the start of a page.

    Returns each block's largest code as a signed byte and as an unsigned one (r × c), how many codes are ±0, how many
    chunks of each row of blocks are of one sign (r), how many codes of chunks are small and not ±0 in each page, and a
    sum over each row of blocks (r) that tells other codes.
    """
    rows = strip.size // columns
    grid = ((rows + block_rows - 1) // block_rows, (columns + block_columns - 1) // block_columns)
    signed_rc, unsigned_rc = np.empty(grid, np.int8), np.empty(grid, np.uint8)
    signed_lanes, unsigned_lanes = np.empty(columns, np.int8), np.empty(columns, np.uint8)
    alike_r, sums_r = np.zeros(grid[0], np.int64), np.zeros(grid[0], np.uint64)
    small = np.zeros((phase + strip.size + (1 << PAGE_BITS) - 1) >> PAGE_BITS, np.int32)
    state = np.empty(8, np.uint64)
    zeros = 0
    for block_row in range(grid[0]):
        first, last = block_row * block_rows, min((block_row + 1) * block_rows, rows)
        state[:] = np.uint64(0)
        for k in range(columns):
            signed_lanes[k] = np.int8(-128)
            unsigned_lanes[k] = np.uint8(0)
        for left in range(0, columns, _TILE):  # as many columns as stay in a core's cache
            right = min(left + _TILE, columns)
            whole = right - (right - left) % CHUNK
            row = first
            while row + _ROWS <= last:
                for column in range(left, whole, CHUNK):
                    found = _fold_rows(
                        strip, row * columns + column, columns, signed_lanes, unsigned_lanes, column,
                        state, small, phase,
                    )  # fmt: skip
                    zeros += found[0]
                    alike_r[block_row] += found[1]
                row += _ROWS
            for rest in range(row, last):
                for column in range(left, whole, CHUNK):
                    found = _fold_row(
                        strip, rest * columns + column, columns, signed_lanes, unsigned_lanes, column,
                        state, small, phase,
                    )  # fmt: skip
                    zeros += found[0]
                    alike_r[block_row] += found[1]
            for rest in range(first, last) if whole < right else range(0):
                for k in range(whole, right):
                    code = strip[rest * columns + k]
                    unsigned_lanes[k] = max(unsigned_lanes[k], code)
                    signed_lanes[k] = max(signed_lanes[k], np.int8(code))
                    zeros += (code & np.uint8(0x7F)) == 0
                    _add_code(state, k, code)
        for block in range(grid[1]):
            low, high = block * block_columns, min((block + 1) * block_columns, columns)
            signed_rc[block_row, block] = _largest(signed_lanes[low:high])
            unsigned_rc[block_row, block] = _largest(unsigned_lanes[low:high])
        sums_r[block_row] = _sum_of(state)
    return signed_rc, unsigned_rc, zeros, alike_r, small, sums_r


@kernel((types.uint8[::1], types.int64, types.int64))
def sum_strip(strip: Any, columns: int, block_rows: int) -> Any:
    """The sums of `reduce_strip` alone, where a GPU does the rest."""
    rows = strip.size // columns
    sums_r = np.zeros((rows + block_rows - 1) // block_rows, np.uint64)
    state = np.empty(8, np.uint64)
    for block_row in range(sums_r.size):
        first, last = block_row * block_rows, min((block_row + 1) * block_rows, rows)
        state[:] = np.uint64(0)
        for left in range(0, columns, _TILE):
            right = min(left + _TILE, columns)
            whole = right - (right - left) % CHUNK
            eights = first + (last - first) // _ROWS * _ROWS
            for top in range(first, eights, _ROWS):
                for column in range(left, whole, CHUNK):
                    for row in range(top, top + _ROWS):
                        _add_words(strip, row * columns + column, state)  # type: ignore[call-arg]  # as above
            for row in range(eights, last):
                for column in range(left, whole, CHUNK):
                    _add_words(strip, row * columns + column, state)  # type: ignore[call-arg]  # as above
            for row in range(first, last) if whole < right else range(0):
                for k in range(whole, right):
                    _add_code(state, k, strip[row * columns + k])
        sums_r[block_row] = _sum_of(state)
    return sums_r


@kernel((types.uint8[::1], types.int64))
def sum_rows(run: Any, row_bytes: int) -> Any:
    """A number for each row of a run, alike where rows are, 0 for a row of zeros."""
    sums = np.empty(run.size // row_bytes, np.uint64)
    state = np.empty(8, np.uint64)
    for row in range(sums.size):
        state[:] = np.uint64(0)
        begin, end = row * row_bytes, (row + 1) * row_bytes
        whole = end - row_bytes % CHUNK
        for at in range(begin, whole, CHUNK):
            _add_words(run, at, state)  # type: ignore[call-arg]  # as above
        for k in range(whole, end):
            _add_code(state, k - begin, run[k])
        sums[row] = _sum_of(state)
    return sums
