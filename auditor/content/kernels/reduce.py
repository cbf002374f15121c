"""The kernels of the CPU, for numba to compile: one pass over bytes, without the interpreter's lock.

Shapes: R and C are a strip's rows and columns, r and c its blocks. Every float format is judged by its bits: of
sign-and-magnitude codes the order of |value| is that of the integer without its sign.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from auditor.content.kernels.compiled import compiled, kernel

_LANES = 4096  # elements folded together where a tensor has no blocks
_TILE = 8192
_ROWS, _WIDTH = 8, 64  # rows folded at once, and bytes of each
_MOST_ROWS = 248  # whose zeros a byte can count


@intrinsic
def _fold_rows(  # type: ignore[no-untyped-def]  # these are numba's and LLVM's objects
    context, codes, at, columns, signed_lanes, unsigned_lanes, zero_lanes, left
):
    """Fold `_ROWS` rows into the `_WIDTH` bytes of lanes from column `left` on; `at` is where the first row has them.

    In LLVM's vectors, because the order of reading decides the speed: lanes stay in registers, and each line's
    successor is on its way, `_ROWS` rows further. A prefetch behind the end of memory does nothing.
    """
    del context, at, columns, left  # always whole numbers
    index = types.intp
    signature = types.void(codes, index, index, signed_lanes, unsigned_lanes, zero_lanes, index)
    bits = codes.dtype.bitwidth
    element, word = ir.IntType(bits), ir.IntType(32)
    count = 8 * _WIDTH // bits
    vector, line = ir.VectorType(element, count), ir.IntType(8).as_pointer()

    def generated(target, builder, signature, given):  # type: ignore[no-untyped-def]  # as above
        def all_of(value: int) -> Any:
            return ir.Constant(vector, [value] * count)

        def pointer(array: int, position: Any) -> Any:
            data = target.make_array(signature.args[array])(target, builder, given[array]).data
            return builder.gep(data, [position])

        def as_vector(place: Any) -> Any:
            return builder.bitcast(place, vector.as_pointer())

        fetch = builder.module.declare_intrinsic(
            "llvm.prefetch", [line], ir.FunctionType(ir.VoidType(), [line, word, word, word])
        )
        position, stride, column = given[1], given[2], given[6]
        places = [as_vector(pointer(array, column)) for array in (3, 4, 5)]
        signed, unsigned, zeros = (builder.load(place, align=bits // 8) for place in places)
        ahead = builder.mul(stride, ir.Constant(stride.type, _ROWS))
        for _ in range(_ROWS):
            loaded = builder.load(as_vector(pointer(0, position)), align=bits // 8)
            next_line = builder.bitcast(pointer(0, builder.add(position, ahead)), line)
            builder.call(fetch, [next_line, word(0), word(3), word(1)])  # to read, into every cache, data
            unsigned = builder.select(builder.icmp_unsigned(">", loaded, unsigned), loaded, unsigned)
            signed = builder.select(builder.icmp_signed(">", loaded, signed), loaded, signed)
            size = builder.and_(loaded, all_of((1 << (bits - 1)) - 1))
            zeros = builder.sub(zeros, builder.sext(builder.icmp_unsigned("==", size, all_of(0)), vector))
            position = builder.add(position, stride)
        for place, value in zip(places, (signed, unsigned, zeros), strict=True):
            builder.store(value, place, align=bits // 8)
        return target.get_dummy_value()

    return signature, generated


@compiled
def fold(codes: Any, columns: int, signed_lanes: Any, unsigned_lanes: Any, zero_lanes: Any, magnitude: Any) -> None:
    """Fold rows of codes, column by column, into their largest as signed and unsigned integers, and count ±0.

    At most 255 rows, as counts may be bytes. `magnitude` masks the sign away. Lanes are C long and reset here.
    """
    rows = codes.size // columns
    as_signed, as_unsigned = signed_lanes.dtype.type, unsigned_lanes.dtype.type
    step = _WIDTH // codes.itemsize
    for k in range(columns):
        signed_lanes[k] = as_signed(codes[k])
        unsigned_lanes[k] = codes[k]
        zero_lanes[k] = as_unsigned(0)
    for left in range(0, columns, _TILE):  # as many columns as stay in a core's cache
        right = min(left + _TILE, columns)
        whole = right - (right - left) % step
        row = 0
        while row + _ROWS <= rows:
            for column in range(left, whole, step):
                _fold_rows(  # type: ignore[call-arg]  # the context is numba's to give
                    codes, row * columns + column, columns, signed_lanes, unsigned_lanes, zero_lanes, column
                )
            row += _ROWS
        for rest in range(rows):
            first = left if rest >= row else whole
            at = rest * columns
            for k in range(first, right):
                code = codes[at + k]
                unsigned_lanes[k] = max(unsigned_lanes[k], code)
                signed_lanes[k] = max(signed_lanes[k], as_signed(code))
                zero_lanes[k] = as_unsigned(zero_lanes[k] + as_unsigned((code & magnitude) == 0))


@compiled
def _largest(lanes: Any) -> Any:
    largest = lanes[0]
    for k in range(lanes.size):
        largest = max(largest, lanes[k])
    return largest


@compiled
def _total(lanes: Any) -> int:
    total = 0
    for k in range(lanes.size):
        total += lanes[k]
    return total


@kernel(
    (types.uint8[::1], types.int8[::1]), (types.uint16[::1], types.int16[::1]), (types.uint32[::1], types.int32[::1])
)
def sweep(codes: Any, as_signed: Any) -> Any:
    """The largest code as a signed and as an unsigned integer, and how many are ±0, of a run without blocks.

    `as_signed` are the same codes, of which there is at least one.
    """
    magnitude = codes.dtype.type((1 << (8 * codes.itemsize - 1)) - 1)
    signed_lanes, unsigned_lanes = np.empty(_LANES, as_signed.dtype), np.empty(_LANES, codes.dtype)
    zero_lanes = np.empty(_LANES, codes.dtype)
    signed, unsigned, zeros = as_signed[0], codes[0], 0
    position = 0
    while codes.size - position >= _LANES:
        stop = position + min(_MOST_ROWS, (codes.size - position) // _LANES) * _LANES
        fold(codes[position:stop], _LANES, signed_lanes, unsigned_lanes, zero_lanes, magnitude)
        signed = max(signed, _largest(signed_lanes))
        unsigned = max(unsigned, _largest(unsigned_lanes))
        zeros += _total(zero_lanes)
        position = stop
    for k in range(position, codes.size):
        signed = max(signed, as_signed[k])
        unsigned = max(unsigned, codes[k])
        zeros += (codes[k] & magnitude) == 0
    return np.int64(signed), np.int64(unsigned), zeros


@kernel(*((code[::1], types.int64, types.int64, types.int64) for code in (types.uint8, types.uint16, types.uint32)))
def explain(codes: Any, magnitude: int, largest_finite: int, infinity: int) -> Any:
    """What `sweep` cannot tell of a run with non-finite codes or of one sign: looks at every code.

    Returns the number of NaN and of infinities, the position of the first of either (or -1), the smallest and
    the largest finite value as signed magnitudes, and whether there is a finite one at all.
    """
    nan: Any = 0
    infinite: Any = 0
    first: Any = -1
    smallest: Any = 0
    largest: Any = 0
    found = False
    for k in range(codes.size):
        code = np.int64(codes[k])
        size = code & magnitude
        if size > largest_finite:
            if size == infinity:
                infinite += 1
            else:
                nan += 1
            if first < 0:
                first = k
            continue
        value = -size if code > magnitude else size
        if not found:
            smallest = largest = value
            found = True
        smallest = min(smallest, value)
        largest = max(largest, value)
    return nan, infinite, first, smallest, largest, found


@kernel(*((code[::1],) for code in (types.uint8, types.uint16, types.uint32, types.uint64)))
def alike(codes: Any) -> bool:
    """Whether all codes, of which there is at least one, are the first one; stops at the first that is not."""
    for k in range(codes.size):  # noqa: SIM110  # compiled: a generator is not
        if codes[k] != codes[0]:
            return False
    return True


@kernel(*((code[::1], types.int64) for code in (types.uint8, types.uint32)))
def count_masked(codes: Any, mask: int) -> int:
    """How many codes have a bit of the mask."""
    bits, count = codes.dtype.type(mask), 0
    for k in range(codes.size):
        count += (codes[k] & bits) != 0
    return count


@kernel((types.uint8[::1],))
def zeros_at_end(run: Any) -> int:
    """How many bytes at the end are zero."""
    size: int = run.size
    left, zero = size, True
    while left >= _LANES and zero:  # without a way out within these the compiler takes many bytes at a time
        some = np.uint8(0)
        for place in range(left - _LANES, left):
            some |= run[place]
        zero = some == 0
        left -= _LANES if zero else 0
    while left and run[left - 1] == 0:
        left -= 1
    return size - left
