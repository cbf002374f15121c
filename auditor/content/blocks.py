"""Collects what becomes of one weight's blocks in the round trip, strip after strip."""

import numpy as np
import numpy.typing as npt

from auditor.content import outcomes
from auditor.content.device import Bytes, Extremes, address
from auditor.content.fp8 import decode_table
from auditor.content.kernels.native import entry
from auditor.content.plan import Blocks, Part
from auditor.content.probes import BlockNote, BlockValues

_MAGNITUDES: npt.NDArray[np.float32] = decode_table()[:128].copy()


class Judge:
    """One FP8 weight (R × C) with its scales (r × c)."""

    def __init__(self, part: Part, scale_rc: npt.NDArray[np.float32], blocks: Blocks) -> None:
        self.columns, self.block = part.shape[1], blocks.shape
        self._part = part
        self._scale_rc = np.ascontiguousarray(scale_rc, np.float32)
        self._scales = address(self._scale_rc)
        self._blocks = blocks
        self._counts = np.zeros(10, np.int64)
        self._largest = np.zeros(128, np.int64)
        self._firsts = np.full((5, 3), -1, np.int64)
        self._measures = np.zeros((6, 2))
        self._present = np.zeros(128, np.uint8)
        self._judge = entry("judge_strip")
        self._memory = [
            address(each)
            for each in (_MAGNITUDES, self._counts, self._largest, self._firsts, self._measures, self._present)
        ]

    def add(self, strip: Bytes, first_block_row: int, extremes: Extremes) -> None:
        """Judge the blocks of a strip of whole rows, which begins at a row of blocks."""
        grid, scales = extremes.signed_rc.shape, self._scale_rc.shape
        if grid[1] != scales[1] or first_block_row + grid[0] > scales[0]:
            raise ValueError(f"{grid} blocks from row {first_block_row} on have no place among {scales} scales")
        self._judge(
            address(strip), strip.size, self._part.shape[1], *self._blocks.shape, *grid,
            address(extremes.signed_rc), address(extremes.unsigned_rc), self._scales, scales[0],
            self._blocks.powers_of_two, first_block_row, *self._memory,
        )  # fmt: skip

    def given(self, begin: int) -> list[int]:
        """What a kernel needs to judge blocks from byte `begin` of the file on, behind the strip's own."""
        first = (begin - self._part.begin) // (self.columns * self.block[0])
        return [self._scales, self._scale_rc.shape[0], self._blocks.powers_of_two, first, *self._memory]

    def result(self) -> BlockValues:
        """What has been seen."""
        counts = self._counts.tolist()
        return BlockValues(
            blocks=sum(counts[outcomes.EXACT : outcomes.UNDEFINED + 1]),
            zero=counts[outcomes.ZERO],
            largest={code: count for code, count in enumerate(self._largest.tolist()) if count},
            exact=counts[outcomes.EXACT],
            value_equal=counts[outcomes.VALUE_EQUAL],
            changed=counts[outcomes.CHANGED],
            undefined=counts[outcomes.UNDEFINED],
            overflowing=counts[outcomes.OVERFLOWING],
            drifted=counts[outcomes.DRIFTED],
            foreign=counts[outcomes.FOREIGN],
            unsaturated=counts[outcomes.UNSATURATED],
            narrow=counts[outcomes.NARROW],
            error=float(self._measures[5, 0]),
            first_nan=self._note(outcomes.FIRST_NAN),
            first_overflowing=self._note(outcomes.FIRST_OVERFLOWING),
            first_changed=self._note(outcomes.FIRST_CHANGED),
            first_foreign=self._note(outcomes.FIRST_FOREIGN),
            first_other=self._note(outcomes.FIRST_OTHER),
        )

    def _note(self, kind: int) -> BlockNote | None:
        row, column, largest = self._firsts[kind].tolist()
        if row < 0:
            return None
        scale, error = self._measures[kind].tolist()
        part, height = self._part, self._blocks.shape[0]
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
