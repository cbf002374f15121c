"""Weights read, reduced and judged in one compiled call, strip after strip, as long as nothing takes a second look.

So threads neither wait for the interpreter's lock nor give it up some thousand times a second. Shapes are those of
`kernels` and `roundtrip`.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from auditor.content.kernels.compiled import compiled
from auditor.content.kernels.reduce import reduce_strip
from auditor.content.kernels.roundtrip import judge_strip

_NAN = 0x7F


@intrinsic
def _call_preadv2(context, function, descriptor, vector, place, flags):  # type: ignore[no-untyped-def]  # numba's
    """preadv2(2) at the address `function`, with one vector."""
    del context, function, descriptor, vector, place, flags  # always whole numbers
    whole = types.int64

    def generated(target, builder, signature, given):  # type: ignore[no-untyped-def]  # LLVM's objects
        del target, signature
        word, long = ir.IntType(32), ir.IntType(64)
        kind = ir.FunctionType(long, [word, long, word, long, word])
        function, descriptor, vector, place, flags = given
        return builder.call(
            builder.inttoptr(function, kind.as_pointer()),
            [builder.trunc(descriptor, word), vector, word(1), place, builder.trunc(flags, word)],
        )

    return whole(whole, whole, whole, whole, whole), generated


@compiled
def _filled(function: int, descriptor: int, flags: int, vector: Any, strip: Any, place: int, size: int) -> int:
    """How many bytes of the file, from `place` on, are in the strip now: fewer than asked for where it fails."""
    done = 0
    while done < size:
        vector[0], vector[1] = strip.ctypes.data + done, size - done
        count: int = _call_preadv2(  # type: ignore[call-arg]  # the context is numba's to give
            function, descriptor, vector.ctypes.data, place + done, flags
        )
        if count <= 0:
            break
        done += count
    return done


@compiled
def weigh(
    function: int,
    descriptor: int,
    flags: int,
    vector: Any,
    strip: Any,
    place: int,
    size: int,
    columns: int,
    block_rows: int,
    block_columns: int,
    signed_rc: Any,
    unsigned_rc: Any,
    signed_lanes: Any,
    unsigned_lanes: Any,
    zero_lanes: Any,
    scale_rc: Any,
    powers_of_two: bool,
    first_row: int,
    magnitudes: Any,
    counts: Any,
    largest_codes: Any,
    firsts: Any,
    measures: Any,
    present: Any,
    out: Any,
) -> None:
    """Weigh `size` bytes of a file from `place` on, of a weight from its block row `first_row` on.

    Stops before a strip that cannot be read whole, or has NaN, codes of one sign alone, or a zero for its last byte.
    `out`: bytes weighed; of the strip behind them bytes that were read, and 1 where it was reduced; its ±0; and of what
    was weighed the largest magnitude of codes with a sign, the largest of those without, and ±0.
    """
    row_bytes = block_rows * columns
    done, read, reduced, zeros = 0, 0, 0, 0
    negative: Any = 0
    positive: Any = 0
    total = 0
    while done < size:
        wanted = min(strip.size, size - done)
        read = _filled(function, descriptor, flags, vector, strip, place + done, wanted)
        if read < wanted:
            break
        rows = (wanted + row_bytes - 1) // row_bytes
        signed, unsigned = signed_rc[:rows], unsigned_rc[:rows]
        run = strip[:wanted]
        zeros = reduce_strip(
            run, columns, block_rows, block_columns, signed, unsigned, signed_lanes, unsigned_lanes, zero_lanes
        )
        largest: Any = -128
        largest_unsigned: Any = 0
        for r in range(rows):
            for c in range(signed.shape[1]):
                largest = max(largest, signed[r, c])
                largest_unsigned = max(largest_unsigned, unsigned[r, c])
        size_unsigned = largest_unsigned & _NAN
        both_signs = largest >= 0 and largest_unsigned > _NAN
        if not both_signs or largest == _NAN or size_unsigned == _NAN or run[wanted - 1] == 0:
            reduced = 1
            break
        judge_strip(
            run, columns, block_rows, block_columns, signed, unsigned, scale_rc, powers_of_two,
            first_row + done // row_bytes, magnitudes, counts, largest_codes, firsts, measures, present,
        )  # fmt: skip
        positive, negative, total = max(positive, largest), max(negative, size_unsigned), total + zeros
        done += wanted
        read = 0
    out[0], out[1], out[2], out[3], out[4], out[5], out[6] = done, read, reduced, zeros, negative, positive, total
