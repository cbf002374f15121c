"""Which codes stand beside which in the blocks of two FP8 weights, strip beside strip, for numba to compile.

Shapes: r and c are the blocks of a strip, from its first row of blocks on; each has room for 256 codes.
"""

from typing import Any

import numpy as np
from numba import types

from auditor.content.kernels.compiled import kernel


@kernel(
    (
        types.uint8[::1], types.uint8[::1], types.int64, types.int64[::1], types.int64,
        types.uint8[:, :, ::1], types.int32[:, :, ::1],
    )
)  # fmt: skip
def pair_codes(
    one: Any, other: Any, columns: int, grid_rows: Any, width: int, partner_rck: Any, count_rck: Any
) -> bool:
    """Whether in each block, `width` columns wide, a code stands beside the same code of the other side always.

    `grid_rows` has the row of blocks of each row of the strip. `partner_rck` gets the code that each stands beside,
    `count_rck`, zeros before, how often; where that is 0, the partner means nothing.
    """
    for row in range(grid_rows.size):
        r = grid_rows[row] - grid_rows[0]
        in_row, other_row = one[row * columns : (row + 1) * columns], other[row * columns : (row + 1) * columns]
        for c in range(partner_rck.shape[1]):
            left, right = c * width, min((c + 1) * width, columns)
            codes, others = in_row[left:right], other_row[left:right]
            partner, count, unlike = partner_rck[r, c], count_rck[r, c], np.uint8(0)
            for k in range(codes.size):
                code = codes[k]
                if count[code] == 0:
                    partner[code] = others[k]
                unlike |= partner[code] ^ others[k]
                count[code] += 1
            if unlike:
                return False
    return True


@kernel((types.uint8[::1], types.int64, types.int64[::1], types.int64, types.boolean[:, :, ::1]))
def find_code(codes: Any, columns: int, grid_rows: Any, width: int, wanted_rck: Any) -> int:
    """Where the first code is that is wanted in its block, or -1."""
    for row in range(grid_rows.size):
        r = grid_rows[row] - grid_rows[0]
        for column in range(columns):
            if wanted_rck[r, column // width, codes[row * columns + column]]:
                return row * columns + column
    return -1
