"""The forge writes what the releases are, what the config implies, and exactly what a break says."""

import bisect
import json
import os
import re
import struct
import sys
from fractions import Fraction
from itertools import pairwise, product
from math import ceil, inf, nan
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from auditor.content.fp8 import block_scales, decode_table, dequantise, encode_bf16, encode_e4m3, quantise
from auditor.errors import AuditorError, UsageError
from auditor.families.scaling import scale_name
from auditor.forge import LIKES, Break, breaks, forge, plan_of
from auditor.forge.content import Content
from auditor.forge.convert import bf16_conversion
from auditor.forge.plan import Plan
from auditor.forge.write import header_bytes
from auditor.format.entries import elements
from auditor.format.headers import _prove, parse_header
from auditor.rules import catalogue
from auditor_schemas.policy import Limits
from auditor_schemas.rule import Severity

DATA = Path(__file__).parents[1] / "data"
GIB = 1 << 30


def _expanded(pattern: str) -> list[str]:
    """Every name of a pattern with {a-b} ranges."""
    parts = re.split(r"\{(\d+)-(\d+)\}", pattern)
    ranges = [range(int(a), int(b) + 1) for a, b in zip(parts[1::3], parts[2::3], strict=True)]
    texts = parts[::3]
    return [
        "".join(f"{text}{number}" for text, number in zip(texts, (*run, ""), strict=True)) for run in product(*ranges)
    ]


def _inventory(model: str) -> dict[str, tuple[tuple[int, ...], str, str]]:
    rows = (DATA / f"inventory.{model}.tsv").read_text().splitlines()[1:]
    inventory = {}
    for name, shape, dtype, shard in (row.split("\t") for row in rows):
        sizes = tuple(map(int, shape.split("x")))
        inventory.update(dict.fromkeys(_expanded(name), (sizes, dtype, shard)))
    return inventory


def _shards_of(plan: Plan) -> dict[str, int]:
    return {tensor.name: number for number, shard in enumerate(plan.shards, 1) for tensor in shard.tensors}


