"""The GPU's kernel: under Triton's interpreter here, compiled for real architectures, and on a GPU where there is one.

The reference is numpy on the same bytes, block by block.
"""

import json
import multiprocessing
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from auditor.content import gpu
from auditor.content.device import Bytes, Extremes
from auditor.content.kernels.strips import sum_strip
from auditor.content.values import ShardValues
from auditor.errors import UsageError
from auditor.forge import breaks, forge
from auditor.inventory.walk import walk
from auditor.sources import open_source
from auditor_schemas.policy import Limits
from tests.content.kernels.test_reduce import plain_texture

pytest.importorskip("triton", reason="triton is built for Linux on x86-64 alone")

Matrix = npt.NDArray[np.uint8]
Reduce = Callable[[list[Matrix], tuple[int, int]], list[Extremes]]

BLOCK = (128, 128)


def _through(device: object, matrices: list[Matrix], block: tuple[int, int]) -> list[Extremes]:
    """Matrices through a device, as many under way as it allows."""
    from auditor.content.cuda.device import CudaDevice

    assert isinstance(device, CudaDevice)
    found, under_way = [], []
    for code_RC in matrices:
        strip = device.buffer(code_RC.size)
        strip = strip[: code_RC.size]
        strip[:] = code_RC.ravel()
        under_way.append(device.extremes(strip, code_RC.shape[1], block))
        if len(under_way) > device.depth:
            found.append(under_way.pop(0).result())
    found += [pending.result() for pending in under_way]
    return found


def _interpreted(matrices: list[Matrix], block: tuple[int, int]) -> list[Extremes]:
    """In a process of its own, as triton decides when it is imported whether it interprets."""
    from auditor.content.cuda.device import CudaDevice
    from tests.content.interpreter import Host

    device = CudaDevice(place=Host(), slab_bytes=1 << 14)
    try:
        return _through(device, matrices, block)
    finally:
        device.close()


def _on_gpu(matrices: list[Matrix], block: tuple[int, int]) -> list[Extremes]:
    from auditor.content.cuda.device import CudaDevice

    device = CudaDevice(slab_bytes=1 << 14)
    try:
        return _through(device, matrices, block)
    finally:
        device.close()


