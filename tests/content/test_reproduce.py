"""The round trip code by code, in torch: bit for bit what the processor's kernel computes, wherever torch runs."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.content.blocks import Judge
from auditor.content.cpu import CpuDevice
from auditor.content.cuda.reproduce import reproduce
from auditor.content.device import Bytes, Reproduced
from auditor.content.formats import Blocks
from auditor.content.fp8 import decode_table
from auditor.content.kernels import roundtrip
from auditor.content.plan import Part, ScaleAt
from auditor.content.values import BlockValues
from tests.content.kernels.test_roundtrip import ODD_SCALES

MAGNITUDES = decode_table()[:128].copy()
ROUNDINGS = {"float32": roundtrip.FLOAT32, "ue8m0": roundtrip.POWER_OF_TWO, "bf16": roundtrip.BF16}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda":
        request.getfixturevalue("cuda")
    return torch.device(request.param)


def by_processor(
    code_RC: Bytes, block: tuple[int, int], scale_rc: npt.NDArray[np.float32], rounding: int
) -> Reproduced:
    """Block by block with the kernel's own arithmetic."""
    found = Reproduced(np.full(scale_rc.shape, -1, np.int8), np.zeros(scale_rc.shape), np.zeros(scale_rc.shape, bool))
    for (r, c), scale in np.ndenumerate(scale_rc):
        codes = code_RC[r * block[0] : (r + 1) * block[0], c * block[1] : (c + 1) * block[1]]
        present = np.zeros(128, np.bool_)
        present[np.unique(codes & 127)] = True
        for kept, value in zip(found, roundtrip.reproduce(present, MAGNITUDES, scale, rounding), strict=True):
            kept[r, c] = value
    return found


def agree(seen: Reproduced, wanted: Reproduced) -> None:
    for mine, theirs in zip(seen, wanted, strict=True):
        assert mine.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("rounding", ROUNDINGS.values(), ids=ROUNDINGS)
def test_every_code_under_every_odd_scale(device: torch.device, rounding: int) -> None:
    code_RC = np.repeat(np.arange(256, dtype=np.uint8), len(ODD_SCALES)).reshape(256, -1)
    scale_rc = np.tile(ODD_SCALES, (256, 1))
    where_rc = np.ones(scale_rc.shape, np.bool_)
    seen = reproduce(code_RC.ravel(), code_RC.shape[1], (1, 1), where_rc, scale_rc, rounding, device=device)
    agree(seen, by_processor(code_RC, (1, 1), scale_rc, rounding))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    block=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    highest=st.integers(1, 128),
    rounding=st.sampled_from(list(ROUNDINGS.values())),
)
def test_blocks_of_any_shape_and_what_is_not_marked_is_left(
    seed: int, rows: int, columns: int, block: tuple[int, int], highest: int, rounding: int
) -> None:
    random = np.random.default_rng(seed)
    code_RC = random.integers(0, highest, (rows, columns), np.uint8) | (random.integers(0, 2, (rows, columns)) << 7)
    code_RC = code_RC.astype(np.uint8)
    grid = (-(-rows // block[0]), -(-columns // block[1]))
    bits = random.integers(0, 1 << 32, grid, np.uint32).view(np.float32)
    scale_rc = np.where(random.random(grid) < 0.5, np.exp(random.normal(-8, 4, grid)), bits).astype(np.float32)
    where_rc = random.random(grid) < 0.7
    seen = reproduce(code_RC.ravel(), columns, block, where_rc, scale_rc, rounding, device=torch.device("cpu"))
    wanted = by_processor(code_RC, block, scale_rc, rounding)
    assert (seen.outcome_rc[~where_rc] == -1).all()
    for mine, theirs in zip(seen, wanted, strict=True):
        assert mine[where_rc].tobytes() == theirs[where_rc].tobytes()


class _Elsewhere(CpuDevice):
    """The processor, but for the round trip of blocks that are not decided; counts them."""

    name = "elsewhere"
    blocks = 0

    def reproduce(self, strip, columns, block, where_rc, scale_rc, rounding):
        self.blocks += int(where_rc.sum())
        return reproduce(strip, columns, block, where_rc, scale_rc, rounding, device=torch.device("cpu"))


def judged(code_RC: Bytes, scale_rc: npt.NDArray[np.float32], device: CpuDevice, *, powers_of_two: bool) -> BlockValues:
    part = Part("w", "F8_E4M3", code_RC.shape, 0, code_RC.size, (), ScaleAt("s", 0, 4 * scale_rc.size, scale_rc.shape))
    judge = Judge(part, scale_rc, Blocks((128, 128), powers_of_two), device)
    columns = code_RC.shape[1]
    for first in range(scale_rc.shape[0]):
        strip = np.ascontiguousarray(code_RC[first * 128 : (first + 1) * 128]).reshape(-1)
        judge.add(strip, first, device.extremes(strip, columns, (128, 128)).result())
    return judge.result()


@pytest.mark.parametrize("powers_of_two", [False, True])
@pytest.mark.parametrize("through", ["as made", "reciprocal", "bf16", "doubled", "odd"])
def test_a_weight_is_judged_alike_wherever_its_blocks_are_reproduced(powers_of_two: bool, through: str) -> None:
    random = np.random.default_rng(1)
    code_RC = random.integers(0, 127, (5 * 128 - 3, 3 * 128 - 60)).astype(np.uint8)
    scale_rc = np.exp(random.normal(-9, 1, (5, 3))).astype(np.float32)
    if through == "reciprocal":
        scale_rc = 1 / (np.float32(448) / (scale_rc * np.float32(448)))
    elif through == "bf16":
        scale_rc = torch.from_numpy(scale_rc).bfloat16().float().numpy()
    elif through == "doubled":
        scale_rc *= 2
    elif through == "odd":
        scale_rc = ODD_SCALES[:15].reshape(5, 3)
    elsewhere = _Elsewhere()
    seen = judged(code_RC, scale_rc, elsewhere, powers_of_two=powers_of_two)
    assert seen == judged(code_RC, scale_rc, CpuDevice(), powers_of_two=powers_of_two)
    assert elsewhere.blocks > 0 or through == "bf16"  # which one float test decides
