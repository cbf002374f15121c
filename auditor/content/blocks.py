"""Collects what becomes of one weight's blocks in the round trip, strip after strip."""

import numpy as np
import numpy.typing as npt

from auditor.content.device import Bytes, Extremes
from auditor.content.fp8 import decode_table
from auditor.content.kernels import roundtrip
from auditor.content.plan import Blocks, Part
from auditor.content.probes import BlockNote, BlockValues

_MAGNITUDES: npt.NDArray[np.float32] = decode_table()[:128].copy()


class Judge:
    """One FP8 weight (R × C) with its scales (r × c)."""

    def __init__(self, part: Part, scale_rc: npt.NDArray[np.float32], blocks: Blocks) -> None:
        self.block = blocks.shape
        self._part = part
        self._scale_rc = np.require(scale_rc, np.float32, ["C", "W"])  # as the kernel is compiled for
        self._powers_of_two = blocks.powers_of_two
        self._counts = np.zeros(10, np.int64)
        self._largest = np.zeros(128, np.int64)
        self._firsts = np.full((5, 3), -1, np.int64)
        self._measures = np.zeros((6, 2))

    def add(self, strip: Bytes, first_block_row: int, extremes: Extremes) -> None:
        """Judge the blocks of a strip of whole rows, which begins at a row of blocks."""
        grid, scales = extremes.signed_rc.shape, self._scale_rc.shape
        if grid[1] != scales[1] or first_block_row + grid[0] > scales[0]:
            raise ValueError(f"{grid} blocks from row {first_block_row} on have no place among {scales} scales")
        roundtrip.judge_strip(
            strip, self._part.shape[1], *self.block, extremes.signed_rc, extremes.unsigned_rc, self._scale_rc,
            self._powers_of_two, first_block_row, _MAGNITUDES,
            self._counts, self._largest, self._firsts, self._measures,
        )  # fmt: skip

    def result(self) -> BlockValues:
        """What has been seen."""
        counts = self._counts.tolist()
        return BlockValues(
            blocks=sum(counts[roundtrip.EXACT : roundtrip.UNDEFINED + 1]),
            zero=counts[roundtrip.ZERO],
            largest={code: count for code, count in enumerate(self._largest.tolist()) if count},
            exact=counts[roundtrip.EXACT],
            value_equal=counts[roundtrip.VALUE_EQUAL],
            changed=counts[roundtrip.CHANGED],
            undefined=counts[roundtrip.UNDEFINED],
            overflowing=counts[roundtrip.OVERFLOWING],
            drifted=counts[roundtrip.DRIFTED],
            foreign=counts[roundtrip.FOREIGN],
            unsaturated=counts[roundtrip.UNSATURATED],
            narrow=counts[roundtrip.NARROW],
            error=float(self._measures[roundtrip.LARGEST_ERROR, 0]),
            first_nan=self._note(roundtrip.FIRST_NAN),
            first_overflowing=self._note(roundtrip.FIRST_OVERFLOWING),
            first_changed=self._note(roundtrip.FIRST_CHANGED),
            first_foreign=self._note(roundtrip.FIRST_FOREIGN),
            first_other=self._note(roundtrip.FIRST_OTHER),
        )

    def _note(self, kind: int) -> BlockNote | None:
        row, column, largest = self._firsts[kind].tolist()
        if row < 0:
            return None
        scale, error = self._measures[kind].tolist()
        part, height = self._part, self.block[0]
        begin = part.begin + row * height * part.row_bytes
        return BlockNote(
            row=row,
            column=column,
            scale=scale if np.isfinite(scale) else None,
            largest=largest,
            error=error,
            begin=begin,
            end=min(part.end, begin + height * part.row_bytes),
        )