@pytest.fixture(scope="module")
def interpreting() -> Iterator[ProcessPoolExecutor]:
    """A process in which triton interprets."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        pool.submit(os.getpid).result()  # the process is there, with its environment
    with pool:
        yield pool


@pytest.fixture(scope="module")
def interpreter(interpreting: ProcessPoolExecutor) -> Reduce:
    return lambda matrices, block: interpreting.submit(_interpreted, matrices, block).result()


@pytest.fixture(params=["interpreter", pytest.param("gpu", marks=pytest.mark.gpu)])
def reduce(request: pytest.FixtureRequest) -> Reduce:
    """The kernel, wherever it can run."""
    if request.param == "gpu":
        request.getfixturevalue("cuda")
        return _on_gpu
    reduce: Reduce = request.getfixturevalue("interpreter")
    return reduce


def expected(code_RC: Matrix, block: tuple[int, int]) -> Extremes:
    """What numpy says of each block."""
    rows, columns = code_RC.shape
    blocks = [
        [code_RC[top : top + block[0], left : left + block[1]] for left in range(0, columns, block[1])]
        for top in range(0, rows, block[0])
    ]
    return Extremes(
        np.array([[codes.view(np.int8).max() for codes in row] for row in blocks], np.int8),
        np.array([[codes.max() for codes in row] for row in blocks], np.uint8),
        int(np.isin(code_RC, [0x00, 0x80]).sum()),
        *plain_texture(code_RC, block, 0),
        sum_strip(code_RC.ravel(), columns, block[0]),
    )


def agree(seen: Extremes, wanted: Extremes) -> None:
    """Bit for bit, shape and dtype included."""
    assert seen.signed_rc.dtype == np.int8
    assert seen.unsigned_rc.dtype == np.uint8
    assert seen.signed_rc.tolist() == wanted.signed_rc.tolist()
    assert seen.unsigned_rc.tolist() == wanted.unsigned_rc.tolist()
    assert seen.zeros == wanted.zeros
    assert seen.alike_r.tolist() == wanted.alike_r.tolist()
    assert seen.small.tolist() == wanted.small.tolist()
    assert seen.sums_r.tolist() == wanted.sums_r.tolist()


def random(shape: tuple[int, int], seed: int, *, low: int = 0, high: int = 256) -> Matrix:
    """Codes of a range, at random."""
    return np.random.default_rng(seed).integers(low, high, shape, np.uint8)


def test_every_code_alone_in_a_block_is_its_extreme(reduce: Reduce) -> None:
    code_RC = np.arange(256, dtype=np.uint8)[None, :].repeat(2, axis=0).repeat(4, axis=1)
    found = reduce([code_RC], (2, 4))[0]
    assert found.signed_rc[0].tolist() == [*range(128), *range(-128, 0)]
    assert found.unsigned_rc[0].tolist() == list(range(256))
    assert found.zeros == 2 * 8


@pytest.mark.parametrize("place", [0, 1, 2, 3, 127, 128 * 127, 128 * 128 - 1])
def test_one_code_is_found_wherever_it_stands_in_a_block(reduce: Reduce, place: int) -> None:
    around = [(0x00, 0x01), (0x00, 0xFF), (0x80, 0x00), (0x81, 0x80), (0x7E, 0x7F), (0xFE, 0xFF), (0xFF, 0x80)]
    matrices = []
    for others, code in around:
        matrices.append(np.full(BLOCK, others, np.uint8))
        matrices[-1].flat[place] = code
    for seen, code_RC in zip(reduce(matrices, BLOCK), matrices, strict=True):
        agree(seen, expected(code_RC, BLOCK))


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 256), (0, 1), (0x80, 0x81), (0x80, 0x100), (0, 0x80), (0x7F, 0x80), (0xFF, 0x100)],
    ids=["any", "zeros", "negative zeros", "negative", "positive", "NaN", "negative NaN"],
)
def test_edge_blocks_and_partial_rows_agree_with_numpy(reduce: Reduce, low: int, high: int) -> None:
    # Whole blocks, rows short of a block, columns short of one, both, columns that no word divides, and one code.
    shapes = [(256, 256), (192, 256), (128, 320), (200, 192), (130, 321), (1, 64), (3, 7), (1, 1)]
    matrices = [random(shape, seed, low=low, high=high) for seed, shape in enumerate(shapes)]
    for seen, code_RC in zip(reduce(matrices, BLOCK), matrices, strict=True):
        agree(seen, expected(code_RC, BLOCK))


@pytest.mark.parametrize("block", [(1, 128), (128, 1), (3, 2), (48, 40), (64, 32), (256, 256), (255, 252)])
def test_other_block_sizes_agree_with_numpy(reduce: Reduce, block: tuple[int, int]) -> None:
    # The interpreter takes a program for each block, so there are few: three by three, the last of either cut short.
    rows, columns = (3 * side - side // 2 for side in block)
    matrices = [random((rows, columns), 1), random((rows, columns), 2, low=1, high=0x80)]
    for seen, code_RC in zip(reduce(matrices, block), matrices, strict=True):
        agree(seen, expected(code_RC, block))


def test_strips_without_codes_have_no_extremes(reduce: Reduce) -> None:
    found = reduce([np.zeros((0, 256), np.uint8)], BLOCK)[0]
    assert found.signed_rc.shape == found.unsigned_rc.shape == (0, 2)
    assert found.zeros == 0


def test_strips_under_way_together_do_not_disturb_each_other(reduce: Reduce) -> None:
    # Of growing and shrinking size, so that every buffer is grown and used again.
    sizes = [(128, 128), (256, 256), (12, 64), (640, 128), (128, 128), (384, 320), (5, 12)]
    matrices = [random(size, seed, low=seed, high=200 + seed) for seed, size in enumerate(sizes)]
    for seen, code_RC in zip(reduce(matrices, BLOCK), matrices, strict=True):
        agree(seen, expected(code_RC, BLOCK))


def _held_back() -> list[Extremes]:
    from auditor.content.cuda.device import CudaDevice
    from tests.content.interpreter import Host

    device = CudaDevice(place=Host(), slab_bytes=1 << 14)
    pending = [device.extremes(random((128, 128), seed).ravel(), 128, BLOCK) for seed in range(7)]
    return [each.result() for each in reversed(pending)]


def test_more_strips_than_buffers_from_memory_of_the_callers_agree_with_numpy(
    interpreting: ProcessPoolExecutor,
) -> None:
    found = interpreting.submit(_held_back).result()
    for seed, seen in zip(reversed(range(7)), found, strict=True):
        agree(seen, expected(random((128, 128), seed), BLOCK))


@pytest.mark.parametrize(
    ("size", "columns", "block", "message"),
    [
        (129, 128, BLOCK, "129 codes are no whole rows of 128 columns"),
        (1, 0, BLOCK, "1 codes are no whole rows of 0 columns"),
        (128, 128, (512, 128), "weight block 512 × 128: a side must be 1 to 256"),
        (128, 128, (128, 0), "weight block 128 × 0: a side must be 1 to 256"),
    ],
)
def test_strips_that_cannot_be_are_refused(size: int, columns: int, block: tuple[int, int], message: str) -> None:
    from auditor.content.cuda.device import CudaDevice
    from tests.content.interpreter import Host

    device = CudaDevice(place=Host(), slab_bytes=1 << 10)
    with pytest.raises(ValueError, match=re.escape(message)):
        device.extremes(np.zeros(size, np.uint8), columns, block)


@pytest.mark.parametrize("offset", [0, 1, 63, 64, 4095, 4096, 11_888_393])
def test_buffers_are_aligned_and_far_from_the_place_in_the_file_modulo_the_page(offset: int) -> None:
    from auditor.content.cuda.device import CudaDevice
    from tests.content.interpreter import Host

    device = CudaDevice(place=Host(), slab_bytes=1 << 12)
    for size in (100, 1 << 12, 1 << 13):
        strip: Bytes = device.buffer(size, offset)
        assert strip.size == size
        # The memory itself begins where torch lets it, on a line at least.
        begin = strip.ctypes.data
        assert begin % 64 == 0
    assert device.buffer(1, offset).ctypes.data != device.buffer(1, offset).ctypes.data


@pytest.mark.parametrize("capability", [80, 90, 100], ids=["Ampere", "Hopper", "Blackwell"])
def test_kernel_compiles_and_loads_sixteen_bytes_at_a_time(capability: int) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.compiler import compile as compiled

    from auditor.content.cuda.kernel import _extremes

    constants = {
        "block_rows": 128,
        "block_items": 32,
        "step": 16,
        "unroll": 8,
        "width": 32,
        "lanes": 4,
        "whole_rows": True,
        "whole_columns": True,
        "chunk": 16,
    }
    signature = {
        "codes": "*i32",
        "small_ptr": "*i32",
        "nonzero_ptr": "*i32",
        "alike_ptr": "*i32",
        "signed_ptr": "*i8",
        "unsigned_ptr": "*u8",
        "rows": "i32",
        "items": "i32",
        "phase": "i32",
        **dict.fromkeys(constants, "constexpr"),
    }
    by_sixteen = [["tt.divisibility", 16]]
    source = ASTSource(
        fn=_extremes, signature=signature, constexprs=constants, attrs={(0,): by_sixteen, (7,): by_sixteen}
    )
    kernel = compiled(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})
    assert len(kernel.asm["cubin"]) > 0
    # 128 rows of 128 bytes, by 128 threads: eight loads of sixteen bytes each, and no other.
    assert re.findall(r"ld\.global\S*", kernel.asm["ptx"]) == ["ld.global.v4.b32"] * 8


class TestChoice:
    """Which device is taken, and what is said where there is none."""

    def test_cpu_asks_for_no_gpu(self) -> None:
        assert gpu.chosen("cpu") is None

    def test_names_count_what_is_alike(self) -> None:
        assert gpu.Gpus(("A",)).name == "A"
        assert gpu.Gpus(("A", "B", "A")).name == "2 × A, B"

    def test_without_a_device_auto_takes_the_cpu_and_cuda_is_refused_in_one_line(self) -> None:
        found = gpu.available()
        if found.names:
            pytest.skip(f"there is a CUDA device: {found.name}")
        assert gpu.chosen("auto") is None
        with pytest.raises(UsageError, match=r"^--device cuda: ") as refused:
            gpu.chosen("cuda")
        assert "\n" not in str(refused.value)

    def test_without_a_driver_torch_is_not_even_imported(self) -> None:
        if gpu._driver() == "":
            pytest.skip("there is a CUDA device")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(_imported_by_the_choice).result() == set()

    @pytest.mark.gpu
    def test_the_gpu_is_chosen_where_there_is_one(self, cuda: str) -> None:
        for asked in ("auto", "cuda"):
            found = gpu.chosen(asked)
            assert found is not None
            assert cuda in found.names


def _imported_by_the_choice() -> set[str]:
    before = set(sys.modules)
    gpu.chosen("auto")
    return {"torch", "triton", "numpy"} & (set(sys.modules) - before)


def _shards(folder: str, device_name: str) -> tuple[ShardValues, ...]:
    """What the readers make of a checkpoint's weights with tiny blocks' worth of rows at once."""
    from auditor.content.cpu import CpuDevice
    from auditor.content.cuda.device import CudaDevice
    from auditor.content.formats import Blocks, Formats
    from auditor.content.plan import whole_shards
    from auditor.content.shard import ShardReader
    from tests.content.interpreter import Host

    # A slab of two rows of blocks or so: many strips of each weight are under way together.
    device = CpuDevice() if device_name == "cpu" else CudaDevice(place=Host(), slab_bytes=1 << 16)
    source = open_source(folder)
    blocks = Blocks((128, 128), False)
    plans = whole_shards(walk(source, Limits()), Formats(blocks))
    reader = ShardReader(source, device, digests=True, tick=lambda _: None)
    try:
        return tuple(reader.read(plan) for plan in plans[:1])
    finally:
        device.close()
        source.close()


def test_readers_find_the_same_values_with_either_device(interpreting: ProcessPoolExecutor, tmp_path: Path) -> None:
    forge(tmp_path / "tiny", like="tiny")
    kernel = interpreting.submit(_shards, str(tmp_path / "tiny"), "interpreter").result()
    ours = _shards(str(tmp_path / "tiny"), "cpu")
    assert sum(values.blocks.blocks for values in ours[0].tensors if values.blocks is not None) > 100
    assert kernel == ours


@pytest.mark.gpu
@pytest.mark.parametrize(
    "break_name", [None, *(name for name, broken in breaks().items() if (broken.rule or "").startswith("VAL"))]
)
def test_audit_on_the_gpu_reports_what_one_on_the_cpu_does(cuda: str, tmp_path: Path, break_name: str | None) -> None:
    forge(tmp_path / "tiny", like="tiny", break_name=break_name)
    reports = {}
    for device in ("cpu", "cuda"):
        words = [sys.executable, "-m", "auditor", "audit", str(tmp_path / "tiny"), "--depth", "full"]
        words += ["--seed", "1", "--device", device, "--json", str(tmp_path / f"{device}.json"), "--quiet"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=600)
        assert done.returncode in (0, 1), done.stderr
        reports[device] = json.loads((tmp_path / f"{device}.json").read_text())
        assert reports[device]["run"].pop("device") == ("cpu" if device == "cpu" else cuda)
        for moment in ("started_at", "duration_s"):
            del reports[device]["run"][moment]
    assert reports["cpu"] == reports["cuda"]
