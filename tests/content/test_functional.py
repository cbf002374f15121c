"""The functional spot check, held against torch: its float8 casts, and products in float64."""

from contextlib import closing
from math import isnan
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from safetensors import safe_open

from auditor.content.formats import Blocks, Formats
from auditor.content.fp8 import block_scales, quantise
from auditor.content.functional import (
    TOLERANCE,
    Floats,
    _on_cpu,
    _on_torch,
    activations,
    check,
    products,
)
from auditor.content.plan import whole_shards
from auditor.content.probes import Functional
from auditor.content.spot import spot_checks
from auditor.families.naming import Naming
from auditor.families.scaling import scale_name
from auditor.forge import forge
from auditor.inventory.walk import walk
from auditor.patterns import kind_of
from auditor.sources import open_source
from auditor_schemas.policy import Limits

BLOCK = (128, 128)
# Whole blocks, and edge blocks: rows short, columns short, both, and a weight smaller than a block.
SHAPES = [(128, 512), (200, 256), (128, 320), (130, 321), (7, 65)]


def weight(shape: tuple[int, int], seed: int = 0, *, ue8m0: bool = False) -> tuple[np.ndarray, Floats]:
    """Codes and scales of a normal weight."""
    values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * np.float32(0.02)
    scale_rc = block_scales(values, BLOCK, powers_of_two=ue8m0)
    return quantise(values, scale_rc, BLOCK), scale_rc


def reference(activation: torch.Tensor, codes: np.ndarray, scale_rc: Floats) -> tuple[torch.Tensor, torch.Tensor]:
    """The quantised and the exact product, in float64 and by another way: everything dequantised first."""
    rows, columns = codes.shape
    spread = torch.from_numpy(scale_rc).repeat_interleave(128, 0).repeat_interleave(128, 1)[:rows, :columns].double()
    dequantised = torch.from_numpy(codes).view(torch.float8_e4m3fn).double() * spread
    padded = torch.nn.functional.pad(activation, (0, -columns % 128)).reshape(len(activation), -1, 128)
    scale = padded.abs().amax(-1, keepdim=True).clamp(min=1e-4) / 448
    seen = ((padded / scale).to(torch.float8_e4m3fn).double() * scale.double()).reshape(len(activation), -1)
    return seen[:, :columns] @ dequantised.T, activation.double() @ dequantised.T