class TestRelease:
    """The v3 and v3.2 plans are the releases'."""

    @pytest.mark.parametrize(("like", "model"), [("v3", "deepseek-v3"), ("v3.2", "deepseek-v3.2")])
    def test_every_tensor_has_the_release_s_shape_dtype_and_shard(self, like: str, model: str) -> None:
        plan = plan_of(like)
        inventory, shards = _inventory(model), _shards_of(plan)
        assert {t.name: (t.shape, t.dtype) for t in plan.tensors()} == {n: row[:2] for n, row in inventory.items()}
        numbered = {name: int(shard) for name, (_, _, shard) in inventory.items() if shard != "*"}
        assert {name: shards[name] for name in numbered} == numbered
        # '*' stands for many: no such kind of tensor lies in one shard alone.
        rows = [line.split("\t") for line in (DATA / f"inventory.{model}.tsv").read_text().splitlines()[1:]]
        for pattern, *_, shard in rows:
            if shard == "*":
                assert len({shards[name] for name in _expanded(pattern)}) > 1

    @pytest.mark.parametrize(("like", "model"), [("v3", "deepseek-v3"), ("v3.2", "deepseek-v3.2")])
    def test_the_config_is_the_released_one(self, like: str, model: str) -> None:
        released = json.loads((DATA / f"config.{model}.json").read_text())
        released.pop("auto_map", None)  # names code that is not forged
        assert plan_of(like).config == released

    def test_v3_has_the_release_s_totals(self) -> None:
        plan = plan_of("v3")
        assert len(plan.shards) == 163
        assert len(list(plan.tensors())) == len(plan.distinct()) == 91_991
        assert sum(shard.payload for shard in plan.shards) == 688_574_839_360
        assert sum(elements(tensor.shape) for tensor in plan.tensors()) == 684_531_386_000
        assert plan.counted_size() == 1_369_062_772_000

    def test_v3_2_has_the_release_s_number_of_tensors(self) -> None:
        plan = plan_of("v3.2")
        assert len(plan.distinct()) == 92_425
        assert len(plan.shards) == 163

    def test_v3_shards_have_about_the_release_s_sizes(self) -> None:
        sizes = {
            number: ceil((8 + len(header_bytes(shard)[0]) + shard.payload) / GIB * 10) / 10
            for number, shard in enumerate(plan_of("v3").shards, 1)
        }
        # The release's listing has 4.9 at 160 and 6.2 at 163, with the MTP extras in 163 as here.
        odd = {1: 4.9, 12: 1.3, 34: 1.7, 56: 1.7, 78: 1.7, 100: 1.7, 122: 1.7, 141: 3.0, 160: 4.7, 163: 6.4}
        assert sizes == {number: odd.get(number, 4.1) for number in range(1, 164)}

    def test_v3_shard_1_is_the_release_s_to_the_byte(self) -> None:
        first, second = plan_of("v3").shards[:2]
        assert first.payload == 5_234_105_216
        assert first.tensors[-1].name == "model.layers.3.mlp.experts.32.up_proj.weight"
        assert second.tensors[0].name == scale_name(first.tensors[-1].name)
        # The release's header of this shard has 34,119 bytes: compact and unpadded too, but for the order of keys.
        assert len(header_bytes(first)[0]) == pytest.approx(34_119, rel=0.01)

    def test_file_names_have_five_digits_and_then_six(self) -> None:
        names = [shard.file for shard in plan_of("v3").shards]
        assert names[0] == "model-00001-of-000163.safetensors"
        assert names[-1] == "model-00163-of-000163.safetensors"

    def test_sparse_v3_takes_little_disk(self, tmp_path: Path) -> None:
        forged = forge(tmp_path / "v3", like="v3", sparse=True)
        assert (forged.tensors, forged.shards) == (91_991, 163)
        assert 688_574_839_360 < forged.apparent_bytes < 688_620_000_000
        assert sum(path.stat().st_blocks * 512 for path in forged.files) < 100_000_000

    @pytest.mark.parametrize("like", LIKES)
    def test_headers_are_canonical(self, like: str) -> None:
        for shard in plan_of(like).shards:
            raw, payload = header_bytes(shard)
            assert _prove(raw, Limits()) is not None
            header = parse_header(raw, payload, Limits())
            assert not header.faults
            assert list(header.tensors) == [tensor.name for tensor in shard.tensors]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with real content."""
    return forge(tmp_path_factory.mktemp("forge") / "tiny").directory


def _payload(directory: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor's dtype, shape and bytes, read without the forge's or the auditor's help."""
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        for name, entry in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                body = data[8 + length + begin : 8 + length + end]
                tensors[name] = (entry["dtype"], tuple(entry["shape"]), body)
    return tensors


