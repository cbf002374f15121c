"""Collects what becomes of one weight's blocks in the round trip, strip after strip."""

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from auditor.content.device import Bytes, Device, Extremes, Reproduced
from auditor.content.formats import Blocks
from auditor.content.fp8 import decode_table
from auditor.content.kernels import roundtrip
from auditor.content.plan import Part
from auditor.content.values import BlockNote, BlockValues

Floats = npt.NDArray[np.float32]
_NOT_REPRODUCED = Reproduced(np.zeros((0, 0), np.int8), np.zeros((0, 0)), np.zeros((0, 0), np.bool_))
_MAGNITUDES: npt.NDArray[np.float32] = decode_table()[:128].copy()


class Judge:
    """One FP8 weight (R × C) with its scales (r × c); None where each strip comes with its own.

    What largest codes and scales do not decide is computed on `device`, where that does so, else here.
    """

    def __init__(self, part: Part, scale_rc: Floats | None, blocks: Blocks, device: Device | None = None) -> None:
        self._device = device
        self.block = blocks.shape
        self._part = part if part.blocks is not None else replace(part, blocks=blocks)
        self._scale_rc = None if scale_rc is None else _as_compiled(scale_rc)
        self._rounding = _rounding(blocks, part.scale.dtype if part.scale is not None else "F32")
        self._counts = np.zeros(10, np.int64)
        self._largest = np.zeros(128, np.int64)
        self._firsts = np.full((5, 3), -1, np.int64)
        self._measures = np.zeros((6, 2))

    def add(self, strip: Bytes, first_block_row: int, extremes: Extremes, scale_rc: Floats | None = None) -> None:
        """Judge the blocks of a strip of whole rows, which begins at a row of blocks; `scale_rc` are its own scales."""
        grid = extremes.signed_rc.shape
        if scale_rc is None:
            assert self._scale_rc is not None
            scale_rc = self._scale_rc[first_block_row : first_block_row + grid[0]]
        else:
            scale_rc = _as_compiled(scale_rc)
        if grid != scale_rc.shape:
            raise ValueError(f"{grid} blocks from row {first_block_row} on have {scale_rc.shape} scales")
        reproduced = self._reproduced(strip, extremes, scale_rc)
        roundtrip.judge_strip(
            strip, self._part.shape[1], *self.block, extremes.signed_rc, extremes.unsigned_rc, scale_rc, *reproduced,
            self._rounding, first_block_row, _MAGNITUDES,
            self._counts, self._largest, self._firsts, self._measures,
        )  # fmt: skip

    def _reproduced(self, strip: Bytes, extremes: Extremes, scale_rc: Floats) -> Reproduced:
        """What the device finds of the blocks that are not decided; nothing where it leaves them to the processor."""
        reproduce = None if self._device is None else self._device.reproduce
        if reproduce is None:
            return _NOT_REPRODUCED
        where_rc = np.zeros(scale_rc.shape, np.bool_)
        if not roundtrip.mark_undecided(
            extremes.signed_rc, extremes.unsigned_rc, scale_rc, self._rounding, _MAGNITUDES, where_rc
        ):
            return _NOT_REPRODUCED
        return reproduce(strip, self._part.shape[1], self.block, where_rc, scale_rc, self._rounding)

    def scales(self, first: int, last: int) -> Floats:
        """The scales of some rows of blocks, where all are known."""
        assert self._scale_rc is not None
        return self._scale_rc[first:last]

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
        part = self._part
        top, bottom = part.rows_of_block(row)
        return BlockNote(
            row=row,
            column=column,
            scale=scale if np.isfinite(scale) else None,
            largest=largest,
            error=error,
            begin=part.begin + top * part.row_bytes,
            end=part.begin + bottom * part.row_bytes,
        )


def _as_compiled(scale_rc: Floats) -> Floats:
    """Scales as the kernel is compiled for."""
    return np.require(scale_rc, np.float32, ["C", "W"])


def _rounding(blocks: Blocks, dtype: str) -> int:
    """How the formula's quotient becomes a scale that is stored as `dtype`."""
    if blocks.powers_of_two or dtype in ("F8_E8M0", "U8"):
        return roundtrip.POWER_OF_TWO
    return roundtrip.BF16 if dtype == "BF16" else roundtrip.FLOAT32