def relative(seen: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((seen - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("ue8m0", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_sound_weight_is_within_the_tolerance_and_agrees_with_torch(shape: tuple[int, int], ue8m0: bool) -> None:
    codes, scale_rc = weight(shape, ue8m0=ue8m0)
    found = check("a.weight", codes, scale_rc, BLOCK, seed=5)
    quantised, exact = reference(torch.from_numpy(activations("a.weight", 16, shape[1], 5)), codes, scale_rc)
    assert found.relative_error == pytest.approx(relative(quantised, exact), rel=1e-4)
    assert 0.005 < found.relative_error < found.tolerance == TOLERANCE
    assert (found.tensor, found.tokens, found.rows, found.device) == ("a.weight", 16, shape[0], "cpu")


def test_error_of_normal_activations_is_what_the_format_gives() -> None:
    # Sampled often enough, it is the root mean square of E4M3's rounding on normal values.
    codes, scale_rc = weight((256, 1024))
    values = torch.randn(1 << 20, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    rounded = (values * (448 / values.reshape(-1, 128).abs().amax(-1).repeat_interleave(128))).to(torch.float8_e4m3fn)
    scaled = rounded.float() / (448 / values.reshape(-1, 128).abs().amax(-1).repeat_interleave(128))
    format_error = relative(scaled.double(), values.double())
    found = check("a", codes, scale_rc, BLOCK, seed=1, tokens=64)
    assert found.relative_error == pytest.approx(format_error, rel=0.03)
    assert format_error < TOLERANCE


def test_wrong_scale_in_the_product_is_outside_the_tolerance() -> None:
    codes, scale_rc = weight((256, 512))
    activation = activations("a", 16, 512, 3)
    _, exact = reference(torch.from_numpy(activation), codes, scale_rc)

    def error(scales: Floats) -> float:
        return relative(torch.from_numpy(products(activation, codes, scales, BLOCK)[0]).double(), exact)

    assert error(scale_rc) < TOLERANCE
    wrong_rc = scale_rc.copy()
    wrong_rc[1, 2] *= np.float32(1.5)
    assert error(wrong_rc) > 2 * TOLERANCE
    assert error(np.float32(1) / scale_rc) > 1
    assert error(np.ascontiguousarray(scale_rc[::-1])) > TOLERANCE


def test_scale_that_is_wrong_in_the_checkpoint_is_wrong_in_both_products_and_not_seen() -> None:
    codes, scale_rc = weight((128, 512))
    scale_rc[0, 1] *= np.float32(3)
    assert check("a", codes, scale_rc, BLOCK, seed=1).relative_error < TOLERANCE


@pytest.mark.parametrize("shape", SHAPES)
def test_torch_and_numpy_compute_the_same(shape: tuple[int, int]) -> None:
    codes, scale_rc = weight(shape, 2)
    activation = activations("a", 4, shape[1], 9)
    ours = next(_on_cpu(activation, codes, scale_rc, BLOCK, "cpu"))
    theirs = next(_on_torch(activation, codes, scale_rc, BLOCK, "cpu"))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_strips_together_are_the_whole_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, scale_rc = weight((1000, 256))
    whole = check("a", codes, scale_rc, BLOCK, seed=1)
    monkeypatch.setattr("auditor.content.functional._ELEMENTS", 1)
    assert check("a", codes, scale_rc, BLOCK, seed=1).relative_error == pytest.approx(whole.relative_error, rel=1e-5)


def test_seed_and_name_decide_the_activations() -> None:
    one = activations("a", 2, 300, 1)
    assert np.array_equal(one, activations("a", 2, 300, 1))
    assert not np.array_equal(one, activations("b", 2, 300, 1))
    assert not np.array_equal(one, activations("a", 2, 300, 2))
    assert activations("\ud800", 1, 1, 0).shape == (1, 1)


@pytest.mark.parametrize("damage", ["NaN code", "NaN scale", "infinite scale", "overflow"])
@pytest.mark.filterwarnings("error")
def test_what_cannot_be_computed_is_nan_and_no_warning(damage: str) -> None:
    codes, scale_rc = weight((128, 256))
    if damage == "NaN code":
        codes[5, 5] = 0x7F
    else:
        scale_rc[0, 1] = {"NaN scale": np.nan, "infinite scale": np.inf, "overflow": 3e38}[damage]
    assert isnan(check("a", codes, scale_rc, BLOCK, seed=1).relative_error)


def test_weight_of_zeros_has_no_error() -> None:
    codes = np.zeros((128, 128), np.uint8)
    assert check("a", codes, np.full((1, 1), 1e-4 / 448, np.float32), BLOCK, seed=1).relative_error == 0


@pytest.mark.gpu
@pytest.mark.parametrize("shape", SHAPES)
def test_gpu_finds_what_the_cpu_finds(cuda: str, shape: tuple[int, int]) -> None:
    codes, scale_rc = weight(shape, 4)
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        found = check("a", codes, scale_rc, BLOCK, seed=1, device="cuda")
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
    assert found.device == cuda
    assert found.relative_error == pytest.approx(check("a", codes, scale_rc, BLOCK, seed=1).relative_error, rel=1e-4)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("spot") / "tiny"
    forge(folder, like="tiny")
    return folder


class TestSpotChecks:
    """The weights that are chosen for it, from a checkpoint on disk."""

    BLOCKS = Blocks(BLOCK, False)

    def found(self, folder: Path, seed: int) -> tuple[Functional, ...]:
        with closing(open_source(str(folder))) as source:
            plans = whole_shards(walk(source, Limits()), Formats(self.BLOCKS))
            return spot_checks(source, plans, Naming(), seed=seed)

    def test_every_kind_of_quantised_weight_is_seen_once_and_within_the_tolerance(self, tiny: Path) -> None:
        found = self.found(tiny, 1)
        kinds = [kind_of(each.tensor) for each in found]
        assert len(kinds) == len(set(kinds)) >= 9
        assert all(0.01 < each.relative_error < each.tolerance for each in found)
        assert all(0 < each.rows <= 128 for each in found)

    def test_seed_decides_which_and_how(self, tiny: Path) -> None:
        assert self.found(tiny, 1) == self.found(tiny, 1)
        assert {each.tensor for each in self.found(tiny, 1)} != {each.tensor for each in self.found(tiny, 2)}

    def test_strip_is_dequantised_with_its_own_row_of_scales(self, tiny: Path) -> None:
        wanted = self.found(tiny, 1)
        with closing(open_source(str(tiny))) as source:
            inventory = walk(source, Limits())
        weights = {}
        for shard in inventory.parts:
            with safe_open(tiny / shard.path, framework="pt") as file:
                weights |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        for each in wanted:
            weight, scales = weights[each.tensor], weights[scale_name(each.tensor)]
            activation = torch.from_numpy(activations(each.tensor, 16, weight.shape[1], 1))
            strips = zip(weight.view(torch.uint8).split(128), scales.split(1), strict=True)
            errors = [relative(*reference(activation, codes.numpy(), scale.numpy())) for codes, scale in strips]
            assert any(each.relative_error == pytest.approx(error, rel=1e-3) for error in errors)

    def test_weight_whose_product_cannot_be_computed_is_left_out(self, tiny: Path, tmp_path: Path) -> None:
        name = self.found(tiny, 1)[0].tensor
        copytree(tiny, tmp_path / "broken")
        with closing(open_source(str(tiny))) as source:
            inventory = walk(source, Limits())
        shard = next(shard for shard in inventory.parts if name in shard.tensors)
        begin, end = shard.span(name)
        with (tmp_path / "broken" / shard.path).open("r+b") as file:
            file.seek(begin)
            file.write(b"\x7f" * (end - begin))
        assert [each.tensor for each in self.found(tmp_path / "broken", 1)] == [
            each.tensor for each in self.found(tiny, 1) if each.tensor != name
        ]