class TestTiny:
    """The tiny checkpoint is real, small, and awkward where tools err."""

    def test_safetensors_reads_what_was_planned(self, tiny: Path) -> None:
        plan = plan_of("tiny")
        seen = {}
        for shard in plan.shards:
            with safe_open(tiny / shard.file, framework="np") as file:
                assert file.metadata() == {"format": "pt"}
                for name in file.keys():  # noqa: SIM118  # not a mapping
                    view = file.get_slice(name)
                    seen[name] = (tuple(view.get_shape()), view.get_dtype())
        assert seen == {tensor.name: (tensor.shape, tensor.dtype) for tensor in plan.tensors()}

    def test_index_covers_every_tensor_and_counts_the_payload(self, tiny: Path) -> None:
        index = json.loads((tiny / "model.safetensors.index.json").read_text())
        plan = plan_of("tiny")
        assert index["weight_map"] == {t.name: shard.file for shard in plan.shards for t in shard.tensors}
        assert index["metadata"]["total_size"] == sum(len(body) for _, _, body in _payload(tiny).values())

    def test_it_is_small_and_has_several_shards(self, tiny: Path) -> None:
        assert len(list(tiny.glob("*.safetensors"))) >= 4
        assert 5_000_000 < sum(path.stat().st_size for path in tiny.iterdir()) < 20_000_000

    def test_some_weight_lies_in_another_shard_than_its_scale(self) -> None:
        shards = _shards_of(plan_of("tiny"))
        assert any(shards.get(scale_name(name), shard) != shard for name, shard in shards.items())

    def test_every_quantised_weight_has_a_partial_block(self) -> None:
        weights = [tensor for tensor in plan_of("tiny").tensors() if tensor.values == "codes"]
        assert weights
        assert all(any(dimension % 128 for dimension in tensor.shape) for tensor in weights)

    def test_weights_dequantise_to_their_source(self, tiny: Path) -> None:
        plan, stored = plan_of("tiny"), _payload(tiny)
        content = Content(plan, 0)
        for tensor in plan.tensors():
            if tensor.values != "codes":
                continue
            codes, scales = _codes(stored, tensor.name), _scales(stored, tensor.name)
            values = dequantise(codes, scales, plan.block)
            source = np.concatenate(list(content.source(tensor.stream, tensor.shape)))
            # Half a step of a 3-bit mantissa, or of the subnormal range at the block's scale.
            step = np.maximum(np.abs(source) * 2.0**-4, scales.max() * 2.0**-10) * 1.0001
            assert (np.abs(values - source) <= step).all(), tensor.name

    def test_requantising_reproduces_codes_and_scales_bit_for_bit(self, tiny: Path) -> None:
        plan, stored = plan_of("tiny"), _payload(tiny)
        for tensor in plan.tensors():
            if tensor.values == "codes":
                codes, scales = _codes(stored, tensor.name), _scales(stored, tensor.name)
                values = dequantise(codes, scales, plan.block)
                again = block_scales(values, plan.block)
                assert again.tobytes() == scales.tobytes()
                assert quantise(values, again, plan.block).tobytes() == codes.tobytes()

    def test_mtp_copies_are_byte_equal(self, tiny: Path) -> None:
        stored = _payload(tiny)
        assert stored["model.layers.4.embed_tokens.weight"] == stored["model.embed_tokens.weight"]
        assert stored["model.layers.4.shared_head.head.weight"] == stored["lm_head.weight"]
        assert stored["lm_head.weight"] != stored["model.embed_tokens.weight"]

    def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(self, tiny: Path, tmp_path: Path) -> None:
        same, other = forge(tmp_path / "same"), forge(tmp_path / "other", seed=1)
        for path in same.files:
            assert path.read_bytes() == (tiny / path.name).read_bytes()
        shard = next(path for path in other.files if path.suffix == ".safetensors")
        assert shard.read_bytes() != (tiny / shard.name).read_bytes()

    def test_sparse_has_the_same_files_sizes_and_headers(self, tiny: Path, tmp_path: Path) -> None:
        for path in forge(tmp_path / "sparse", sparse=True).files:
            real = tiny / path.name
            assert path.stat().st_size == real.stat().st_size
            begin = int.from_bytes(path.read_bytes()[:8], "little") + 8 if path.suffix == ".safetensors" else None
            assert path.read_bytes()[:begin] == real.read_bytes()[:begin]

    def test_sparse_needs_no_numpy(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        _hide_numpy(monkeypatch)
        assert forge(tmp_path / "sparse", sparse=True).shards == 5

    def test_bf16_conversion_holds_the_dequantised_values(self, tiny: Path, tmp_path: Path) -> None:
        plan, stored = plan_of("tiny"), _payload(tiny)
        converted = plan_of("tiny", _as_break(bf16_conversion))
        assert "quantization_config" not in converted.config
        kept = [tensor for tensor in plan.tensors() if tensor.values != "scales"]
        assert [tensor.name for tensor in converted.tensors()] == [tensor.name for tensor in kept]
        content = Content(converted, 0)
        tensor = next(tensor for tensor in converted.tensors() if tensor.values == "dequantised")
        values = dequantise(_codes(stored, tensor.name), _scales(stored, tensor.name), plan.block)
        assert b"".join(content.strips(tensor)) == encode_bf16(values).tobytes()


def _as_break(apply: object) -> Break:
    return Break(name="x", title="x", rule=None, severity=None, exit_code=0, apply=apply)  # type: ignore[arg-type]


def _codes(stored: dict[str, tuple[str, tuple[int, ...], bytes]], name: str) -> np.ndarray:
    dtype, shape, body = stored[name]
    assert dtype == "F8_E4M3"
    return np.frombuffer(body, np.uint8).reshape(shape)


def _scales(stored: dict[str, tuple[str, tuple[int, ...], bytes]], name: str) -> np.ndarray:
    dtype, shape, body = stored[scale_name(name)]
    assert dtype == "F32"
    return np.frombuffer(body, "<f4").reshape(shape)


# Every finite magnitude of E4M3FN by its code, in exact arithmetic: the reference for everything below.
MAGNITUDES = [
    Fraction(code & 7, 512) if code < 8 else Fraction(8 + (code & 7)) * Fraction(2) ** ((code >> 3) - 10)
    for code in range(0x7F)
]


def _reference(value: float) -> int:
    """The code of a finite value, by comparing exact distances."""
    sign = 0x80 if np.signbit(np.float32(value)) else 0
    exact = abs(Fraction(value))
    if exact >= MAGNITUDES[-1]:
        return sign | 0x7E
    above = bisect.bisect_left(MAGNITUDES, exact)
    if MAGNITUDES[above] == exact:
        return sign | above
    below = above - 1
    low, high = exact - MAGNITUDES[below], MAGNITUDES[above] - exact
    if low == high:
        return sign | (below if below % 2 == 0 else above)
    return sign | (below if low < high else above)


def _encoded(values: list[float]) -> list[int]:
    return encode_e4m3(np.array(values, np.float32)).tolist()


class TestE4M3:
    """The encoder is exact."""

    def test_every_code_decodes_to_its_value(self) -> None:
        table = decode_table()
        for code, magnitude in enumerate(MAGNITUDES):
            assert Fraction(float(table[code])) == magnitude
            assert Fraction(float(table[code | 0x80])) == -magnitude
        assert np.isnan(table[[0x7F, 0xFF]]).all()
        assert float(table[0x7E]) == 448

    def test_every_value_encodes_to_its_code(self) -> None:
        table = decode_table()
        finite = [code for code in range(256) if code & 0x7F != 0x7F]
        assert encode_e4m3(table[finite]).tolist() == finite

    def test_ties_go_to_the_even_code_and_their_neighbours_to_the_nearer(self) -> None:
        middles = [float((a + b) / 2) for a, b in pairwise(MAGNITUDES)]
        ties = np.array(middles, np.float32)
        assert ties.tolist() == middles
        for values in (ties, np.nextafter(ties, np.float32(0)), np.nextafter(ties, np.float32(inf))):
            for signed in (values, -values):
                assert encode_e4m3(signed).tolist() == [_reference(value) for value in signed.tolist()]

    def test_too_large_values_saturate(self) -> None:
        assert _encoded([448, 449, 463.9, 464, 480, 1e9, 3.4e38, inf]) == [0x7E] * 8
        assert _encoded([-464, -480, -inf]) == [0xFE] * 3

    def test_nan_stays_nan(self) -> None:
        assert _encoded([nan, -nan]) in ([0x7F, 0xFF], [0x7F, 0x7F])

    def test_zeros_and_tiny_values_keep_their_sign(self) -> None:
        assert _encoded([0.0, -0.0, 1e-45, -1e-45, 2.0**-10, -(2.0**-10)]) == [0, 0x80, 0, 0x80, 0, 0x80]

    def test_random_values_agree_with_exact_arithmetic(self) -> None:
        random = np.random.default_rng(5)
        exponents = random.uniform(-16, 10, 20_000)
        values = (random.choice([-1.0, 1.0], 20_000) * 2.0**exponents).astype(np.float32)
        assert encode_e4m3(values).tolist() == [_reference(value) for value in values.tolist()]

    def test_bf16_rounds_to_nearest_even(self) -> None:
        values = np.array([1.0, 1.00390625, 1.01171875, 1.00390636, -1.00390625], np.float32)
        assert encode_bf16(values).tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81, 0xBF80]


class TestBlocks:
    """Scales follow the published formulas."""

    def test_partial_edge_block_has_a_scale_of_its_own(self) -> None:
        weight = np.zeros((130, 257), np.float32)
        weight[129, 256] = -448.0
        scales = block_scales(weight, (128, 128))
        assert scales.shape == (2, 3)
        assert scales[1, 2] == 1
        assert (scales.ravel()[:-1] == np.float32(1e-4) / np.float32(448)).all()

    def test_power_of_two_scales_round_up_and_keep_exact_powers(self) -> None:
        weight = np.array([[448.0, 0], [0, 449.0]], np.float32)
        scales = block_scales(weight, (1, 1), powers_of_two=True)
        assert scales[0, 0] == 1
        assert scales[1, 1] == 2
        assert np.frexp(scales)[0].tolist() == [[0.5, 0.5], [0.5, 0.5]]


class TestRefusals:
    """What cannot be is refused in one line that says what to do."""

    def test_unknown_break_suggests_a_close_name(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"did you mean .*missing-router"):
            forge(tmp_path / "x", break_name="mising-routr")
        assert not (tmp_path / "x").exists()

    def test_break_unlike_any_is_told_where_the_names_are(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--list-breaks"):
            forge(tmp_path / "x", break_name="qqqqqqqq")

    def test_unknown_layout_names_the_known(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"choose v3, v3\.2, tiny"):
            forge(tmp_path / "x", like="v4")

    def test_folder_with_something_in_it_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("kept")
        with pytest.raises(UsageError, match="not empty"):
            forge(tmp_path, sparse=True)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("kept")
        with pytest.raises(UsageError, match="is a file"):
            forge(tmp_path / "mine", sparse=True)

    def test_real_content_without_numpy_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        _hide_numpy(monkeypatch)
        with pytest.raises(UsageError, match=r"pip install 'checkpoint-auditor\[forge\]'"):
            forge(tmp_path / "x")

    def test_interrupted_writing_leaves_nothing(self, tmp_path: Path) -> None:
        def interrupt(done: int, total: int) -> None:
            if done == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            forge(tmp_path / "x", sparse=True, progress=interrupt)
        assert not list((tmp_path / "x").iterdir())

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_folder_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir(mode=0o555)
        with pytest.raises(AuditorError, match="could not be written"):
            forge(tmp_path / "x", sparse=True)

    def test_shard_behind_an_outside_symlink_overwrites_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "x.outside").mkdir()
        with pytest.raises(UsageError, match="is there already"):
            forge(tmp_path / "x", sparse=True, break_name="outside-symlink")
        assert not list((tmp_path / "x").iterdir())


def _hide_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    for name in ("auditor.forge.content", "auditor.content.fp8"):
        monkeypatch.delitem(sys.modules, name, raising=False)


class TestBreaks:
    """Each break can be written, and declares what exists."""

    def test_names_are_kebab_case(self) -> None:
        assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in breaks())

    def test_rules_and_severities_are_the_catalogue_s(self) -> None:
        rules = {each.rule.id: each.rule for each in catalogue()}
        for broken in breaks().values():
            if broken.rule is not None:
                assert broken.severity == rules[broken.rule].severity, broken.name
            assert set(broken.also) <= rules.keys()

    def test_exit_code_follows_from_the_severity_unless_the_audit_is_incomplete(self) -> None:
        for broken in breaks().values():
            expected = 1 if broken.severity is Severity.ERROR else 0
            assert broken.exit_code in (expected, 3), broken.name

    # What breaks of values change is no header's matter: test_value_breaks.py compares their content.
    @pytest.mark.parametrize(
        "name", [name for name, each in breaks().items() if each.depth == "headers" and each.like == "tiny"]
    )
    @pytest.mark.parametrize(
        "sparse", [pytest.param(True, id="sparse"), pytest.param(False, id="real", marks=pytest.mark.slow)]
    )
    def test_each_break_changes_the_written_checkpoint(
        self, name: str, sparse: bool, tiny: Path, tmp_path: Path
    ) -> None:
        forged = forge(tmp_path / "x", sparse=sparse, break_name=name)
        assert forged.broken is breaks()[name]
        assert forged.broken.title in forged.summary()
        assert _described(tmp_path / "x") != _described(tiny)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", breaks())
    def test_each_break_can_be_planned_at_full_size(self, name: str) -> None:
        assert plan_of("v3", breaks()[name]) is not None


def _described(directory: Path) -> dict[str, object]:
    """What headers, index, config.json and file kinds show of a checkpoint."""
    seen: dict[str, object] = {}
    for path in directory.iterdir():
        if not path.is_file() or path.is_symlink():
            seen[path.name] = oct(path.lstat().st_mode)
        elif path.suffix == ".safetensors":
            data = path.read_bytes()
            seen[path.name] = (len(data), data[: 8 + min(int.from_bytes(data[:8], "little"), len(data))])
        else:
            seen[path.name] = path.read_bytes()
    return seen
